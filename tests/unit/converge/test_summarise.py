"""What is said of a VM: one word for its state, and conditions that tell why."""

from __future__ import annotations

from dataclasses import astuple, replace

import pytest

from reconciler.converge.planner import make_plan
from reconciler.converge.summarise import Context, summarise
from reconciler.model.observed import (
    Exit,
    ExitKind,
    Fault,
    Gone,
    Lifecycle,
    ObservedVM,
    StopPhase,
    StopRung,
    Unknown,
)
from reconciler.model.plan import Launch, Outcome
from reconciler.model.status import ConditionType, Truth, VMState, VMStatus
from reconciler.model.vm import DesiredVM, PowerState, Problem, Removal, RestartPolicy, VMSpec, Wanted
from tests.unit.converge.model_host import HANDLE, desired, record, running, stopped

ON = VMSpec()
OFF = VMSpec(state=PowerState.STOPPED)
FIRST = Context(1)


def said(
    wanted: Wanted, seen: ObservedVM, outcome: Outcome | None = None, context: Context = FIRST
) -> VMStatus:
    """The status after a round in which every action was done, unless `outcome` says otherwise."""
    plan = make_plan(wanted, seen)
    return summarise(wanted, seen, plan, outcome or Outcome(plan.actions), context)


def ready(status: VMStatus) -> tuple[Truth, str]:
    condition = status.condition(ConditionType.READY)
    assert condition
    return condition.status, condition.reason


def ended(kind: ExitKind, failures: int, spec: VMSpec = ON) -> ObservedVM:
    seen = stopped(desired(spec))
    end = Exit(kind, "g1", "it ended", seen.utc, seen.now_s - 1, seen.boot_id)
    return replace(seen, lifecycle=Lifecycle(last_exit=end, unanswered=True, failures=failures))


@pytest.mark.parametrize(
    ("wanted", "seen", "state", "truth", "reason"),
    [
        (desired(), running(desired()), VMState.RUNNING, Truth.TRUE, "Running"),
        (desired(OFF), stopped(desired()), VMState.STOPPED, Truth.TRUE, "Stopped"),
        (desired(), stopped(desired()), VMState.STARTING, Truth.FALSE, "Starting"),
        (desired(), running(desired(), run_state="prelaunch"), VMState.STARTING, Truth.FALSE, "Starting"),
        (desired(OFF), running(desired()), VMState.STOPPING, Truth.FALSE, "Stopping"),
        (desired(), running(desired(), run_state="paused"), VMState.PAUSED, Truth.FALSE, "Paused"),
        (desired(), running(desired(), run_state="io-error"), VMState.PAUSED, Truth.FALSE, "Paused"),
        (desired(), running(desired(), run_state="shutdown"), VMState.STOPPING, Truth.FALSE, "Stopping"),
        (desired(), ended(ExitKind.GUEST_SHUTDOWN, 1), VMState.STOPPED, Truth.FALSE, "GuestShutdown"),
        (desired(), ended(ExitKind.CRASHED, 3), VMState.FAILED, Truth.FALSE, "Crashed"),
        (
            desired(VMSpec(restart_policy=RestartPolicy.NEVER)),
            ended(ExitKind.CRASHED, 1, VMSpec(restart_policy=RestartPolicy.NEVER)),
            VMState.FAILED,
            Truth.FALSE,
            "Crashed",
        ),
        (Removal(desired()), running(desired()), VMState.STOPPING, Truth.FALSE, "Removing"),
        (None, running(desired()), VMState.RUNNING, Truth.FALSE, "NoManifest"),
    ],
)
def test_the_state_and_the_reason(
    wanted: Wanted, seen: ObservedVM, state: VMState, truth: Truth, reason: str
) -> None:
    status = said(wanted, seen)
    assert status.state is state
    assert ready(status) == (truth, reason)


def test_what_was_not_found_out_is_unknown_and_says_why() -> None:
    lost = Unknown("QmpTimeout", "no answer", HANDLE)
    status = said(desired(), replace(running(desired()), process=lost))
    assert status.state is VMState.UNKNOWN
    assert ready(status) == (Truth.UNKNOWN, "QmpTimeout")
    assert status.process == HANDLE


def test_a_stop_that_is_under_way_is_a_stop_though_qemu_answers_no_more() -> None:
    seen = running(desired())
    phase = StopPhase(StopRung.QUIT, "asked", seen.now_s + 9, ExitKind.STOPPED)
    mute = replace(
        seen,
        lifecycle=replace(seen.lifecycle, stop=phase),
        process=Unknown("QmpLost", "it hung up", HANDLE),
    )
    status = said(desired(OFF), mute)
    assert (status.state, ready(status)) == (VMState.STOPPING, (Truth.UNKNOWN, "QmpLost"))


def test_a_back_off_names_the_next_try() -> None:
    status = said(desired(), ended(ExitKind.CRASHED, 3))
    condition = status.condition(ConditionType.READY)
    assert condition
    assert condition.message == "it ended; 3 failures in a row, next try in 19 s"
    assert status.next_try_in_s == 19


def test_an_action_that_failed_is_the_reason() -> None:
    seen = stopped(desired())
    fault = Fault("SpawnFailed", "no such program")
    outcome = Outcome((), Launch("x", desired()), fault)
    status = said(desired(), seen, outcome, Context(1, retry_s=4.0))
    assert status.next_try_in_s == 4.0
    assert (status.state, ready(status)) == (VMState.FAILED, (Truth.FALSE, "SpawnFailed"))
    assert not status.settled


def test_an_action_that_failed_on_a_running_vm_degrades_it_and_leaves_it_running() -> None:
    fault = Fault("MediumLocked", "the guest holds the tray")
    status = said(desired(), running(desired()), Outcome((), None, fault))
    assert status.state is VMState.RUNNING
    condition = status.condition(ConditionType.DEGRADED)
    assert condition
    assert condition.reason == "MediumLocked"


def test_pending_changes_are_listed_and_leave_the_vm_ready() -> None:
    status = said(desired(VMSpec(memory_mib=4096), "g2"), running(desired()))
    condition = status.condition(ConditionType.RESTART_REQUIRED)
    assert condition
    assert condition.message == "memory: 2048 → 4096 (this run can have 2048 at most)"
    assert ready(status)[0] is Truth.TRUE


def test_a_broken_manifest_stalls_and_tells_the_place() -> None:
    problem = Problem("web.yaml", 7, 11, "spec.memory", "found 'lots', expected a whole number")
    status = said(desired(), running(desired()), context=Context(1, problems=(problem,)))
    condition = status.condition(ConditionType.STALLED)
    assert condition
    assert condition.reason == "ManifestInvalid"
    assert "web.yaml:7:11: spec.memory" in condition.message


def test_a_held_removal_and_a_suspension_are_stated() -> None:
    held = said(desired(), running(desired()), context=Context(1, held=Fault("PruneHeld", "why")))
    assert held.condition(ConditionType.PRUNE_HELD)
    calm = said(desired(VMSpec(suspend=True)), running(desired()))
    assert calm.condition(ConditionType.SUSPENDED)


def test_the_observed_generation_is_the_last_one_that_was_settled() -> None:
    settled = said(desired(), running(desired()))
    assert (settled.observed_generation, settled.settled) == ("g1", True)
    stopping = said(desired(OFF, "g2"), running(desired()), context=Context(2, previous=settled))
    assert (stopping.observed_generation, stopping.settled) == ("g1", False)


def test_a_transition_keeps_its_time_until_the_condition_changes() -> None:
    first = said(desired(), running(desired()))
    later = replace(running(desired()), utc="2026-01-01T01:00:00.000Z")
    same = said(desired(), later, context=Context(2, previous=first))
    other = said(desired(), replace(later, process=Gone(-9)), context=Context(3, previous=same))
    times = [s.conditions[0].last_transition for s in (first, same, other)]
    assert times == ["2026-01-01T00:00:00.000Z"] * 2 + ["2026-01-01T01:00:00.000Z"]


def test_the_port_is_the_one_in_use_until_the_restart() -> None:
    before = desired(VMSpec(vnc_port=5901))
    assert said(desired(VMSpec(vnc_port=5902), "g2"), running(before)).vnc_port == 5901
    assert said(DesiredVM("web", VMSpec(vnc_port=5902), "g", before.source), stopped(before)).vnc_port == 5902


def test_a_vm_that_is_gone_has_no_process_and_no_start_time() -> None:
    crashed = replace(running(desired()), process=Gone(-9), lifecycle=Lifecycle(launch=record(desired())))
    status = said(desired(), crashed)
    assert (status.process, status.started_at) == (None, None)


EXPOSED = Fault("SameUser", "a guest reaches the screens of all VMs at 10.0.2.2")


def test_a_guest_that_reaches_screens_is_said_beside_a_vm_that_is_ready() -> None:
    status = said(desired(), replace(running(desired()), exposed=EXPOSED))
    condition = status.condition(ConditionType.HOST_REACHABLE)
    assert condition
    assert (condition.status, condition.reason, condition.message) == (Truth.TRUE, *astuple(EXPOSED))
    assert ready(status) == (Truth.TRUE, "Running")
    assert status.settled


def test_a_vm_that_is_off_reaches_nothing_and_one_that_cannot_be_asked_may() -> None:
    off = said(desired(OFF), replace(stopped(desired()), exposed=EXPOSED))
    assert off.condition(ConditionType.HOST_REACHABLE) is None
    mute = replace(running(desired()), process=Unknown("QmpTimeout", "no answer", HANDLE), exposed=EXPOSED)
    assert said(desired(), mute).condition(ConditionType.HOST_REACHABLE)


def test_where_screens_are_closed_nothing_is_said() -> None:
    assert said(desired(), running(desired())).condition(ConditionType.HOST_REACHABLE) is None
