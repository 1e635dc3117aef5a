"""The plan for a VM of which no QEMU exists: note how it ended, answer that end, wait, or start it. Pure.

Called by `reconciler.converge.planner`; when an end is answered by another start stands in `policy`.
"""

from __future__ import annotations

from dataclasses import replace

from reconciler.converge import policy
from reconciler.converge.running import shrink
from reconciler.model.observed import Disk, Exit, ExitKind, Fault, Gone, LaunchRecord, Lifecycle, ObservedVM
from reconciler.model.plan import (
    Action,
    CleanUp,
    Continue,
    CreateDisk,
    CreateIdentity,
    Discard,
    GrowDisk,
    Launch,
    Plan,
    Remember,
    SetAside,
    Wish,
)
from reconciler.model.vm import GIB, DeletionPolicy, DesiredVM, PowerState, Removal, Wanted

LOOK_AGAIN_BLOCKED_S = 30.0  # what blocks is often a file that somebody is still copying


def gone(process: Gone, wanted: Wanted, seen: ObservedVM, wish: Wish | None) -> Plan:
    if seen.lifecycle.launch:
        return note_end(process, seen.lifecycle.launch, wanted, seen, wish)
    match wanted:
        case None:
            return Plan(seen.name)
        case Removal(last=last, discard=discard, cause=cause):
            if discard or last.spec.deletion_policy is DeletionPolicy.DELETE:
                return Plan(seen.name, (Discard(cause),))
            return Plan(seen.name, (SetAside(cause, last),))
        case DesiredVM() as desired:
            return _off(desired, seen, wish)


def note_end(
    process: Gone, record: LaunchRecord, wanted: Wanted, seen: ObservedVM, wish: Wish | None
) -> Plan:
    """Say how it ended, once: the record goes and the exit comes in the same durable write."""
    if record.process is None:
        memory = replace(seen.lifecycle, launch=None, stop=None)
        return Plan(
            seen.name, (Remember("no QEMU came of the last intent", memory), CleanUp("nothing started"))
        )
    stop = seen.lifecycle.stop
    rebooted = record.process.boot_id != seen.boot_id
    kind = _end_kind(record, seen)
    words = stop.cause if stop else _how_it_vanished(process, rebooted=rebooted)
    asked = kind is ExitKind.STOPPED or wish is Wish.START
    ran_s = seen.now_s - record.requested_s
    generation, spec = record.generation, record.spec
    if isinstance(wanted, DesiredVM):
        generation, spec = wanted.generation, wanted.spec
    memory = Lifecycle(
        last_exit=Exit(kind, generation, words, seen.utc, seen.now_s, seen.boot_id),
        unanswered=not asked,
        failures=0 if asked else policy.failures_after(spec, kind, seen.lifecycle.failures, ran_s),
    )
    return Plan(
        seen.name, (Remember(f"QEMU is gone: {words}", memory), CleanUp("QEMU is gone", record.process))
    )


def _end_kind(record: LaunchRecord, seen: ObservedVM) -> ExitKind:
    if seen.lifecycle.stop:
        return seen.lifecycle.stop.ends_as
    if record.process and record.process.boot_id != seen.boot_id:
        return ExitKind.STOPPED
    return ExitKind.CRASHED if record.guest_ran else ExitKind.START_FAILED


def _how_it_vanished(process: Gone, *, rebooted: bool) -> str:
    if rebooted:
        return "the host was booted"
    match process.exit_status:
        case None:
            how = "QEMU vanished"
        case status if status < 0:
            how = f"QEMU was ended by signal {-status}"
        case status:
            how = f"QEMU ended by itself with exit status {status}"
    return f"{how}: {process.last_words}" if process.last_words else how


def _off(desired: DesiredVM, seen: ObservedVM, wish: Wish | None) -> Plan:
    """A VM that does not run: answer its last end, wait, or start."""
    actions: list[Action] = []
    if cause := _why_forget(desired, seen, wish):
        memory = replace(seen.lifecycle, unanswered=False, failures=0)
        actions.append(Remember(cause, memory))
        seen = replace(seen, lifecycle=memory)
    if desired.spec.state is PowerState.STOPPED or policy.stays_off(desired.spec, seen):
        return Plan(seen.name, tuple(actions))
    if (wait_s := policy.wait_s(seen)) > 0:
        return Plan(seen.name, tuple(actions), look_again_s=wait_s)
    return _start(desired, seen, actions)


def _why_forget(desired: DesiredVM, seen: ObservedVM, wish: Wish | None) -> str | None:
    """Why the last end no longer decides, or None where it still does, or never did."""
    last = seen.lifecycle.last_exit
    if last is None or not seen.lifecycle.unanswered:
        return None
    if wish is Wish.START:
        return "a start was asked for"
    if last.boot_id != seen.boot_id:
        return "the host was booted"
    return "the manifest was edited" if last.generation != desired.generation else None


def _start(desired: DesiredVM, seen: ObservedVM, actions: list[Action]) -> Plan:
    cause = "the manifest says running"
    fault = next((f for f in (_disk_fault(seen), seen.medium) if isinstance(f, Fault)), None)
    if fault:
        return Plan(seen.name, tuple(actions), blocked=fault, look_again_s=LOOK_AGAIN_BLOCKED_S)
    if seen.identity is None:
        actions.append(CreateIdentity("it has none yet"))
    match seen.disk:
        case None:
            actions.append(CreateDisk("it has none yet", desired.spec.disk_size_gib))
        case Disk(virtual_size_bytes=size) if size < desired.spec.disk_size_gib * GIB:
            actions.append(GrowDisk("the manifest wants a larger disk", desired.spec.disk_size_gib))
    actions += [Launch(cause, desired), Continue(cause)]
    return Plan(seen.name, tuple(actions), blocked=shrink(desired, seen))


def _disk_fault(seen: ObservedVM) -> Fault | None:
    """A disk that must not be used; or one that is gone, of a VM that had run from it: no blank one takes its place."""
    if isinstance(seen.disk, Fault):
        return seen.disk
    if seen.disk is None and seen.lifecycle.last_exit:
        remedy = (
            f"put it back, or, to begin anew, remove the directory vms/{seen.name} of the state directory"
        )
        return Fault("DiskMissing", f"the root disk of a VM that has run is not there: {remedy}")
    return None
