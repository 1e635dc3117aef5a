"""`suspend`: nothing is done to the VM, and nothing that waits for it may strike it, then or afterwards."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.converge.planner import make_plan
from reconciler.converge.summarise import Context, summarise
from reconciler.model.adjust import SetReboot
from reconciler.model.observed import Alive, ExitKind, ObservedVM, StopPhase, StopRung, Unknown
from reconciler.model.plan import Outcome, Plan, PowerDown, Quit
from reconciler.model.status import ConditionType
from reconciler.model.vm import UpdatePolicy, VMSpec
from tests.unit.converge.model_host import HANDLE, Host, desired, remembered, running, text

CALM = desired(VMSpec(suspend=True))
DISARM = "SetReboot(reset) because spec.suspend is true: the guest reboots by itself"
GIVE_UP = "Remember() because spec.suspend is true: the stop that was under way is given up"


def armed(seen: ObservedVM) -> ObservedVM:
    """The same, whose QEMU was told to stop for a reboot of its guest."""
    assert seen.lifecycle.launch
    launch = replace(seen.lifecycle.launch, told={"reboot": "shutdown"})
    return replace(seen, lifecycle=replace(seen.lifecycle, launch=launch))


def stopping(seen: ObservedVM, rung: StopRung = StopRung.ACPI) -> ObservedVM:
    """The same, in the middle of a stop."""
    phase = StopPhase(rung, "a stop was asked for", seen.now_s + 60, ExitKind.STOPPED, asked_s=seen.now_s)
    return replace(seen, lifecycle=replace(seen.lifecycle, stop=phase))


def after(plan: Plan, seen: ObservedVM) -> Host:
    """The host when all of a plan was done."""
    host = Host(seen)
    for action in plan.actions:
        host.act(action)
    return host


@pytest.mark.parametrize("run_state", ["running", "paused", "prelaunch"])
def test_a_guests_own_reboot_is_its_own_again(run_state: str) -> None:
    seen = armed(running(desired(), run_state=run_state))
    plan = make_plan(CALM, seen)
    assert text(plan) == [DISARM]
    assert make_plan(CALM, after(plan, seen).seen) == Plan("web")


def test_when_the_suspension_ends_it_brings_what_waits_again() -> None:
    edited = VMSpec(update_policy=UpdatePolicy.ON_GUEST_REBOOT, cpu_cores=9)
    host = after(make_plan(CALM, armed(running(desired()))), armed(running(desired())))
    (again,) = make_plan(desired(edited, "g2"), host.seen).actions
    assert isinstance(again, SetReboot)
    assert again.action == "shutdown"


def test_a_guest_that_had_rebooted_before_is_said_to_wait() -> None:
    seen = armed(running(desired(), run_state="shutdown"))
    plan = make_plan(CALM, seen)
    assert plan.actions == ()
    ready = summarise(CALM, seen, plan, Outcome(), Context(1)).condition(ConditionType.READY)
    assert ready
    assert ready.reason == "RebootHeld"
    assert "suspend is false" in ready.message
    assert any(isinstance(action, Quit) for action in make_plan(desired(), seen).actions)


def test_a_guest_that_powered_itself_off_is_not() -> None:
    seen = armed(running(desired(), run_state="shutdown"))
    assert isinstance(seen.process, Alive)
    off = replace(seen.process.qemu, shutdown_reason="guest-shutdown")
    assert make_plan(CALM, replace(seen, process=Alive(HANDLE, off))) == Plan("web")


def test_a_stop_that_only_asked_the_guest_is_given_up_and_ends_nothing_days_later() -> None:
    seen = stopping(running(desired()))
    plan = make_plan(CALM, seen)
    assert text(plan) == [GIVE_UP]
    host = after(plan, seen)
    assert make_plan(CALM, host.seen) == Plan("web")
    host.wait(3 * 24 * 3600)
    assert make_plan(desired(), host.seen).actions == ()


def test_so_it_is_where_qemu_does_not_answer() -> None:
    seen = replace(stopping(running(desired())), process=Unknown("QmpTimeout", "no answer", HANDLE))
    assert remembered(make_plan(CALM, seen)).stop is None


def test_it_begins_anew_where_the_vm_shall_still_be_off() -> None:
    off = desired(VMSpec(state=desired().spec.state.STOPPED))
    host = after(make_plan(CALM, stopping(running(desired()))), stopping(running(desired())))
    assert isinstance(make_plan(off, host.seen).actions[0], PowerDown)


def test_a_guest_that_followed_it_was_stopped_and_is_started_again() -> None:
    seen = armed(stopping(running(desired(), run_state="shutdown")))
    assert make_plan(CALM, seen) == Plan("web")
    stop = remembered(make_plan(desired(), seen)).stop
    assert stop
    assert stop.ends_as is ExitKind.STOPPED


@pytest.mark.parametrize("rung", [StopRung.QUIT, StopRung.TERM, StopRung.KILL])
def test_what_was_done_to_qemu_already_keeps_its_name(rung: StopRung) -> None:
    assert make_plan(CALM, stopping(running(desired()), rung)) == Plan("web")


def test_both_at_once_keep_what_the_other_wrote() -> None:
    seen = armed(stopping(running(desired())))
    plan = make_plan(CALM, seen)
    assert text(plan) == [GIVE_UP, DISARM]
    assert make_plan(CALM, after(plan, seen).seen) == Plan("web")
