"""What start, stop, restart and delete do in each state, as data: the table of the HTTP contract. Pure.

A row is a `Situation`, a column an `Operation`; a cell says what is done, or the code it is refused with. A `Goal`
says when waiting for the outcome ends, and whether it is what was asked for.
Next: `reconciler.api.operations`, which walks through it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from reconciler.api import views
from reconciler.api.messages import Code
from reconciler.model.observed import ProcessHandle
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
    """Change the manifest and see it through."""
    ASK = auto()
    """Only ask: there is no manifest to change."""


def situation(status: VMStatus, wanted: Wanted) -> Situation:
    """The row for a VM, from the latest status and what is wanted of it."""
    if status.state is VMState.UNKNOWN or _holds(status, ConditionType.SUSPENDED):
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
    """A column of the table. `failed` is the code of what went wrong on the way."""

    failed: Code
    table: Mapping[Situation, Does | Code]


START = Operation(
    failed=Code.VM_START_FAILED,
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
)

STOP = Operation(
    failed=Code.VM_STOP_FAILED,
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
)

RESTART = Operation(
    failed=Code.VM_START_FAILED,
    table={
        Situation.OFF: Code.VM_NOT_RUNNING,
        Situation.RUNNING: Does.WRITE,
        Situation.OWED: Code.VM_NOT_RUNNING,
        Situation.STOPPING: Code.VM_NOT_RUNNING,
        Situation.PAUSED: Does.WRITE,
        Situation.OPAQUE: Code.VM_START_FAILED,
        Situation.UNMANAGED: Code.MANIFEST_INVALID,
        Situation.REMOVING: Code.VM_START_FAILED,
    },
)

RECREATE = Operation(
    failed=Code.VM_RECREATE_FAILED,
    table={
        Situation.OFF: Does.WRITE,
        Situation.RUNNING: Does.WRITE,
        Situation.OWED: Does.WRITE,
        Situation.STOPPING: Does.WRITE,
        Situation.PAUSED: Does.WRITE,
        Situation.OPAQUE: Code.VM_RECREATE_FAILED,
        Situation.UNMANAGED: Code.MANIFEST_INVALID,
        Situation.REMOVING: Code.VM_RECREATE_FAILED,
    },
)

DELETE = Operation(
    failed=Code.VM_STOP_FAILED,
    table={
        Situation.OFF: Does.WRITE,
        Situation.RUNNING: Does.WRITE,
        Situation.OWED: Does.WRITE,
        Situation.STOPPING: Does.WRITE,
        Situation.PAUSED: Does.WRITE,
        Situation.OPAQUE: Code.VM_STOP_FAILED,
        Situation.UNMANAGED: Does.WRITE,
        Situation.REMOVING: Does.WRITE,
    },
)


@dataclass(frozen=True)
class Goal:
    """`over` says when waiting ends, `done` whether what was reached is what was asked for. None: no such VM."""

    over: Callable[[VMStatus | None], bool]
    done: Callable[[VMStatus | None], bool]


def _start_over(status: VMStatus | None) -> bool:
    if status is None:
        return True
    if status.state in {VMState.RUNNING, VMState.FAILED, VMState.UNKNOWN} or status.settled:
        return True
    return _holds(status, ConditionType.STALLED) and status.state not in {VMState.STARTING, VMState.STOPPING}


def _is_stuck(status: VMStatus) -> bool:
    """Off, and what is left of it cannot be taken away."""
    return status.state is VMState.STOPPED and _holds(status, ConditionType.DEGRADED)


def _is_to_run(status: VMStatus) -> bool:
    return status.desired is not None and status.desired.spec.state is PowerState.RUNNING


def _runs(status: VMStatus | None) -> bool:
    return status is not None and status.state is VMState.RUNNING


STARTED = Goal(over=_start_over, done=_runs)

STOPPED = Goal(
    over=lambda s: s is None or s.state in {VMState.STOPPED, VMState.UNKNOWN} or _is_to_run(s),
    done=lambda s: s is None or s.state is VMState.STOPPED,
)

DELETED = Goal(
    over=lambda s: s is None or s.desired is not None or s.state is VMState.UNKNOWN or _is_stuck(s),
    done=lambda s: s is None or s.desired is not None,  # somebody made another VM of this name meanwhile
)


def restarted(before: ProcessHandle | None) -> Goal:
    """Another process runs than the one before."""

    def over(status: VMStatus | None) -> bool:
        if status is None or status.state is VMState.UNKNOWN:
            return True
        return status.process != before and _start_over(status)

    return Goal(over, lambda status: status is not None and status.process != before and _runs(status))


def recreated(before: ProcessHandle | None, *, runs: bool) -> Goal:
    """The VM has its new disk, and does what its manifest says: another process than before, or none."""

    def is_new(status: VMStatus) -> bool:
        return not status.renews and (before is None or status.process != before)

    def over(status: VMStatus | None) -> bool:
        if status is None or status.state is VMState.UNKNOWN:
            return True
        return is_new(status) and (status.settled or (runs and _start_over(status)))

    def done(status: VMStatus | None) -> bool:
        return status is not None and is_new(status) and (not runs or _runs(status))

    return Goal(over, done)


def created(*, runs: bool) -> Goal:
    """The agent has looked at the new VM; where it shall run, the VM does."""

    def over(status: VMStatus | None) -> bool:
        return status is not None and (not runs or _start_over(status))

    return Goal(over, lambda status: status is not None and (not runs or _runs(status)))


def in_force(*, power_changed: bool = False, medium_changed: bool = False) -> Goal:
    """The running VM is in line with its manifest, as far as a running VM can be."""
    waits = {VMState.RUNNING, VMState.PAUSED, VMState.STOPPED}
    if power_changed:
        waits |= {VMState.STARTING, VMState.STOPPING}

    def over(status: VMStatus | None) -> bool:
        if status is None or status.settled or status.state not in waits:
            return True
        troubled = any(_holds(status, kind) for kind in (ConditionType.DEGRADED, ConditionType.STALLED))
        return troubled and not status.acting  # what is done just now may be about to succeed

    def done(status: VMStatus | None) -> bool:
        refused = medium_changed and status is not None and _holds(status, ConditionType.DEGRADED)
        return status is not None and (not refused or _has_its_medium(status))

    return Goal(over, done)


def mounted(wanted: bool) -> Goal:
    """The ISO lies in the drive, or does not; of a VM that does not run, whether it will."""
    return Goal(
        in_force().over,
        lambda status: status is not None and views.is_mounted(status) is wanted,
    )


def _has_its_medium(status: VMStatus) -> bool:
    """Whether in the drive lies what the manifest names, or nothing where it names none."""
    if status.state not in {VMState.RUNNING, VMState.PAUSED}:
        return True
    wanted = status.desired is not None and status.desired.spec.medium is not None
    return views.is_mounted(status) is wanted


def _holds(status: VMStatus, kind: ConditionType) -> bool:
    stated = status.condition(kind)
    return stated is not None and stated.status is Truth.TRUE
