"""The decision: from what is wanted and what was seen of one VM to what is to be done. Pure, and the only judge.

No clock, no file, no process: a plan is a value, and its text is what the tests compare. Next: `running` for a VM that
runs and should, `absent` for one that does not run, `ladder` for stopping.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from reconciler.converge import ladder
from reconciler.converge.absent import gone, note_end
from reconciler.converge.running import pending, running
from reconciler.model.observed import Alive, ExitKind, Gone, LaunchRecord, ObservedVM, StopRung, Unknown
from reconciler.model.plan import Continue, Plan, Remember, Wish
from reconciler.model.vm import DesiredVM, PowerState, Removal, Wanted

LOOK_AGAIN_UNKNOWN_S = 5.0

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
        case Alive() as alive:
            return _alive(alive, wanted, seen, wish)
        case Gone() as process:
            return gone(process, wanted, seen, wish)


def _suspended(desired: DesiredVM, seen: ObservedVM) -> Plan:
    """Nothing is done to the VM; what happens to it is noticed, and what would wait for a restart is said."""
    match seen.process:
        case Gone() as process if seen.lifecycle.launch:
            return note_end(process, seen.lifecycle.launch, desired, seen, None)
        case Gone():
            return Plan(seen.name)
        case Unknown():
            return Plan(seen.name, pending=pending(desired, seen), look_again_s=LOOK_AGAIN_UNKNOWN_S)
        case Alive():
            return Plan(seen.name, pending=pending(desired, seen))


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
    if state in ENDED:
        kind, words = ENDED[state]
        return ladder.begin(seen, StopRung.QUIT, words, ends_as=kind)
    if cause := _why_stop(wanted, record, wish):
        first = StopRung.QUIT if state == "prelaunch" or wish is Wish.FORCE_STOP else StopRung.ACPI
        return ladder.begin(seen, first, cause, timeout_s=_shutdown_timeout_s(wanted, record))
    if state == "prelaunch":
        return Plan(seen.name, (Continue("QEMU is ready and its guest has not begun"),))
    return running(process, wanted, seen) if isinstance(wanted, DesiredVM) else Plan(seen.name)


def _why_stop(wanted: Wanted, record: LaunchRecord | None, wish: Wish | None) -> str | None:
    """The reason why a running VM has to stop, or None."""
    match wanted:
        case Removal(cause=cause):
            return cause
        case DesiredVM(spec=spec) if spec.state is PowerState.STOPPED:
            return "a stop was asked for"
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
