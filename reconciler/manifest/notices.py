"""What people are told about the manifests: why a VM is kept whose manifest is gone, and what to type.

Next: `reconciler.manifest.catalog`.
"""

from __future__ import annotations

from reconciler.manifest.departures import Entry, Hold, HoldReason
from reconciler.model.observed import Fault

CONFIRM = "reconciler prune --confirm"


def held_fault(entry: Entry, root: str) -> Fault | None:
    """The condition `PruneHeld` of a VM, or None if its removal does not wait for anything."""
    if entry.hold is None:
        return None
    why = _why(entry.hold, entry.last.source.file, root)
    return Fault("PruneHeld", f"{why}; the VM is kept as it is. {_what_to_do(entry)}")


def _why(hold: Hold, file: str, root: str) -> str:
    match hold.reason:
        case HoldReason.ROOT_MISSING:
            return f"its manifest {file} went away with the manifests directory {root}, which was not there"
        case HoldReason.ROOT_UNREADABLE:
            return f"its manifest {file} could not be looked for: the directory {root} was unreadable"
        case HoldReason.ROOT_NOT_A_DIRECTORY:
            return f"its manifest {file} could not be looked for: {root} was not a directory"
        case HoldReason.ROOT_EMPTY:
            return f"its manifest {file} is gone, and with it the last of all manifests in {root}"
        case HoldReason.ROOT_CHANGED:
            return f"its manifest {file} was in {hold.detail}; {root}, which the agent reads now, lacks it"
        case HoldReason.BRAKE:
            return f"its manifest {file} is gone, and {hold.detail} VMs would go within ten minutes"
        case HoldReason.PROTECTED:
            return f"its manifest {file} is gone, and says `protect: true`"
        case HoldReason.FILE_UNKNOWN:
            return f"its manifest {file} is gone, and whether {hold.detail} describes it now cannot be known"


def _what_to_do(entry: Entry) -> str:
    if entry.hold is not None and entry.hold.reason is HoldReason.FILE_UNKNOWN:
        return f"Mend or remove {entry.hold.detail}: then it is decided by what the manifests say"
    if not entry.confirmable:
        return "Put the manifest back; to remove the VM, set `protect: false` in it first"
    return f"Put the manifest back to keep it, or, if it is to go, run: {CONFIRM}"
