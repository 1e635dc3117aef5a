"""For every field of a manifest: how it is shown, what of it QEMU says, and how a change of it reaches a running VM.

The one table from which the plan, pending changes, `requiresRestart`, `explain`, `diff` and docs/fields.md are made.
A test holds it against VMSpec, so that no field can be forgotten. A field is one entry here, one property of the JSON
Schema, one line in `reconciler.manifest.fields`, and one piece of QEMU's devices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from reconciler.converge import changes, plugging
from reconciler.converge.changes import MIB, Bring, Running
from reconciler.model.observed import LaunchRecord, Medium
from reconciler.model.vm import GIB, DataDisk, Link, Nic, Throttle, UpdateWindow, VMSpec
from reconciler.qemu.devices import DISK_NODE, FIRST_NIC
from reconciler.qemu.live import MB
from reconciler.qemu.pluggable import disk_id, nic_id


class Reach(Enum):
    """How a change of a field reaches a VM that runs."""

    LIVE = "live"
    """At once."""
    GUEST_REBOOT = "guest-reboot"
    """QEMU is told at once; the guest finds it when it boots next."""
    RESTART = "restart"
    """With the next QEMU."""
    NONE = "none"
    """It is the agent's own policy; QEMU has nothing to do with it."""


Shown = Callable[[VMSpec], str]


@dataclass(frozen=True)
class Field:
    """One field: `name` is the manifest's, `attribute` VMSpec's; `show` gives the value as a person would write it.

    `how` says in words how a change gets there. `bring` decides what is to be done about it now; `now` reads what QEMU
    says, None where it is not QEMU's; `launched` what it was started with, where that is not what the spec says.
    """

    name: str
    attribute: str
    reach: Reach
    show: Shown
    how: str
    bring: Bring = changes.nothing
    now: Callable[[Running], str] | None = None
    launched: Callable[[LaunchRecord], str] | None = None


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _limits(throttle: Throttle) -> str:
    limits = [f"iops: {throttle.iops}"] if throttle.iops else []
    limits += [f"mbps: {throttle.mbps}"] if throttle.mbps else []
    return ", ".join(limits) or "unlimited"


def _disk(disk: DataDisk) -> str:
    limits = "" if disk.throttle == Throttle() else f" ({_limits(disk.throttle)})"
    return f"{disk.name} {disk.size_gib} GiB{limits}"


def _nic(nic: Nic) -> str:
    return nic.name if nic.link is Link.UP else f"{nic.name} (down)"


def _several(shown: list[str]) -> str:
    return ", ".join(shown) or "none"


def _window(window: UpdateWindow | None) -> str:
    if window is None:
        return "none"
    hours = [f"{minute // 60:02d}:{minute % 60:02d}" for minute in (window.start_minute, window.end_minute)]
    return f"{','.join(window.days)} {'-'.join(hours)} {window.time_zone}"


def _number(value: int | None, otherwise: str = "none") -> str:
    return otherwise if value is None else str(value)


# ---- what QEMU says ---------------------------------------------------------------------------------------


def _disk_now(vm: Running) -> str:
    disk = vm.hardware.disk(DISK_NODE)
    return "none" if disk is None else f"{disk.size_bytes / GIB:g}"


def _limits_now(vm: Running, device: str) -> str:
    disk = vm.hardware.disk(device)
    if disk is None:
        return "none"
    bps, _, _, iops, _, _ = disk.limits
    strange = any(disk.limits[1:3] + disk.limits[4:])
    return "others" if strange else _limits(Throttle(iops, bps // MB))


def _disks_now(vm: Running) -> str:
    found = [
        f"{disk.device.removeprefix(disk_id(''))} {disk.size_bytes / GIB:g} GiB"
        + (f" ({limits})" if (limits := _limits_now(vm, disk.device)) != "unlimited" else "")
        for disk in sorted(vm.hardware.disks, key=lambda disk: disk.device)
        if disk.device.startswith(disk_id(""))
    ]
    return _several(found)


def _link_now(vm: Running) -> str:
    return vm.told(f"link:{FIRST_NIC}", Link.UP)


def _link(vm: Running, device: str) -> Link:
    return Link.DOWN if vm.told(f"link:{device}", Link.UP) == Link.DOWN else Link.UP


def _nics_now(vm: Running) -> str:
    nics = sorted(device for device in vm.hardware.devices if device.startswith(nic_id("")))
    return _several([_nic(Nic(n.removeprefix(nic_id("")), _link(vm, n))) for n in nics])


def _medium_now(vm: Running) -> str:
    drive = vm.qemu.cd
    if drive is None or drive.node_name is None:
        return "none"
    asked = vm.seen.medium
    return asked.path if isinstance(asked, Medium) and asked.node_name == drive.node_name else "another"


def _watchdog_now(vm: Running) -> str:
    present = vm.record.spec.watchdog
    return "none" if present is None else vm.told("watchdog", present)


# ---- the table --------------------------------------------------------------------------------------------


def _policy(name: str, attribute: str, show: Shown, how: str = "read by the agent") -> Field:
    return Field(name, attribute, Reach.NONE, show, how)


def _restart(name: str, attribute: str, show: Shown, how: str = "with the next QEMU") -> Field:
    return Field(name, attribute, Reach.RESTART, show, how, changes.restarts(name, show))


FIELDS = (
    _policy("state", "state", lambda s: s.state.value, "the VM is started or stopped"),
    Field(
        *("memory", "memory_mib", Reach.LIVE, lambda s: str(s.memory_mib)),
        "up to maxMemory by virtio-mem, below by the balloon; beyond, a restart",
        changes.memory,
        lambda vm: f"{vm.hardware.memory.guest_bytes / MIB:g}",
    ),
    Field(
        *("maxMemory", "max_memory_mib", Reach.RESTART, lambda s: _number(s.max_memory_mib)),
        "more room comes with the next QEMU; less takes nothing away",
        changes.max_memory,
        lambda vm: str(vm.hardware.memory.most_bytes // MIB),
    ),
    Field(
        *("cpuCores", "cpu_cores", Reach.LIVE, lambda s: str(s.cpu_cores)),
        "up to maxCpuCores by device_add; fewer by the guest agent (guest-set-vcpus); else a restart",
        changes.cpu_cores,
        lambda vm: str(vm.hardware.cpus_used),
    ),
    Field(
        *("maxCpuCores", "max_cpu_cores", Reach.RESTART, lambda s: _number(s.max_cpu_cores, "auto")),
        "more room comes with the next QEMU; less takes nothing away",
        changes.max_cpu_cores,
        lambda vm: str(vm.hardware.cpus_max),
        lambda record: str(record.spec.most_cpu_cores),
    ),
    Field(
        *("diskSize", "disk_size_gib", Reach.LIVE, lambda s: str(s.disk_size_gib)),
        "block_resize; it never shrinks",
        changes.disk_size,
        _disk_now,
    ),
    Field(
        *("rootDisk", "root_disk", Reach.LIVE, lambda s: _limits(s.root_disk)),
        "block_set_io_throttle",
        changes.root_disk,
        lambda vm: _limits_now(vm, DISK_NODE),
    ),
    Field(
        *("disks", "disks", Reach.LIVE, lambda s: _several([_disk(d) for d in s.disks])),
        "device_add, block_resize, block_set_io_throttle; device_del: unmount it first, a guest lets go of one in use",
        plugging.disks,
        _disks_now,
    ),
    _restart("networkType", "network_type", lambda s: s.network_type.value),
    Field(
        *("networkLink", "network_link", Reach.LIVE, lambda s: s.network_link.value),
        "set_link; QEMU cannot be asked, so what it was told counts",
        changes.network_link,
        _link_now,
    ),
    Field(
        *("nics", "nics", Reach.LIVE, lambda s: _several([_nic(n) for n in s.nics])),
        "netdev_add and device_add, set_link; device_del, when the guest lets go",
        plugging.nics,
        _nics_now,
    ),
    Field(
        *("portForwards", "port_forwards", Reach.LIVE),
        lambda s: _several([str(f) for f in s.port_forwards]),
        "hostfwd_add, hostfwd_remove",
        changes.port_forwards,
        lambda vm: _several([str(f) for f in vm.hardware.forwards]),
    ),
    Field(
        *("vncPort", "vnc_port", Reach.LIVE, lambda s: _number(s.vnc_port, "auto")),
        "the agent listens, and hands the socket over: getfd, display-update; viewers stay connected",
        changes.vnc_port,
        lambda vm: _number(vm.hardware.vnc_port),
        lambda record: str(record.vnc_port),
    ),
    Field(
        *("bootOrder", "boot_order", Reach.GUEST_REBOOT, lambda s: ",".join(s.boot_order)),
        "qom-set bootindex, which the guest's next reset follows; net, where it was not there, a restart",
        changes.boot_order,
        lambda vm: ",".join(vm.hardware.boot_order) or "none",
    ),
    Field(
        *("isoPath", "iso_path", Reach.LIVE, lambda s: s.iso_path or "none"),
        "blockdev-insert-medium; a guest that holds the drive is asked first",
        changes.medium,
        _medium_now,
    ),
    Field(
        *("mountIso", "mount_iso", Reach.LIVE, lambda s: _flag(s.mount_iso)),
        "as isoPath",
        now=lambda vm: _flag(vm.qemu.cd is not None and vm.qemu.cd.node_name is not None),
    ),
    _policy(
        "ejectPolicy", "eject_policy", lambda s: s.eject_policy.value, "whether a locked medium is torn out"
    ),
    Field(
        *("watchdog", "watchdog", Reach.LIVE, lambda s: s.watchdog.value if s.watchdog else "none"),
        "set-action; the card itself comes and goes with a restart",
        changes.watchdog,
        _watchdog_now,
    ),
    _restart("profile", "profile", lambda s: s.profile.value),
    Field(
        *("accel", "accel", Reach.RESTART, lambda s: s.accel.value),
        "with the next QEMU",
        changes.accel,
        lambda vm: vm.record.accel.value,
        lambda record: record.accel.value,
    ),
    _policy(
        "updatePolicy", "update_policy", lambda s: s.update_policy.value, "when what needs a restart gets one"
    ),
    _policy(
        "updateWindow", "update_window", lambda s: _window(s.update_window), "the hours for such restarts"
    ),
    _policy("restartPolicy", "restart_policy", lambda s: s.restart_policy.value),
    _policy(
        "restartedAt", "restarted_at", lambda s: s.restarted_at or "never", "a later time restarts the VM"
    ),
    _policy("shutdown", "shutdown", lambda s: f"timeoutSeconds: {s.shutdown.timeout_s}"),
    _policy("dependsOn", "depends_on", lambda s: _several(list(s.depends_on)), "counts at the next start"),
    _policy("ttl", "ttl_s", lambda s: _number(s.ttl_s) + ("" if s.ttl_s is None else " s")),
    _policy("suspend", "suspend", lambda s: _flag(s.suspend)),
    _policy("protect", "protect", lambda s: _flag(s.protect)),
    _policy("deletionPolicy", "deletion_policy", lambda s: s.deletion_policy.value),
    _policy("retainDays", "retain_days", lambda s: str(s.retain_days)),
)
