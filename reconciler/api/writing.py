"""The one way that every write goes.

    change the manifest → ask for a round → wait until the round has seen it through, or the deadline
        → answer with what was seen

Nothing is claimed that was not seen. A rehearsal (`dryRun`) ends after the first step, which writes nothing then, and
tells what a round would do. Next: `reconciler.api.operations`, which says what each write changes and waits for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from reconciler.api import messages, views
from reconciler.api.errors import ApiError, from_os, invalid
from reconciler.api.messages import Code, Text
from reconciler.api.ports import ControllerPort
from reconciler.api.table import Goal
from reconciler.manifest.store import Expect
from reconciler.model.errors import (
    ConflictError,
    PortConflictError,
    PreconditionError,
    ProtectedError,
    StateError,
)
from reconciler.model.plan import Plan, Wish
from reconciler.model.status import ConditionType, Truth, VMState, VMStatus
from reconciler.model.vm import DesiredVM, PowerState, Wanted

WAITING_MAX = 32  # half of the server's threads: reads and /healthz never starve
WRITES_MAX = 48  # these included, those that write just now, perhaps to a slow disk
EDIT_ATTEMPTS = 3
READ_ATTEMPTS, READ_PAUSE_S = 25, 0.2  # a git at work in the directory is mostly done in a moment


@dataclass(frozen=True)
class Terms:
    """What a client attaches to any write: whether it is a rehearsal, and which versions it has seen."""

    dry_run: bool = False
    expect: Expect = None


@dataclass(frozen=True)
class Task:
    """One write of one VM. `write` changes the manifest and returns what is wanted of the VM then."""

    name: str
    write: Callable[[Terms], Wanted]
    goal: Goal
    failed: Code
    timeout_s: float
    wish: Wish | None = None


@dataclass(frozen=True)
class Result:
    """What became of a write: the state that was reached, None for no such VM; of a rehearsal, the `plan`."""

    status: VMStatus | None
    wanted: Wanted
    plan: Plan | None = None


class Writer:
    """Does tasks. Safe for any number of threads.

    At most `WRITES_MAX` do anything at all, and at most `WAITING_MAX` of them wait for an outcome.
    """

    def __init__(self, controller: ControllerPort) -> None:
        self._controller = controller
        self._writes = threading.BoundedSemaphore(WRITES_MAX)
        self._waiting = threading.BoundedSemaphore(WAITING_MAX)

    def run(self, task: Task, terms: Terms) -> Result:
        """Do it. Raises ApiError unless it came to what was asked for, ManifestError for a broken manifest."""
        if not self._writes.acquire(blocking=False):
            raise _unsettled(task, self._controller.board.get(task.name), messages.FULL)
        try:
            return self._run(task, terms)
        finally:
            self._writes.release()

    def _run(self, task: Task, terms: Terms) -> Result:
        before = self._controller.wanted(task.name)
        after = self._written(task, terms)
        if terms.dry_run:
            plan = self._controller.preview(task.name, after, task.wish)
            return Result(self._controller.board.get(task.name), after, plan)
        return Result(self._seen_through(task, before, after), after)

    def _written(self, task: Task, terms: Terms) -> Wanted:
        """Make the change; one that meets another one is made again."""
        for _ in range(EDIT_ATTEMPTS):
            try:
                return task.write(terms)
            except ConflictError:
                continue
            except PreconditionError as error:
                raise ApiError(Code.PRECONDITION_FAILED, extra={"generation": error.now}) from error
            except ProtectedError as error:
                raise ApiError(Code.VM_PROTECTED) from error
            except PortConflictError as error:
                raise invalid("vncPort", f"该端口不可用：{error}", str(error)) from error
            except StateError as error:
                if isinstance(error.__cause__, OSError):
                    raise from_os(error.__cause__) from error
                raise ApiError(task.failed, Text.same(str(error))) from error
            except OSError as error:
                raise from_os(error) from error
        raise ApiError(task.failed, messages.CONTESTED)

    def _seen_through(self, task: Task, before: Wanted, after: Wanted) -> VMStatus | None:
        """Ask, and wait for the outcome, if there is room to wait. Raises ApiError unless it is what was asked for."""
        if not self._waiting.acquire(blocking=False):
            self._controller.ask(task.name, task.wish)
            raise _unsettled(task, self._controller.board.get(task.name), messages.BUSY)
        try:
            ticket = self._hand_over(task, before, after)
            return self._outcome(task, ticket, after)
        finally:
            self._waiting.release()

    def _hand_over(self, task: Task, before: Wanted, after: Wanted) -> int:
        """Ask until a wish goes to a round that knows what was written, for to another one it means nothing.

        Asking reads the manifests; but nothing that is read counts while git is at work among them.
        """

        def is_read(_: VMStatus | None = None) -> bool:
            now = _version(self._controller.wanted(task.name))
            return now == _version(after) or now != _version(before)

        for _ in range(READ_ATTEMPTS):
            was_read = is_read()
            ticket = self._controller.ask(task.name, task.wish)
            if was_read:
                return ticket
            self._controller.board.wait_for(task.name, is_read, READ_PAUSE_S)
        raise _unsettled(task, self._controller.board.get(task.name), messages.UNREAD)

    def _outcome(self, task: Task, ticket: int, after: Wanted) -> VMStatus | None:
        def over(status: VMStatus | None) -> bool:
            return (status is None or status.round > ticket) and task.goal.over(status)

        status = self._controller.board.wait_for(task.name, over, task.timeout_s)
        if not over(status):
            raise _unsettled(task, status, _still(status))
        if not task.goal.done(status):
            raise _failed(task, status, after)
        return status


def explanation(status: VMStatus) -> str:
    """The most telling message stated of a VM: what stalls or degrades it, why it is not ready, else its state."""
    for kind in (ConditionType.STALLED, ConditionType.DEGRADED):
        if (stated := status.condition(kind)) and stated.status is Truth.TRUE:
            return stated.message
    ready = status.condition(ConditionType.READY)
    if ready and ready.status is not Truth.TRUE and ready.message:
        return ready.message
    return f"the VM is {status.state}"


def _still(status: VMStatus | None) -> Text:
    """That it is not done; and for what it waits, where that is not its own doing."""
    ready = status.condition(ConditionType.READY) if status else None
    waits = ready is not None and ready.reason == "WaitingForDependencies"
    return messages.UNSETTLED + Text.same(f": {ready.message}") if ready and waits else messages.UNSETTLED


def _version(wanted: Wanted) -> object:
    return wanted.generation if isinstance(wanted, DesiredVM) else type(wanted)


def _unsettled(task: Task, status: VMStatus | None, why: Text) -> ApiError:
    return ApiError(task.failed, why, extra=_as_it_is(status, settled=False))


def _failed(task: Task, status: VMStatus | None, after: Wanted) -> ApiError:
    """It ended otherwise than was asked for: say why, in the words of who knows, and what comes next."""
    if status is None:
        return ApiError(task.failed, messages.GONE, extra=_as_it_is(status, settled=True))
    if status.desired is not None and _version(status.desired) != _version(after):
        return ApiError(task.failed, messages.SUPERSEDED, extra=_as_it_is(status, settled=True))
    reason = Text.same(explanation(status))
    wants_running = status.desired is not None and status.desired.spec.state is PowerState.RUNNING
    if status.state is VMState.FAILED and wants_running:
        reason += messages.keeps_trying(status.next_try_in_s)
    return ApiError(task.failed, reason, extra=_as_it_is(status, settled=True))


def _as_it_is(status: VMStatus | None, *, settled: bool) -> dict[str, object]:
    return {"settled": settled, "vm": views.brief(status) if status else None}
