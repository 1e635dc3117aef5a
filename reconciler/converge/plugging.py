"""How disks and network cards come to a VM that runs, and leave it. Pure.

What comes is plugged in at once. What leaves is the guest's to let go of: it is asked, and asked again, and what is
behind the device is closed when it is gone. Used by `reconciler.converge.fields`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from reconciler.converge.changes import (
    PATIENCE_S,
    Change,
    Running,
    ask,
    do,
    limits_of,
    link_of,
    refusable,
    size_of,
    together,
)
from reconciler.converge.disks import lost
from reconciler.converge.policy import LOOK_AGAIN_BLOCKED_S
from reconciler.model.adjust import CreateDataDisk, DropNetdev, DropNode, PlugDisk, PlugNic, Unplug
from reconciler.model.observed import Disk, Fault
from reconciler.model.plan import PendingChange
from reconciler.model.vm import PLUGGABLE_MAX, DataDisk, Nic, VMSpec
from reconciler.qemu.devices import FILE_SUFFIX
from reconciler.qemu.pluggable import FIRST_PORT, disk_id, netdev_id, nic_id, wanted_ids

IN_MANIFEST = "the manifest names it"
NOT_IN_MANIFEST = "the manifest does not name it"


def disks(vm: Running, wanted: VMSpec) -> Change:
    """The data disks: those to come, those to stay as large and as fast as is wanted, those to go."""
    named = {disk_id(disk.name) for disk in wanted.disks}
    changes = [_disk(vm, disk, wanted) for disk in wanted.disks]
    changes += [_leave(vm, device, "disks") for device in _others(vm.hardware.devices, "disk-", named)]
    closed = _others(vm.hardware.nodes, "disk-", named | vm.hardware.devices)
    drops = do(
        *(DropNode("its disk is unplugged", node) for node in closed if not node.endswith(FILE_SUFFIX))
    )
    return together(*changes, drops)


def nics(vm: Running, wanted: VMSpec) -> Change:
    """The further network cards."""
    named = {nic_id(nic.name) for nic in wanted.nics}
    changes = [_nic(vm, nic, wanted) for nic in wanted.nics]
    changes += [_leave(vm, device, "nics") for device in _others(vm.hardware.devices, "nic-", named)]
    used = {netdev_id(nic.name) for nic in wanted.nics}
    used |= {netdev_id(device.removeprefix("nic-")) for device in vm.hardware.devices}
    drops = do(
        *(DropNetdev("its card is unplugged", one) for one in _others(vm.hardware.netdevs, "net-", used))
    )
    return together(*changes, drops)


def _others(found: Collection[str], prefix: str, wanted: Collection[str]) -> Iterator[str]:
    return (one for one in sorted(found) if one.startswith(prefix) and one not in wanted)


def _disk(vm: Running, disk: DataDisk, wanted: VMSpec) -> Change:
    device = disk_id(disk.name)
    if device in vm.hardware.devices:
        view = vm.hardware.disk(device)
        return together(size_of(view, disk.size_gib, f"disks {disk.name}"), limits_of(view, disk.throttle))
    if no_port := _no_port(vm, "disks", device, wanted):
        return no_port
    plug = PlugDisk(IN_MANIFEST, disk, ports_for(vm, wanted)[device])
    match vm.seen.data_disks.get(disk.name):
        case Fault() as fault:
            return Change(degraded=fault, look_again_s=LOOK_AGAIN_BLOCKED_S)
        case None if vm.seen.identity and device in vm.seen.identity.ports:
            return Change(degraded=lost(disk.name), look_again_s=LOOK_AGAIN_BLOCKED_S)
        case None:
            return do(CreateDataDisk("it has none yet", disk), plug)
        case Disk():
            return do(plug)


def _nic(vm: Running, nic: Nic, wanted: VMSpec) -> Change:
    device = nic_id(nic.name)
    if device in vm.hardware.devices:
        return link_of(vm, device, nic.link)
    if no_port := _no_port(vm, "nics", device, wanted):
        return no_port
    return do(PlugNic(IN_MANIFEST, nic, ports_for(vm, wanted)[device]))


def _no_port(vm: Running, field: str, device: str, wanted: VMSpec) -> Change | None:
    """What to say of a VM whose board has no hot-plug ports, or none to spare until a guest lets go of one."""
    if FIRST_PORT not in vm.hardware.devices:
        why = "this run has no hot-plug ports"
    elif device in ports_for(vm, wanted):
        return None
    elif _is_leaving(vm, wanted):
        return Change(look_again_s=PATIENCE_S)  # its port is free when it has gone
    else:
        why = "all hot-plug ports are taken"
    return Change(pending=PendingChange(field, "none", device.partition("-")[2], why))


def _is_leaving(vm: Running, wanted: VMSpec) -> bool:
    """Whether a guest still takes its time to let go of a device; one that has refused is not waited for."""
    asked, named = vm.seen.lifecycle.asked, wanted_ids(wanted)
    leaving = (one for one in vm.hardware.devices if one.startswith(("disk-", "nic-")) and one not in named)
    return any(one not in asked or vm.seen.now_s < asked[one].since_s + PATIENCE_S for one in leaving)


def ports_for(vm: Running, wanted: VMSpec) -> dict[str, int]:
    """The port of each device that is there, and of each that shall be: the one it had before, if that is free."""
    before = vm.seen.identity.ports if vm.seen.identity else {}
    ports = {device: port for device, port in before.items() if device in vm.hardware.devices}
    for device in wanted_ids(wanted):
        if device in before and before[device] not in ports.values():
            ports.setdefault(device, before[device])
    for device in wanted_ids(wanted):
        free = sorted(set(range(PLUGGABLE_MAX)) - set(ports.values()))
        if device not in ports and free:
            ports[device] = free[0]
    return ports


def _leave(vm: Running, device: str, field: str) -> Change:
    name = device.partition("-")[2]
    refused = Fault(
        "UnplugRefused",
        f"spec.{field}: the guest has not let go of {name}: unmount it there, or restart the VM",
    )
    return refusable(
        ask(vm, device, Unplug(NOT_IN_MANIFEST, device), refused), PendingChange(field, name, "none")
    )
