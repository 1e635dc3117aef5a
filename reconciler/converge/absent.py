"""The plan for a VM of which no QEMU exists: note how it ended, answer that end, wait, or start it. Pure.

Called by `reconciler.converge.planner`; when an end is answered by another start stands in `policy`.
"""

from __future__ import annotations

from dataclasses import replace

from reconciler.converge import disks, ends, expiry, policy
from reconciler.model.observed import Exit, ExitKind, Fault, Gone, LaunchRecord, Lifecycle, ObservedVM
from reconciler.model.plan import (
    Action,
    CleanUp,
    Continue,
    CreateDisk,
    CreateIdentity,
    Discard,
    Launch,
    Plan,
    Remember,
    ReplaceDisk,
    SetAside,
    Wish,
)
from reconciler.model.vm import DeletionPolicy, DesiredVM, PowerState, Removal, Wanted

RENEWAL = "a new root disk was asked for"


def gone(process: Gone, wanted: Wanted, seen: ObservedVM, wish: Wish | None) -> Plan:
    if seen.lifecycle.launch:
        return note_end(process, seen.lifecycle.launch, wanted, seen, wish)
    match wanted:
        case None:
            return Plan(seen.name)
        case Removal(last=last, discard=discard, cause=cause):
            if discard or last.spec.deletion_policy is DeletionPolicy.DELETE:
                return Plan(seen.name, (Discard(cause),))
            return _set_aside(last, cause, seen)
        case DesiredVM() as desired:
            return _off(desired, seen, wish)


def _set_aside(last: DesiredVM, cause: str, seen: ObservedVM) -> Plan:
    """With its disk: who restores it wants that one, and no blank one that was asked for before."""
    kept: tuple[Action, ...] = ()
    if seen.lifecycle.renew:
        kept = (Remember("its root disk is set aside with it", replace(seen.lifecycle, renew=False)),)
    return Plan(seen.name, (*kept, SetAside(cause, last)))


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
    kind = ends.kind(process, record, seen)
    words = stop.cause if stop else ends.words(process, kind, rebooted=ends.rebooted(record, seen))
    asked = kind is ExitKind.STOPPED or wish is Wish.START
    ran_s = seen.now_s - record.requested_s
    generation, spec = record.generation, record.spec
    if isinstance(wanted, DesiredVM):
        generation, spec = wanted.generation, wanted.spec
    kept = ends.bundle(process, record, seen, kind, words) if kind in policy.FAILURES else None
    end = Exit(kind, generation, words, seen.utc, seen.now_s, seen.boot_id, kept.bundle if kept else None)
    memory = Lifecycle(
        last_exit=end,
        unanswered=not asked,
        failures=0 if asked else policy.failures_after(spec, kind, seen.lifecycle.failures, ran_s),
        renew=seen.lifecycle.renew,
        started_at=expiry.to_remember(seen),
    )
    note = Remember(f"QEMU is gone: {words}", memory)
    return Plan(seen.name, (*([kept] if kept else []), note, CleanUp("QEMU is gone", record.process)))


def _off(desired: DesiredVM, seen: ObservedVM, wish: Wish | None) -> Plan:
    """A VM that does not run: answer its last end, wait, or start."""
    if seen.lifecycle.renew:
        return _renew(desired, seen)
    actions: list[Action] = []
    if cause := _why_forget(desired, seen, wish):
        memory = replace(seen.lifecycle, unanswered=False, failures=0)
        actions.append(Remember(cause, memory))
        seen = replace(seen, lifecycle=memory)
    if desired.spec.state is PowerState.STOPPED or policy.stays_off(desired.spec, seen):
        return Plan(seen.name, tuple(actions))
    if over := expiry.expired(desired.spec, seen):
        return Plan(seen.name, tuple(actions), waiting=over)
    if (wait_s := policy.wait_s(seen)) > 0:
        return Plan(seen.name, tuple(actions), look_again_s=wait_s)
    if seen.waits_for:
        first = Fault("WaitingForDependencies", f"it is started after {'; '.join(seen.waits_for)}")
        return Plan(seen.name, tuple(actions), waiting=first, look_again_s=policy.LOOK_AGAIN_BLOCKED_S)
    return _start(desired, seen, actions)


def _renew(desired: DesiredVM, seen: ObservedVM) -> Plan:
    """The old disk aside, a blank one in its place; what ended the VM before is no matter any more."""
    memory = replace(seen.lifecycle, renew=False, unanswered=False, failures=0)
    create = CreateDisk(RENEWAL, desired.spec.disk_size_gib)
    return Plan(seen.name, (ReplaceDisk(RENEWAL), create, Remember("the VM has a new root disk", memory)))


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
    fault = next((f for f in (disks.fault(desired, seen), seen.medium) if isinstance(f, Fault)), None)
    if fault:
        return Plan(seen.name, tuple(actions), blocked=fault, look_again_s=policy.LOOK_AGAIN_BLOCKED_S)
    if seen.identity is None:
        actions.append(CreateIdentity("it has none yet"))
    actions += disks.to_make(desired, seen)
    actions += [Launch(cause, desired), Continue(cause)]
    return Plan(seen.name, tuple(actions), blocked=disks.shrink(desired, seen))
