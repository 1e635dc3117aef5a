"""The plan for a VM that runs and should: what its manifest changes now, and what waits for a restart. Pure.

Called by `reconciler.converge.planner`; the reach of each field stands in `reconciler.qemu.fields`.
"""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.observed import Alive, Disk, Fault, Medium, ObservedVM
from reconciler.model.plan import Action, ChangeMedium, CutSerialLog, PendingChange, Plan, Remember
from reconciler.model.vm import GIB, DesiredVM
from reconciler.qemu.fields import pending_changes

MIB = 1024**2
SERIAL_LOG_MAX_BYTES = 16 * MIB  # a guest writes what it likes, and must not fill the host's disk
LOOK_AGAIN_BLOCKED_S = 30.0  # what blocks is often a file that somebody is still copying


def running(process: Alive, desired: DesiredVM, seen: ObservedVM) -> Plan:
    """A VM that runs and should: live changes now, the rest is pending."""
    record = seen.lifecycle.launch
    actions: list[Action] = []
    if record and not record.guest_ran and process.qemu.run_state == "running":
        memory = replace(seen.lifecycle, launch=replace(record, guest_ran=True))
        actions.append(Remember("the guest runs", memory))
    drive, medium = process.qemu.cd, seen.medium
    if drive and not isinstance(medium, Fault) and drive.node_name != (medium.node_name if medium else None):
        actions.append(ChangeMedium(_medium_cause(drive.node_name, medium), medium))
    if seen.serial_log_bytes > SERIAL_LOG_MAX_BYTES:
        actions.append(CutSerialLog(f"it has grown to {seen.serial_log_bytes // MIB} MiB"))
    fault = next((f for f in (medium, seen.disk) if isinstance(f, Fault)), None)
    return Plan(
        seen.name,
        tuple(actions),
        pending(desired, seen),
        blocked=shrink(desired, seen),
        degraded=fault,
        look_again_s=LOOK_AGAIN_BLOCKED_S if fault else None,
    )


def pending(desired: DesiredVM, seen: ObservedVM) -> tuple[PendingChange, ...]:
    """What waits for a restart: the launch against the manifest, and for the disk its true size."""
    record = seen.lifecycle.launch
    if record is None:
        return ()
    changes = pending_changes(record.spec, record.vnc_port, desired.spec, record.accel)
    others = tuple(change for change in changes if change.field != "diskSize")
    wanted = desired.spec.disk_size_gib
    if not isinstance(seen.disk, Disk) or wanted * GIB <= seen.disk.virtual_size_bytes:
        return others
    present = f"{seen.disk.virtual_size_bytes / GIB:g}"
    return (*others, PendingChange("diskSize", present, str(wanted)))


def _medium_cause(inserted: str | None, medium: Medium | None) -> str:
    if medium is None:
        return "the manifest wants the drive empty"
    return "the manifest names another ISO" if inserted else "the manifest wants an ISO in the drive"


def shrink(desired: DesiredVM, seen: ObservedVM) -> Fault | None:
    wanted = desired.spec.disk_size_gib
    if not isinstance(seen.disk, Disk) or wanted * GIB >= seen.disk.virtual_size_bytes:
        return None
    present = f"{seen.disk.virtual_size_bytes / GIB:g}"
    return Fault(
        "DiskShrink", f"spec.diskSize: {wanted} GiB is less than the disk's {present} GiB; write {present}"
    )
