"""The stop ladder: power button, QMP quit, SIGTERM, SIGKILL, each with its own deadline, as phases.

No round waits for a guest. An agent that dies on a rung goes on from there: what ends QEMU is written down before it
is done, so that the end has its right name, and the power button after it is pressed, so that it surely was.
Pure, like `reconciler.converge.planner`, which calls it.
"""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.observed import ExitKind, ObservedVM, StopPhase, StopRung
from reconciler.model.plan import Action, Kill, Plan, PowerDown, Quit, Remember, Terminate, Wish

ACPI_DEFAULT_S = 60.0
ASK_AGAIN_S = 10.0  # a guest that is still booting does not hear the power button
RUNG_S = {StopRung.QUIT: 10.0, StopRung.TERM: 5.0, StopRung.KILL: 5.0}
NEXT = {
    StopRung.ACPI: StopRung.QUIT,
    StopRung.QUIT: StopRung.TERM,
    StopRung.TERM: StopRung.KILL,
    StopRung.KILL: StopRung.KILL,  # a process in uninterruptible sleep dies when it wakes; ask again
}


def begin(
    seen: ObservedVM,
    rung: StopRung,
    cause: str,
    *,
    ends_as: ExitKind = ExitKind.STOPPED,
    timeout_s: float = ACPI_DEFAULT_S,
) -> Plan:
    """Take the first rung. `timeout_s` is how long the guest may take after the power button."""
    limit_s = RUNG_S.get(rung, timeout_s)
    return _take(seen, StopPhase(rung, cause, seen.now_s + limit_s, ends_as, asked_s=seen.now_s))


def climb(seen: ObservedVM, wish: Wish | None, *, guest_off: bool = False, answers: bool = True) -> Plan:
    """Take the next rung if it is due, or wait.

    The power button's time ends early where force is asked for or the guest is already off. `answers`: whether QEMU
    answers; one that does not is asked by signals.
    """
    stop = seen.lifecycle.stop
    if stop is None:
        return Plan(seen.name)
    if wish is Wish.START and stop.ends_as is not ExitKind.STOPPED:
        memory = replace(seen.lifecycle, stop=replace(stop, ends_as=ExitKind.STOPPED))
        return Plan(seen.name, (Remember("a start was asked for, whatever ended it", memory),))
    asking = stop.rung is StopRung.ACPI
    early = asking and (guest_off or wish is Wish.FORCE_STOP)
    if early or seen.now_s >= stop.deadline_s:
        return _take(seen, _next(stop, seen, in_time=early, answers=answers))
    if asking and answers and seen.now_s >= stop.asked_s + ASK_AGAIN_S:
        return _take(seen, replace(stop, asked_s=seen.now_s))
    left_s = _look_again_s(stop, seen.now_s) if answers else stop.deadline_s - seen.now_s
    return Plan(seen.name, look_again_s=left_s)


def _next(stop: StopPhase, seen: ObservedVM, *, in_time: bool, answers: bool) -> StopPhase:
    rung = NEXT[stop.rung]
    if rung is StopRung.QUIT and not answers:
        rung = StopRung.TERM
    late = stop.rung is StopRung.ACPI and not in_time
    cause = f"{stop.cause}; the guest did not shut down in time" if late else stop.cause
    return replace(stop, rung=rung, cause=cause, deadline_s=seen.now_s + RUNG_S[rung])


def _look_again_s(stop: StopPhase, now_s: float) -> float:
    left_s = stop.deadline_s - now_s
    return min(left_s, stop.asked_s + ASK_AGAIN_S - now_s) if stop.rung is StopRung.ACPI else left_s


def _take(seen: ObservedVM, stop: StopPhase) -> Plan:
    remember, action = Remember(stop.cause, replace(seen.lifecycle, stop=stop)), _action(stop)
    order = (action, remember) if stop.rung is StopRung.ACPI else (remember, action)
    return Plan(seen.name, order, look_again_s=_look_again_s(stop, seen.now_s))


def _action(stop: StopPhase) -> Action:
    match stop.rung:
        case StopRung.ACPI:
            return PowerDown(stop.cause)
        case StopRung.QUIT:
            return Quit(stop.cause)
        case StopRung.TERM:
            return Terminate(f"{stop.cause}; QEMU did not quit")
        case StopRung.KILL:
            return Kill(f"{stop.cause}; QEMU did not end")
