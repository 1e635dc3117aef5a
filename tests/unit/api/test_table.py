"""The table of the HTTP contract: which row a VM is in, and that every cell is there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.api import table
from reconciler.api.messages import Code
from reconciler.api.table import DELETE, RECREATE, RESTART, START, STOP, Does, Operation, Situation, situation
from reconciler.model.status import ConditionType, Truth, VMState
from reconciler.model.vm import PowerState, Removal, VMSpec, Wanted
from tests.contract.memory_controller import condition, desired, status_of

ON = desired("a")
OFF = desired("a", VMSpec(state=PowerState.STOPPED))
SUSPENDED = condition(ConditionType.SUSPENDED, Truth.TRUE, "Suspended", "")
BLOCKED = condition(ConditionType.STALLED, Truth.TRUE, "IsoMissing", "no such file")


@pytest.mark.parametrize("operation", [START, STOP, RESTART, RECREATE, DELETE])
def test_every_situation_has_a_cell(operation: Operation) -> None:
    assert set(operation.table) == set(Situation)


@pytest.mark.parametrize(
    ("state", "wanted", "row"),
    [
        (VMState.STOPPED, OFF, Situation.OFF),
        (VMState.RUNNING, ON, Situation.RUNNING),
        (VMState.STOPPED, ON, Situation.OWED),
        (VMState.STARTING, ON, Situation.OWED),
        (VMState.FAILED, ON, Situation.OWED),
        (VMState.STOPPING, ON, Situation.STOPPING),
        (VMState.STOPPING, OFF, Situation.STOPPING),
        (VMState.RUNNING, OFF, Situation.STOPPING),
        (VMState.PAUSED, ON, Situation.PAUSED),
        (VMState.UNKNOWN, ON, Situation.OPAQUE),
        (VMState.UNKNOWN, None, Situation.OPAQUE),
        (VMState.RUNNING, None, Situation.UNMANAGED),
        (VMState.RUNNING, Removal(ON), Situation.REMOVING),
    ],
)
def test_the_row_follows_from_what_is_and_what_is_wanted(
    state: VMState, wanted: Wanted, row: Situation
) -> None:
    assert situation(status_of(ON, "a", state), wanted) is row


@pytest.mark.parametrize("state", list(VMState))
def test_a_suspended_vm_is_opaque_in_every_state(state: VMState) -> None:
    status = replace(status_of(ON, "a", state), conditions=(SUSPENDED,))
    assert situation(status, ON) is Situation.OPAQUE


def test_the_documented_refusals_stand_in_the_table() -> None:
    assert STOP.table[Situation.OFF] is Code.VM_ALREADY_STOPPED
    assert START.table[Situation.RUNNING] is Code.VM_ALREADY_RUNNING
    assert START.table[Situation.PAUSED] is Code.VM_ALREADY_RUNNING
    assert STOP.table[Situation.UNMANAGED] is Does.ASK


@pytest.mark.parametrize(
    ("state", "settled", "stalled", "over"),
    [
        (VMState.RUNNING, False, False, True),
        (VMState.FAILED, False, False, True),
        (VMState.STOPPED, True, False, True),
        (VMState.STOPPED, False, True, True),
        (VMState.STOPPED, False, False, False),
        (VMState.STARTING, False, False, False),
        (VMState.STARTING, False, True, False),
        (VMState.STOPPING, False, True, False),
    ],
)
def test_a_start_is_over_when_it_came_to_an_end_and_not_while_it_goes_on(
    state: VMState, settled: bool, stalled: bool, over: bool
) -> None:
    conditions = (BLOCKED,) if stalled else ()
    status = replace(status_of(ON, "a", state), settled=settled, conditions=conditions)
    assert table.STARTED.over(status) is over


def test_a_stop_is_over_when_the_vm_is_off_or_gone_or_cannot_be_seen() -> None:
    assert table.STOPPED.over(None)
    assert table.STOPPED.over(status_of(OFF, "a", VMState.STOPPED))
    assert table.STOPPED.over(status_of(OFF, "a", VMState.UNKNOWN))
    assert not table.STOPPED.over(status_of(OFF, "a", VMState.STOPPING))
    assert table.STOPPED.over(status_of(ON, "a", VMState.STARTING))  # somebody else wants it to run
    assert not table.STOPPED.done(status_of(OFF, "a", VMState.UNKNOWN))
