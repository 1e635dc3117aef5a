"""What QEMU itself says of a VM: its state, its drive, and whether it is this VM at all. Read-only.

Next: `reconciler.qemu.hardware`, which asks for the rest where a guest runs.
"""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.errors import QemuError
from reconciler.model.observed import CdDrive, QemuView
from reconciler.qemu.answers import Answer, Execute, mapping, mappings, member
from reconciler.qemu.devices import CD_DRIVE
from reconciler.qemu.hardware import hardware

TELLING_EVENTS = frozenset(
    {
        "ACPI_DEVICE_OST",
        "BALLOON_CHANGE",
        "BLOCK_IO_ERROR",
        "DEVICE_DELETED",
        "DEVICE_TRAY_MOVED",
        "DEVICE_UNPLUG_GUEST_ERROR",
        "GUEST_PANICKED",
        "MEMORY_DEVICE_SIZE_CHANGE",
        "RESET",
        "RESUME",
        "SHUTDOWN",
        "STOP",
        "SUSPEND",
        "WAKEUP",
        "VSERPORT_CHANGE",
        "WATCHDOG",
    }
)
"""QMP's events after which a look may show something else. Others (the clock was set, a NIC's filter) come often."""


NOBODY_AT_HOME = frozenset({"prelaunch", "inmigrate", "shutdown", "guest-panicked", "internal-error"})
"""The states in which no guest uses any device: there is nothing to compare, and every start is waited for."""


def observe(execute: Execute, uuid: str, *, deep: bool = True) -> QemuView:
    """Ask QEMU for its state and, if `deep`, its devices. Raises QemuError where it fails, or is another VM's QEMU."""
    answered = member(mapping(execute("query-uuid"), "query-uuid"), "UUID", str, "query-uuid")
    if answered.lower() != uuid.lower():
        raise QemuError(f"the QEMU on this socket is another VM's: its UUID is {answered}, not {uuid}")
    block = execute("query-block")
    seen = view(execute("query-status"), block)
    return (
        seen
        if not deep or seen.run_state in NOBODY_AT_HOME
        else replace(seen, hardware=hardware(execute, block))
    )


def view(status: object, block: object) -> QemuView:
    """The view from the answers to query-status and query-block. Raises QemuError for anything else."""
    run_state = member(mapping(status, "query-status"), "status", str, "query-status")
    return QemuView(run_state, cd_drive(block))


def cd_drive(block: object) -> CdDrive | None:
    """The CD drive in an answer to query-block; None where this QEMU has no drive of ours."""
    drives = (_cd(drive) for drive in mappings(block, "query-block") if drive.get("qdev") == CD_DRIVE)
    return next(drives, None)


def _cd(drive: Answer) -> CdDrive:
    inserted = drive.get("inserted")
    node = None if inserted is None else mapping(inserted, "query-block").get("node-name")
    return CdDrive(
        node_name=None if node is None else str(node),
        tray_open=drive.get("tray_open") is True,
        locked=drive.get("locked") is True,
    )
