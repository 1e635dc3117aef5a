"""The one way that every write of a VM's state goes; what each does in which state stands in `table`.

    find → look the state up in the table → edit the manifest, if it differs → ask for a round
         → wait until the round has seen it through, or the deadline → answer with what was seen

Nothing is claimed that was not seen. Next: `reconciler.api.views`.
"""

from __future__ import annotations

import threading
from pathlib import PurePath

from reconciler.api import messages, views
from reconciler.api.errors import ApiError, from_os
from reconciler.api.messages import Code, Text
from reconciler.api.ports import ControllerPort
from reconciler.api.table import Does, Operation, Situation, situation
from reconciler.model.errors import ConflictError, ManifestError, StateError
from reconciler.model.plan import Wish
from reconciler.model.status import ConditionType, Truth, VMState, VMStatus
from reconciler.model.vm import DesiredVM, PowerState, Removal, Shutdown, Wanted, is_vm_name

WAITING_MAX = 32  # half of the server's threads: reads and /healthz never starve
EDIT_ATTEMPTS = 3
START_TIMEOUT_S = 60.0
STOP_GRACE_S = 30.0  # on top of the guest's own time: the rest of the stop ladder
FIRST_LOOK_TIMEOUT_S = 5.0
READ_ATTEMPTS, READ_PAUSE_S = 25, 0.2  # a git at work in the directory is mostly done in a moment


class Operations:
    """The writes. Safe for any number of threads; at most `WAITING_MAX` of them wait for an outcome."""

    def __init__(self, controller: ControllerPort) -> None:
        self._controller = controller
        self._waiting = threading.BoundedSemaphore(WAITING_MAX)

    def run(self, operation: Operation, name: str, *, force: bool = False) -> VMStatus | None:
        """Do it, and return the state that was reached; None for a VM that is no more. Raises ApiError.

        `force` makes of a stop the power cut.
        """
        status = self.find(name)
        wanted = self._controller.wanted(name)
        match operation.table[row := situation(status, wanted)]:
            case Code() as code:
                raise ApiError(code, _why_refused(row, status) if code is operation.failed else None)
            case Does.WRITE:
                self._write(operation, name, wanted)
            case Does.ASK:
                pass
        wish = Wish.FORCE_STOP if force else operation.wish
        return self._see_through(operation, name, wish, _timeout_s(operation, row, wanted, force=force))

    def find(self, name: str) -> VMStatus:
        """The latest status. Raises ApiError for no such VM, ManifestError where its file is broken."""
        status = self._controller.board.get(name) if is_vm_name(name) else None
        if status is None and is_vm_name(name) and self._controller.wanted(name) is not None:
            self._controller.ask(name)
            status = self._controller.board.wait_for(name, lambda s: s is not None, FIRST_LOOK_TIMEOUT_S)
        if status is not None and views.is_shown(status):
            return status
        broken = tuple(p for p in self._controller.problems() if PurePath(p.file).stem == name)
        if broken:
            raise ManifestError(broken)
        raise ApiError(Code.VM_NOT_FOUND)

    def _write(self, operation: Operation, name: str, wanted: Wanted) -> None:
        """Make the manifest say so, where it does not; a write that meets another one is made again."""
        if name in self._controller.held():
            raise ApiError(Code.MANIFEST_INVALID, messages.HELD)
        if isinstance(wanted, DesiredVM) and wanted.spec.state is operation.target:
            return
        for _ in range(EDIT_ATTEMPTS):
            try:
                self._controller.edit(name, {("spec", "state"): operation.target.value})
                return
            except ConflictError:
                continue
            except StateError as error:
                raise ApiError(operation.failed, Text.same(str(error))) from error
            except OSError as error:
                raise from_os(error) from error
        raise ApiError(operation.failed, messages.CONTESTED)

    def _see_through(
        self, operation: Operation, name: str, wish: Wish | None, timeout_s: float
    ) -> VMStatus | None:
        """Ask, and wait for the outcome, if there is room to wait. Raises ApiError unless it is what was asked for."""
        if not self._waiting.acquire(blocking=False):
            self._controller.ask(name, wish)
            raise _unsettled(operation, self._controller.board.get(name), messages.BUSY)
        try:
            ticket = self._ask(operation, name, wish)
            return self._outcome(operation, name, ticket, timeout_s)
        finally:
            self._waiting.release()

    def _ask(self, operation: Operation, name: str, wish: Wish | None) -> int:
        """Ask until a wish goes to a round that knows what was written, for to another one it means nothing.

        Asking reads the manifests; but nothing that is read counts while git is at work among them.
        """

        def is_read(_: VMStatus | None = None) -> bool:
            wanted = self._controller.wanted(name)
            return not isinstance(wanted, DesiredVM) or wanted.spec.state is operation.target

        for _ in range(READ_ATTEMPTS):
            was_read = is_read()
            ticket = self._controller.ask(name, wish)
            if was_read:
                return ticket
            self._controller.board.wait_for(name, is_read, READ_PAUSE_S)
        raise _unsettled(operation, self._controller.board.get(name), messages.UNREAD)

    def _outcome(self, operation: Operation, name: str, ticket: int, timeout_s: float) -> VMStatus | None:
        def over(status: VMStatus | None) -> bool:
            return (status is None or status.round > ticket) and operation.over(status)

        status = self._controller.board.wait_for(name, over, timeout_s)
        if not over(status):
            raise _unsettled(operation, status, messages.UNSETTLED)
        if not operation.done(status):
            raise _failed(operation, status)
        return status


def _timeout_s(operation: Operation, row: Situation, wanted: Wanted, *, force: bool) -> float:
    """How long the outcome may take: the guest's time, where one has to shut down, and ours."""
    last = wanted.last if isinstance(wanted, Removal) else wanted
    guest_s = float((last.spec.shutdown if last else Shutdown()).timeout_s)
    if operation.target is PowerState.STOPPED:
        return STOP_GRACE_S if force else guest_s + STOP_GRACE_S
    return START_TIMEOUT_S + (guest_s + STOP_GRACE_S if row is Situation.STOPPING else 0.0)


def _why_refused(row: Situation, status: VMStatus) -> Text:
    if row is Situation.REMOVING:
        return messages.BEING_REMOVED
    if status.state is VMState.UNKNOWN:
        return Text.same(_explanation(status))
    return messages.SUSPENDED


def _unsettled(operation: Operation, status: VMStatus | None, why: Text) -> ApiError:
    return ApiError(operation.failed, why, extra=_as_it_is(status, settled=False))


def _failed(operation: Operation, status: VMStatus | None) -> ApiError:
    """It ended otherwise than was asked for: say why, in the words of who knows, and what comes next."""
    if status is None:
        return ApiError(operation.failed, messages.GONE, extra=_as_it_is(status, settled=True))
    reason = Text.same(_explanation(status))
    wants_running = status.desired is not None and status.desired.spec.state is PowerState.RUNNING
    if operation.target is PowerState.RUNNING and status.state is VMState.FAILED and wants_running:
        reason += messages.keeps_trying(status.next_try_in_s)
    return ApiError(operation.failed, reason, extra=_as_it_is(status, settled=True))


def _as_it_is(status: VMStatus | None, *, settled: bool) -> dict[str, object]:
    return {"settled": settled, "vm": views.brief(status) if status else None}


def _explanation(status: VMStatus) -> str:
    """The most telling message stated of a VM: what stalls it, else why it is not ready, else its state."""
    stalled, ready = status.condition(ConditionType.STALLED), status.condition(ConditionType.READY)
    if stalled and stalled.status is Truth.TRUE:
        return stalled.message
    if ready and ready.status is not Truth.TRUE and ready.message:
        return ready.message
    return f"the VM is {status.state}"
