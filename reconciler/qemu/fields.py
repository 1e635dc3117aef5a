"""For every field of a manifest: its name, how it is shown, and how a change of it reaches a running VM.

The one table from which plan, status, `diff` and documentation take what needs a restart. A test holds it
against VMSpec, so that no field can be forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from reconciler.model.plan import PendingChange
from reconciler.model.vm import Accel, PortForward, VMSpec


class Reach(Enum):
    """How a change of a field reaches a VM that runs."""

    LIVE = "live"
    """QEMU is told at once."""
    RESTART = "restart"
    """At the VM's next start."""
    NONE = "none"
    """It is the agent's own policy; QEMU has nothing to do with it."""


@dataclass(frozen=True)
class Field:
    """`name` is the manifest's, `attribute` VMSpec's; `show` gives the value as a person would write it."""

    name: str
    attribute: str
    reach: Reach
    show: Callable[[VMSpec], str]


def _forward(forward: PortForward) -> str:
    return f"{forward.host_address}:{forward.host_port}->{forward.guest_port}/{forward.protocol.value}"


def _yes(value: bool) -> str:
    return "true" if value else "false"


FIELDS = (
    Field("state", "state", Reach.NONE, lambda s: s.state.value),
    Field("memory", "memory_mib", Reach.RESTART, lambda s: str(s.memory_mib)),
    Field("cpuCores", "cpu_cores", Reach.RESTART, lambda s: str(s.cpu_cores)),
    Field("diskSize", "disk_size_gib", Reach.RESTART, lambda s: str(s.disk_size_gib)),
    Field("networkType", "network_type", Reach.RESTART, lambda s: s.network_type.value),
    Field(
        "portForwards",
        "port_forwards",
        Reach.RESTART,
        lambda s: ", ".join(_forward(f) for f in s.port_forwards) or "none",
    ),
    Field("vncPort", "vnc_port", Reach.RESTART, lambda s: "auto" if s.vnc_port is None else str(s.vnc_port)),
    Field("bootOrder", "boot_order", Reach.RESTART, lambda s: ",".join(d.value for d in s.boot_order)),
    Field("isoPath", "iso_path", Reach.LIVE, lambda s: s.iso_path or "none"),
    Field("mountIso", "mount_iso", Reach.LIVE, lambda s: _yes(s.mount_iso)),
    Field("ejectPolicy", "eject_policy", Reach.NONE, lambda s: s.eject_policy.value),
    Field("maxMemory", "max_memory_mib", Reach.NONE, lambda s: str(s.max_memory_mib)),
    Field("maxCpuCores", "max_cpu_cores", Reach.NONE, lambda s: str(s.max_cpu_cores)),
    Field("rootDisk", "root_disk", Reach.NONE, lambda s: str(s.root_disk)),
    Field("disks", "disks", Reach.NONE, lambda s: str(s.disks)),
    Field("networkLink", "network_link", Reach.NONE, lambda s: s.network_link.value),
    Field("nics", "nics", Reach.NONE, lambda s: str(s.nics)),
    Field("watchdog", "watchdog", Reach.NONE, lambda s: str(s.watchdog)),
    Field("updatePolicy", "update_policy", Reach.NONE, lambda s: s.update_policy.value),
    Field("updateWindow", "update_window", Reach.NONE, lambda s: str(s.update_window)),
    Field("dependsOn", "depends_on", Reach.NONE, lambda s: ", ".join(s.depends_on)),
    Field("ttl", "ttl_s", Reach.NONE, lambda s: str(s.ttl_s)),
    Field("profile", "profile", Reach.RESTART, lambda s: s.profile.value),
    Field("accel", "accel", Reach.RESTART, lambda s: s.accel.value),
    Field("restartPolicy", "restart_policy", Reach.NONE, lambda s: s.restart_policy.value),
    Field("restartedAt", "restarted_at", Reach.NONE, lambda s: s.restarted_at or "never"),
    Field("shutdown", "shutdown", Reach.NONE, lambda s: f"timeoutSeconds: {s.shutdown.timeout_s}"),
    Field("suspend", "suspend", Reach.NONE, lambda s: _yes(s.suspend)),
    Field("protect", "protect", Reach.NONE, lambda s: _yes(s.protect)),
    Field("deletionPolicy", "deletion_policy", Reach.NONE, lambda s: s.deletion_policy.value),
    Field("retainDays", "retain_days", Reach.NONE, lambda s: str(s.retain_days)),
)


def pending_changes(
    launched: VMSpec, launched_vnc_port: int, wanted: VMSpec, launched_accel: Accel = Accel.AUTO
) -> tuple[PendingChange, ...]:
    """The fields in which a running VM differs from what is wanted, and which only a restart brings in line.

    What a manifest leaves open is what the VM has: a `vncPort` not named, `accel: auto`. `launched_accel` is
    what was resolved at the launch, so that naming just that is no change either; AUTO: not known.
    """
    return tuple(
        change
        for field in FIELDS
        if field.reach is Reach.RESTART
        if (change := _change(field, launched, launched_vnc_port, wanted, launched_accel))
    )


def _change(
    field: Field, launched: VMSpec, vnc_port: int, wanted: VMSpec, accel: Accel
) -> PendingChange | None:
    running, asked = field.show(launched), field.show(wanted)
    match field.attribute:
        case "vnc_port":
            running = str(vnc_port)
            asked = running if wanted.vnc_port is None else asked
        case "accel":
            running = running if accel is Accel.AUTO else accel.value
            asked = running if wanted.accel is Accel.AUTO else asked
    return None if running == asked else PendingChange(field.name, running, asked)
