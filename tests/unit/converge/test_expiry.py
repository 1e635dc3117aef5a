"""`ttl`: when a VM's time is over, what becomes of it, and what gives it more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.converge.expiry import left_s
from reconciler.converge.planner import make_plan
from reconciler.converge.summarise import Context, summarise
from reconciler.model.observed import Gone, ObservedVM
from reconciler.model.plan import Launch, Outcome, PowerDown, Wish
from reconciler.model.status import ConditionType, Truth, VMState
from reconciler.model.vm import VMSpec
from tests.unit.converge.model_host import IDENTITY, desired, remembered, running, stopped

HOUR = desired(VMSpec(ttl_s=3600))


def at(utc: str, seen: ObservedVM, started_at: str | None = "2026-01-01T00:00:00.000Z") -> ObservedVM:
    """The same at this time, of a VM that was started first at that."""
    return replace(seen, utc=utc, identity=replace(IDENTITY, started_at=started_at))


@pytest.mark.parametrize(
    ("utc", "left"),
    [
        ("2026-01-01T00:00:00.000Z", 3600),
        ("2026-01-01T00:59:59.500Z", 0.5),
        ("2026-01-02T01:00:00.000Z", -86400),
    ],
)
def test_it_counts_from_the_first_start_whatever_boot_the_host_is_in(utc: str, left: float) -> None:
    assert left_s(HOUR.spec, replace(at(utc, stopped(HOUR)), boot_id="boot-7")) == left


def test_before_its_first_start_and_without_a_ttl_there_is_no_end() -> None:
    assert left_s(HOUR.spec, at("2026-01-01T00:00:00Z", stopped(HOUR), None)) is None
    assert left_s(VMSpec(), at("2026-01-01T00:00:00Z", running(HOUR))) is None


def test_a_vm_of_an_earlier_agent_counts_from_the_launch_that_is_known() -> None:
    assert left_s(HOUR.spec, at("2026-01-01T00:10:00Z", running(HOUR), None)) == 3000


def test_and_still_does_when_the_record_of_that_launch_is_gone() -> None:
    seen = at("2026-01-01T02:00:00Z", running(HOUR), None)
    memory = remembered(make_plan(HOUR, replace(seen, process=Gone(0))))
    assert memory.launch is None
    off = replace(stopped(HOUR), utc=seen.utc, lifecycle=memory)
    assert left_s(HOUR.spec, off) == -3600
    plan = make_plan(HOUR, off, Wish.START)
    assert not any(isinstance(action, Launch) for action in plan.actions)


def test_and_through_launches_that_date_it_anew() -> None:
    seen = at("2026-01-01T02:00:00Z", running(HOUR), None)
    memory = remembered(make_plan(HOUR, replace(seen, process=Gone(0))))
    again = at("2026-01-01T03:00:00Z", running(HOUR), "2026-01-01T02:30:00Z")
    later = replace(again.lifecycle, started_at=memory.started_at)
    assert left_s(HOUR.spec, replace(again, lifecycle=later)) == -7200
    end = make_plan(HOUR, replace(again, lifecycle=later, process=Gone(0)))
    assert remembered(end).started_at == memory.started_at


def test_where_the_identity_says_it_nothing_more_is_remembered() -> None:
    ended = replace(at("2026-01-01T00:10:00Z", running(HOUR)), process=Gone(0))
    assert remembered(make_plan(HOUR, ended)).started_at is None


def test_until_then_it_runs_settled_and_is_looked_at_in_time() -> None:
    seen = at("2026-01-01T00:59:00Z", running(HOUR))
    plan = make_plan(HOUR, seen)
    assert (plan.actions, plan.look_again_s, plan.later_s) == ((), None, 60)
    assert summarise(HOUR, seen, plan, Outcome(), Context(1)).settled


def test_then_it_is_shut_down_by_the_ladder() -> None:
    plan = make_plan(HOUR, at("2026-01-01T01:00:00Z", running(HOUR)))
    assert isinstance(plan.actions[0], PowerDown)
    assert plan.actions[0].cause == "its time to live is over"


def test_and_stays_off_also_when_it_is_asked_to_start_and_says_what_to_edit() -> None:
    seen = at("2026-01-01T02:00:00Z", stopped(HOUR))
    assert make_plan(HOUR, seen, Wish.START).actions == ()
    plan = make_plan(HOUR, seen)
    assert plan.actions == ()
    status = summarise(HOUR, seen, plan, Outcome(), Context(1))
    ready = status.condition(ConditionType.READY)
    assert ready
    assert (status.state, status.settled) == (VMState.STOPPED, True)
    assert (ready.status, ready.reason) == (Truth.FALSE, "Expired")
    assert "spec.ttl (1:00:00)" in ready.message
    assert "make spec.ttl longer, or take it out" in ready.message


@pytest.mark.parametrize("ttl_s", [None, 86400])
def test_without_it_or_with_more_it_runs_again(ttl_s: int | None) -> None:
    wanted = desired(VMSpec(ttl_s=ttl_s), "g2")
    plan = make_plan(wanted, at("2026-01-01T02:00:00Z", stopped(HOUR)))
    assert any(isinstance(action, Launch) for action in plan.actions)
