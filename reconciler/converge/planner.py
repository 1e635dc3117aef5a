"""The decision: from what is wanted and what was seen of one VM to what is to be done. Pure, and the only judge.

No clock, no file, no process: a plan is a value, and its text is what the tests compare. Next: `running` for a VM that
runs and should, `absent` for one that does not run, `ladder` for stopping.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from reconciler.converge import expiry, ladder, policy
from reconciler.converge.absent import RENEWAL, gone, note_end
from reconciler.converge.running import pending, running
from reconciler.model.adjust import IN_DOUBT, SetReboot
from reconciler.model.observed import (
    Alive,
    ExitKind,
    Fault,
    Gone,
    LaunchRecord,
    ObservedVM,
    StopRung,
    Unknown,
)
from reconciler.model.plan import Action, Continue, KeepScreen, Plan, Remember, Wish
from reconciler.model.vm import DesiredVM, PowerState, Removal, Wanted

LOOK_AGAIN_UNKNOWN_S = 5.0
LOOK_AGAIN_NEEDED_S = 5.0  # should nobody say that those are off for which this one stays
REBOOT_HELD = Fault(
    "RebootHeld",
    "the guest rebooted while changes waited for that, and QEMU stopped: another takes over when spec.suspend is false",
)

GUEST_OFF = frozenset({"guest-shutdown"})
"""What QEMU calls the end of a guest that powered itself off."""
ENDED = {
    "shutdown": (ExitKind.GUEST_SHUTDOWN, "the guest powered itself off"),
    "guest-panicked": (ExitKind.GUEST_PANICKED, "the guest's kernel panicked"),
    "internal-error": (ExitKind.CRASHED, "QEMU reports an internal error"),
}


def make_plan(wanted: Wanted, seen: ObservedVM, wish: Wish | None = None) -> Plan:
    """What to do now about one VM, given what is wanted, what was seen, and what somebody asked for just now."""
    if isinstance(wanted, DesiredVM) and wanted.spec.suspend:
        return _suspended(wanted, seen)
    match seen.process:
        case Unknown() as unknown:
            return _unknown(unknown, wanted, seen, wish)
        case _ if wish is Wish.RECREATE and isinstance(wanted, DesiredVM) and not seen.lifecycle.renew:
            return Plan(seen.name, (Remember(RENEWAL, replace(seen.lifecycle, renew=True)),))
        case Alive() as alive:
            return _alive(alive, wanted, seen, wish)
        case Gone() as process:
            return gone(process, wanted, seen, wish)


def _suspended(desired: DesiredVM, seen: ObservedVM) -> Plan:
    """Nothing is done to the VM, and nothing is left in wait for it either: its guest goes on by itself.

    What happens to it is noticed, and what would wait for a restart is said.
    """
    match seen.process:
        case Gone() as process if seen.lifecycle.launch:
            return note_end(process, seen.lifecycle.launch, desired, seen, None)
        case Gone():
            return Plan(seen.name)
        case Unknown():
            given_up = tuple(_given_up(seen))
            return Plan(seen.name, given_up, pending(desired, seen), look_again_s=LOOK_AGAIN_UNKNOWN_S)
        case Alive() as process:
            rebooted = seen.lifecycle.stop is None and _rebooted(process, seen.lifecycle.launch)
            held = REBOOT_HELD if rebooted else None
            return Plan(seen.name, tuple(_let_go(process, seen)), pending(desired, seen), waiting=held)


def _let_go(process: Alive, seen: ObservedVM) -> Iterator[Action]:
    """A stop that only asked the guest so far is given up, and QEMU shall not stop for the guest's own reboot."""
    if process.qemu.run_state not in ENDED:
        yield from _given_up(seen)
        if _armed(seen.lifecycle.launch):
            yield SetReboot("spec.suspend is true: the guest reboots by itself", "reset")


def _given_up(seen: ObservedVM) -> Iterator[Action]:
    """Else its time, long over, would end QEMU as soon as the suspension does."""
    if seen.lifecycle.stop and seen.lifecycle.stop.rung is StopRung.ACPI:
        cause = "spec.suspend is true: the stop that was under way is given up"
        yield Remember(cause, replace(seen.lifecycle, stop=None))


def _unknown(process: Unknown, wanted: Wanted, seen: ObservedVM, wish: Wish | None) -> Plan:
    """Nothing is killed or started; only a stop that had begun goes on, by signals to the process that is known."""
    if seen.lifecycle.stop and process.handle:
        return ladder.climb(seen, wish, answers=False)
    waits = pending(wanted, seen) if isinstance(wanted, DesiredVM) else ()
    return Plan(seen.name, pending=waits, look_again_s=LOOK_AGAIN_UNKNOWN_S)


def _alive(process: Alive, wanted: Wanted, seen: ObservedVM, wish: Wish | None) -> Plan:
    record = seen.lifecycle.launch
    if record and record.process is None:
        memory = replace(seen.lifecycle, launch=replace(record, process=process.handle))
        then = _alive(process, wanted, replace(seen, lifecycle=memory), wish)
        found = Remember(f"QEMU (pid {process.handle.pid}) was started, and not yet written down", memory)
        return replace(then, actions=(found, *then.actions))
    state = process.qemu.run_state
    if seen.lifecycle.stop:
        return ladder.climb(seen, wish, guest_off=state in ENDED)
    if _rebooted(process, record):
        return ladder.begin(
            seen, StopRung.QUIT, "the guest rebooted; another QEMU brings the changes that waited for it"
        )
    if state in ENDED:
        return _ended(state, seen)
    if cause := _why_stop(wanted, seen, wish):
        # Without a manifest the wish is all there is, and this round the only one that hears it.
        if seen.needed_by and wanted is not None and wish is not Wish.FORCE_STOP:
            last = Fault("WaitingForDependents", f"it is stopped after {', '.join(seen.needed_by)}")
            return Plan(seen.name, waiting=last, look_again_s=LOOK_AGAIN_NEEDED_S)
        first = StopRung.QUIT if state == "prelaunch" or wish is Wish.FORCE_STOP else StopRung.ACPI
        return ladder.begin(seen, first, cause, timeout_s=_shutdown_timeout_s(wanted, record))
    if state == "prelaunch":
        return Plan(seen.name, (Continue("QEMU is ready and its guest has not begun"),))
    if not isinstance(wanted, DesiredVM):
        return Plan(seen.name)
    plan = running(process, wanted, seen)
    later = [s for s in (plan.later_s, expiry.left_s(wanted.spec, seen)) if s is not None]
    return replace(plan, later_s=min(later, default=None))


def _rebooted(process: Alive, record: LaunchRecord | None) -> bool:
    """Whether QEMU stopped for a guest that reboots. Told so, it stops for both; in doubt, a VM that shall run does."""
    off = process.qemu.shutdown_reason in GUEST_OFF
    return _armed(record) and process.qemu.run_state == "shutdown" and not off


def _armed(record: LaunchRecord | None) -> bool:
    """Whether QEMU was told to stop for a reboot, or may have been."""
    return record is not None and record.told.get("reboot") in {"shutdown", IN_DOUBT}


def _ended(run_state: str, seen: ObservedVM) -> Plan:
    """The guest came to its end, and its QEMU is still there: it is told to go, and of a bad end the screen is kept."""
    kind, words = ENDED[run_state]
    plan = ladder.begin(seen, StopRung.QUIT, words, ends_as=kind)
    if kind not in policy.FAILURES:
        return plan
    return replace(plan, actions=(KeepScreen(words), *plan.actions))


def _why_stop(wanted: Wanted, seen: ObservedVM, wish: Wish | None) -> str | None:
    """The reason why a running VM has to stop, or None."""
    record = seen.lifecycle.launch
    match wanted:
        case Removal(cause=cause):
            return cause
        case DesiredVM(spec=spec) if spec.state is PowerState.STOPPED:
            return "a stop was asked for"
        case DesiredVM() if seen.lifecycle.renew:
            return RENEWAL
        case DesiredVM(spec=spec) if expiry.is_over(spec, seen):
            return "its time to live is over"
        case DesiredVM(spec=spec) if record and _later(spec.restarted_at, record.spec.restarted_at):
            return f"restartedAt is now {spec.restarted_at}"
        case None if wish in {Wish.STOP, Wish.FORCE_STOP}:
            return "a stop was asked for"
    return None


def _later(wanted: str | None, launched: str | None) -> bool:
    """Whether `restartedAt` moved forward; taken back or removed it asks for nothing."""
    if wanted is None or launched is None:
        return wanted is not None
    return datetime.fromisoformat(wanted) > datetime.fromisoformat(launched)


def _shutdown_timeout_s(wanted: Wanted, record: LaunchRecord | None) -> float:
    match wanted:
        case DesiredVM(spec=spec) | Removal(last=DesiredVM(spec=spec)):
            return spec.shutdown.timeout_s
        case None:
            return record.spec.shutdown.timeout_s if record else ladder.ACPI_DEFAULT_S
