"""A new root disk: asked for once, remembered until it is there, whatever the VM does and whoever the agent is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.converge.planner import make_plan
from reconciler.converge.summarise import Context, summarise
from reconciler.model.observed import Disk, ExitKind, ObservedVM
from reconciler.model.plan import Outcome, Wish
from reconciler.model.vm import PowerState, Removal, VMSpec
from tests.unit.converge.model_host import Host, after_exit, desired, remembered, running, stopped

OFF = VMSpec(state=PowerState.STOPPED)


def carried_out(spec: VMSpec, seen: ObservedVM) -> tuple[Host, list[str]]:
    """The wish, and all rounds until nothing is to do; what was done, by name."""
    wanted, host, done = desired(spec), Host(seen), list[str]()
    wish: Wish | None = Wish.RECREATE
    for _ in range(20):
        plan = make_plan(wanted, host.look(wanted), wish)
        status = summarise(wanted, host.look(wanted), plan, Outcome(), Context(1))
        assert status.renews is ("CreateDisk" not in done)
        wish = None
        for action in plan.actions:
            host.act(action)
        done += [type(action).__name__ for action in plan.actions]
        if not plan.actions:
            break
    return host, done


def test_a_vm_that_runs_is_stopped_gets_it_and_runs_again() -> None:
    host, done = carried_out(VMSpec(), running(desired()))
    order = [name for name in done if name not in {"Remember", "CleanUp"}]
    assert order == ["PowerDown", "Quit", "ReplaceDisk", "CreateDisk", "Launch", "Continue"]
    assert isinstance(host.seen.disk, Disk)
    assert not host.seen.lifecycle.renew


@pytest.mark.parametrize("seen", [stopped(desired(OFF)), after_exit(ExitKind.GUEST_SHUTDOWN, OFF)])
def test_a_vm_that_is_off_gets_it_and_stays_off(seen: ObservedVM) -> None:
    _, done = carried_out(OFF, seen)
    assert [name for name in done if name != "Remember"] == ["ReplaceDisk", "CreateDisk"]


def test_it_forgets_how_the_vm_ended_before() -> None:
    _, done = carried_out(VMSpec(), after_exit(ExitKind.GUEST_SHUTDOWN))
    assert "Launch" in done


def test_the_end_of_the_run_that_makes_room_does_not_forget_it() -> None:
    seen = running(desired())
    due = replace(seen.lifecycle, renew=True)
    host = Host(replace(seen, lifecycle=due))
    for _ in range(2):
        for action in make_plan(desired(), host.seen).actions:
            host.act(action)
    assert remembered(make_plan(desired(), host.seen)).renew


def test_a_disk_that_was_set_aside_already_is_made_again_by_the_next_agent() -> None:
    half = replace(stopped(desired(OFF)), disk=None)
    half = replace(half, lifecycle=replace(half.lifecycle, renew=True))
    names = [type(action).__name__ for action in make_plan(desired(OFF), half).actions]
    assert names == ["ReplaceDisk", "CreateDisk", "Remember"]


def test_a_vm_that_is_removed_meanwhile_goes_with_its_disk_and_is_restored_with_it() -> None:
    seen = stopped(desired())
    due = replace(seen, lifecycle=replace(seen.lifecycle, renew=True))
    plan = make_plan(Removal(desired()), due)
    assert [type(action).__name__ for action in plan.actions] == ["Remember", "SetAside"]
    assert not remembered(plan).renew


def test_nothing_happens_to_a_vm_that_is_suspended() -> None:
    calm = desired(VMSpec(suspend=True))
    assert make_plan(calm, running(calm), Wish.RECREATE).actions == ()
