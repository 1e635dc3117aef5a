"""What start and stop do in each state, as data: the table of the HTTP contract. Pure.

A row is a `Situation`, a column an `Operation`; a cell says what is done, or the code it is refused with.
Next: `reconciler.api.operations`, which walks through it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from reconciler.api import messages
from reconciler.api.messages import Code, Text
from reconciler.model.plan import Wish
from reconciler.model.status import ConditionType, Truth, VMState, VMStatus
from reconciler.model.vm import DesiredVM, PowerState, Removal, Wanted


class Situation(Enum):
    """The rows of the table."""

    OFF = auto()
    """Stopped, as the manifest says."""
    RUNNING = auto()
    OWED = auto()
    """The manifest says running, and it does not run: back-off, starting, failed, guest powered off."""
    STOPPING = auto()
    """On its way to stopped."""
    PAUSED = auto()
    OPAQUE = auto()
    """Unknown, or its reconciling is suspended."""
    UNMANAGED = auto()
    """Runs without a manifest."""
    REMOVING = auto()
    """Its manifest is gone, and its removal is under way."""


class Does(Enum):
    """What an operation does where it is not refused."""

    WRITE = auto()
    """Edit the manifest and see it through."""
    ASK = auto()
    """Only ask: there is no manifest to edit."""


def situation(status: VMStatus, wanted: Wanted) -> Situation:
    """The row for a VM, from the latest status and what is wanted of it."""
    suspended = status.condition(ConditionType.SUSPENDED)
    if status.state is VMState.UNKNOWN or (suspended and suspended.status is Truth.TRUE):
        return Situation.OPAQUE
    match wanted:
        case None:
            return Situation.UNMANAGED
        case Removal():
            return Situation.REMOVING
        case DesiredVM(spec=spec):
            return _managed(status.state, spec.state)


def _managed(state: VMState, desired: PowerState) -> Situation:
    match state, desired:
        case VMState.STOPPED | VMState.FAILED, PowerState.STOPPED:
            return Situation.OFF
        case VMState.STOPPING, _:
            return Situation.STOPPING
        case _, PowerState.STOPPED:
            return Situation.STOPPING
        case VMState.RUNNING, _:
            return Situation.RUNNING
        case VMState.PAUSED, _:
            return Situation.PAUSED
        case _:
            return Situation.OWED


@dataclass(frozen=True)
class Operation:
    """A write of `spec.state`. `over` says when waiting ends, `done` whether that is what was asked."""

    target: PowerState
    wish: Wish | None
    failed: Code
    success: Text
    table: Mapping[Situation, Does | Code]
    over: Callable[[VMStatus | None], bool]
    done: Callable[[VMStatus | None], bool]


def _is_stalled(status: VMStatus) -> bool:
    stalled = status.condition(ConditionType.STALLED)
    return stalled is not None and stalled.status is Truth.TRUE


def _start_over(status: VMStatus | None) -> bool:
    if status is None:
        return True
    if status.state in {VMState.RUNNING, VMState.FAILED, VMState.UNKNOWN} or status.settled:
        return True
    return _is_stalled(status) and status.state not in {VMState.STARTING, VMState.STOPPING}


def _stop_over(status: VMStatus | None) -> bool:
    return status is None or status.state in {VMState.STOPPED, VMState.UNKNOWN}


START = Operation(
    target=PowerState.RUNNING,
    wish=Wish.START,
    failed=Code.VM_START_FAILED,
    success=messages.STARTED,
    table={
        Situation.OFF: Does.WRITE,
        Situation.RUNNING: Code.VM_ALREADY_RUNNING,
        Situation.OWED: Does.WRITE,
        Situation.STOPPING: Does.WRITE,
        Situation.PAUSED: Code.VM_ALREADY_RUNNING,
        Situation.OPAQUE: Code.VM_START_FAILED,
        Situation.UNMANAGED: Code.VM_ALREADY_RUNNING,
        Situation.REMOVING: Code.VM_START_FAILED,
    },
    over=_start_over,
    done=lambda status: status is not None and status.state is VMState.RUNNING,
)

STOP = Operation(
    target=PowerState.STOPPED,
    wish=Wish.STOP,
    failed=Code.VM_STOP_FAILED,
    success=messages.STOPPED,
    table={
        Situation.OFF: Code.VM_ALREADY_STOPPED,
        Situation.RUNNING: Does.WRITE,
        Situation.OWED: Does.WRITE,
        Situation.STOPPING: Does.WRITE,
        Situation.PAUSED: Does.WRITE,
        Situation.OPAQUE: Code.VM_STOP_FAILED,
        Situation.UNMANAGED: Does.ASK,
        Situation.REMOVING: Does.ASK,
    },
    over=_stop_over,
    done=lambda status: status is None or status.state is VMState.STOPPED,
)
