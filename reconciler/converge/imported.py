"""What is different about a VM whose QEMU was imported: it stays as it came until its manifest is changed. Pure.

And it may lack what every QEMU of ours has, a CD drive or a user network: what needs one waits for the next start,
which is the agent's own. Next: `reconciler.converge.fields`, the table that counts for all others, and for the rest.
"""

from __future__ import annotations

from reconciler.converge.changes import NOTHING, Change, Running
from reconciler.converge.fields import Field
from reconciler.model.observed import Foreign, Medium
from reconciler.model.plan import PendingChange
from reconciler.model.vm import GIB, Link, VMSpec
from reconciler.qemu.devices import BOOT_DEVICES, DISK_NODE, FIRST_NETDEV


def bring(field: Field, vm: Running, wanted: VMSpec) -> Change:
    """What this field asks for now, whoever started the QEMU."""
    foreign = vm.record.foreign
    if foreign is None:
        return field.bring(vm, wanted)
    if _as_it_came(field.name, foreign, vm, wanted):
        return NOTHING
    if why := _lack(field.name, foreign, vm, wanted):
        shown = field.show(vm.record.spec), field.show(wanted)
        return Change(pending=PendingChange(field.name, *shown, why)) if shown[0] != shown[1] else NOTHING
    return field.bring(vm, wanted)


def _as_it_came(name: str, foreign: Foreign, vm: Running, wanted: VMSpec) -> bool:
    """Whether neither QEMU nor the manifest has moved away from what no manifest can say exactly."""
    came, disk = vm.record.spec, vm.hardware.disk(DISK_NODE)
    match name:
        case "bootOrder":
            return vm.hardware.boot_order == foreign.boot_order and wanted.boot_order == came.boot_order
        case "diskSize" if disk:
            size_bytes = wanted.disk_size_gib * GIB
            return wanted.disk_size_gib == came.disk_size_gib and disk.size_bytes < size_bytes
        case "rootDisk" if disk:
            return disk.limits == foreign.limits and wanted.root_disk == came.root_disk
    return False


def _lack(name: str, foreign: Foreign, vm: Running, wanted: VMSpec) -> str | None:
    """Why QEMU cannot be brought to it."""
    lacking = {
        "bootOrder": any(BOOT_DEVICES[device] not in foreign.paths for device in wanted.boot_order),
        "diskSize": DISK_NODE not in foreign.ids,
        "rootDisk": DISK_NODE not in foreign.ids,
        "portForwards": FIRST_NETDEV not in vm.hardware.netdevs,
        "networkLink": foreign.netdev is None and wanted.network_link is not Link.UP,
        "isoPath": vm.qemu.cd is None and isinstance(vm.seen.medium, Medium),
        "vncPort": vm.hardware.vnc_port is None,
    }
    return f"the QEMU that was imported has {_WITHOUT[name]}" if lacking.get(name) else None


_WITHOUT = {
    "bootOrder": "no such device",
    "diskSize": "no disk",
    "rootDisk": "no disk",
    "portForwards": "no user network",
    "networkLink": "no network card",
    "isoPath": "no CD drive that could be used",
    "vncPort": "no VNC",
}
