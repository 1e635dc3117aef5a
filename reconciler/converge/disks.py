"""What the disks of a VM that does not run allow: to start from them, to make those that are missing. Pure.

Next: `reconciler.converge.changes` and `.plugging` for the disks of one that runs.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.model.adjust import CreateDataDisk
from reconciler.model.observed import Disk, Fault, ObservedVM
from reconciler.model.plan import Action, CreateDisk, GrowDisk
from reconciler.model.vm import GIB, DesiredVM, VMSpec
from reconciler.qemu.pluggable import disk_id


def fault(desired: DesiredVM, seen: ObservedVM) -> Fault | None:
    """A disk that must not be used; or one that is gone, of a VM that had it: no blank one takes its place."""
    return _root_fault(seen) or next(_data_faults(desired.spec, seen), None)


def to_make(desired: DesiredVM, seen: ObservedVM) -> Iterator[Action]:
    """Make the disks that were never there, and let the root disk grow. Data disks grow when QEMU has them."""
    match seen.disk:
        case None:
            yield CreateDisk("it has none yet", desired.spec.disk_size_gib)
        case Disk(virtual_size_bytes=size) if size < desired.spec.disk_size_gib * GIB:
            yield GrowDisk("the manifest wants a larger disk", desired.spec.disk_size_gib)
    for disk in desired.spec.disks:
        if seen.data_disks.get(disk.name) is None:
            yield CreateDataDisk("it has none yet", disk)


def shrink(desired: DesiredVM, seen: ObservedVM) -> Fault | None:
    """What is said of a manifest that wants a root disk smaller than it is."""
    wanted = desired.spec.disk_size_gib
    if not isinstance(seen.disk, Disk) or wanted * GIB >= seen.disk.virtual_size_bytes:
        return None
    return too_small("diskSize", wanted, seen.disk.virtual_size_bytes)


def too_small(field: str, wanted_gib: int, present_bytes: int) -> Fault:
    """A size that no disk can be brought to."""
    present = f"{present_bytes / GIB:g}"
    message = f"spec.{field}: {wanted_gib} GiB is less than the disk's {present} GiB; write {present}"
    return Fault("DiskShrink", message)


def lost(name: str) -> Fault:
    """What is said of a data disk whose file is gone."""
    remedy = "put it back, or, to begin anew, give the disk another name"
    return Fault("DiskMissing", f"spec.disks: the file of {name} is not there any more: {remedy}")


def _root_fault(seen: ObservedVM) -> Fault | None:
    if isinstance(seen.disk, Fault):
        return seen.disk
    if seen.disk is None and seen.lifecycle.last_exit:
        remedy = (
            f"put it back, or, to begin anew, remove the directory vms/{seen.name} of the state directory"
        )
        return Fault("DiskMissing", f"the root disk of a VM that has run is not there: {remedy}")
    return None


def _data_faults(spec: VMSpec, seen: ObservedVM) -> Iterator[Fault]:
    ports = seen.identity.ports if seen.identity else {}
    for disk in spec.disks:
        match seen.data_disks.get(disk.name):
            case Fault() as found:
                yield found
            case None if disk_id(disk.name) in ports:
                yield lost(disk.name)
