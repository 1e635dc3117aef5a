"""Who waits for whom, seen against the board; and what the planner makes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.converge.order import Order
from reconciler.converge.planner import make_plan
from reconciler.converge.summarise import Context, summarise
from reconciler.model.observed import ExitKind, ObservedVM
from reconciler.model.plan import Launch, Outcome, PowerDown, Wish
from reconciler.model.status import ConditionType, Truth, VMState, VMStatus
from reconciler.model.vm import DesiredVM, PowerState, Removal, VMSpec, Wanted
from tests.unit.converge.model_host import after_exit, desired, running, stopped

OFF = VMSpec(state=PowerState.STOPPED)
AFTER_DB = VMSpec(depends_on=("db",))


def said(wanted: DesiredVM, seen: ObservedVM) -> VMStatus:
    """The status of a VM as a round gives it."""
    status = summarise(wanted, seen, make_plan(wanted, seen), Outcome(), Context(1))
    return replace(status, name=wanted.name)


def order(status: VMStatus | None, wanted: Wanted, *, going_down: bool = False) -> Order:
    """An order in which `web` is started after `db`, of which this is known."""
    return Order(
        lambda _: status, lambda _: wanted, lambda name: ("web",) if name == "db" else (), going_down
    )


DB = desired(name="db")


@pytest.mark.parametrize(
    ("status", "wanted", "words"),
    [
        (said(DB, running(DB)), DB, ()),
        (None, DB, ("db, which was not looked at yet",)),
        (None, None, ("db, which no manifest describes",)),
        (said(DB, running(DB)), Removal(DB), ()),
        (said(desired(OFF), stopped(DB)), desired(OFF), ("db, which is stopped",)),
        (said(DB, stopped(DB)), DB, ("db, which is starting",)),
        (said(DB, running(DB, run_state="paused")), DB, ("db, which is paused",)),
        (
            said(DB, after_exit(ExitKind.GUEST_SHUTDOWN)),
            DB,
            ("db, which is stopped (GuestShutdown)",),
        ),
    ],
)
def test_what_a_vm_waits_for_is_said_in_words(
    status: VMStatus | None, wanted: Wanted, words: tuple[str, ...]
) -> None:
    assert order(status, wanted).waits_for(desired(AFTER_DB)) == words


def test_while_it_waits_it_is_not_started_and_says_for_whom() -> None:
    wanted = desired(AFTER_DB)
    seen = replace(stopped(wanted), waits_for=("db, which is starting",))
    plan = make_plan(wanted, seen)
    assert (plan.actions, plan.look_again_s) == ((), 30)
    status = said(wanted, seen)
    ready = status.condition(ConditionType.READY)
    assert ready
    assert (ready.status, ready.reason) == (Truth.FALSE, "WaitingForDependencies")
    assert ready.message == "it is started after db, which is starting"
    assert (status.state, status.settled) == (VMState.STOPPED, False)


def test_an_explicit_start_waits_as_well() -> None:
    wanted = desired(AFTER_DB)
    seen = replace(stopped(wanted), waits_for=("db, which is starting",))
    assert not any(isinstance(action, Launch) for action in make_plan(wanted, seen, Wish.START).actions)


def test_a_vm_that_runs_is_not_stopped_because_another_is_not_ready() -> None:
    wanted = desired(AFTER_DB)
    seen = running(wanted)
    assert make_plan(wanted, replace(seen, waits_for=("db, which is failed",))) == make_plan(wanted, seen)


def test_the_news_that_a_vm_is_ready_goes_to_those_that_wait_for_it_and_no_other_news_does() -> None:
    ready, starting = said(DB, running(DB)), said(DB, stopped(DB))
    normal = order(None, DB)
    assert normal.neighbours(None, ready) == ("web",)
    assert normal.neighbours(starting, ready) == ("web",)
    assert normal.neighbours(ready, starting) == ("web",)
    assert normal.neighbours(ready, replace(ready, round=2)) == ()
    down = order(None, DB, going_down=True)
    web = said(desired(AFTER_DB), stopped(desired(AFTER_DB)))
    assert down.neighbours(None, web) == ("db",)


@pytest.mark.parametrize(
    ("state", "needed"),
    [
        (VMState.RUNNING, ("web",)),
        (VMState.STOPPING, ("web",)),
        (VMState.PAUSED, ("web",)),
        (VMState.STOPPED, ()),
        (VMState.FAILED, ()),
        (VMState.UNKNOWN, ()),
    ],
)
def test_when_the_host_goes_down_a_vm_stays_until_those_after_it_are_off(
    state: VMState, needed: tuple[str, ...]
) -> None:
    web = replace(said(desired(AFTER_DB), stopped(desired(AFTER_DB))), state=state)
    assert order(web, None, going_down=True).needed_by("db") == needed
    assert order(web, None).needed_by("db") == ()


def test_before_it_was_looked_at_a_vm_counts_as_on() -> None:
    assert order(None, None, going_down=True).needed_by("db") == ("web",)


def test_nothing_waits_to_be_started_while_the_host_goes_down() -> None:
    assert order(None, None, going_down=True).waits_for(desired(AFTER_DB)) == ()


def test_a_vm_that_is_needed_is_stopped_later_unless_by_force_or_without_a_manifest() -> None:
    off = desired(OFF)
    seen = replace(running(desired()), needed_by=("web",))
    plan = make_plan(off, seen)
    assert plan.actions == ()
    assert plan.waiting
    assert plan.waiting.message == "it is stopped after web"
    assert make_plan(off, seen, Wish.FORCE_STOP).actions != ()
    assert any(isinstance(action, PowerDown) for action in make_plan(None, seen, Wish.STOP).actions)
    assert any(
        isinstance(action, PowerDown) for action in make_plan(off, replace(seen, needed_by=())).actions
    )
