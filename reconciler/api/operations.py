"""The writes, one method each: look the state up, say what changes, what to wait for, and for how long.

What each does in which state stands in `table`; how every one of them is carried out, in `writing`.
Next: `reconciler.api.views`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePath

from reconciler.api import configuration, messages, table, views
from reconciler.api.configuration import Asked
from reconciler.api.errors import ApiError, Detail, invalid
from reconciler.api.messages import Code, Text
from reconciler.api.ports import ControllerPort, ManifestsPort
from reconciler.api.table import (
    DELETE,
    RECREATE,
    RESTART,
    START,
    STOP,
    Does,
    Goal,
    Operation,
    Situation,
    situation,
)
from reconciler.api.writing import Result, Task, Terms, Writer, explanation
from reconciler.clock import timestamp
from reconciler.control.manifests import default_spec
from reconciler.manifest.edit import Changes
from reconciler.manifest.nodes import Value
from reconciler.model.errors import ConflictError, ManifestError, StateError
from reconciler.model.plan import Wish
from reconciler.model.status import VMState, VMStatus
from reconciler.model.vm import DesiredVM, PowerState, Removal, Shutdown, VMSpec, Wanted, is_vm_name

START_TIMEOUT_S = 60.0
STOP_GRACE_S = 30.0  # on top of the guest's own time: the rest of the stop ladder
LIVE_TIMEOUT_S = 30.0  # for what reaches a VM while it runs
FIRST_LOOK_TIMEOUT_S = 5.0

STATE = ("spec", "state")
MEDIUM = (("spec", "isoPath"), ("spec", "mountIso"))


@dataclass(frozen=True)
class Row:
    """A VM as an operation finds it."""

    name: str
    status: VMStatus
    wanted: Wanted
    situation: Situation


class Operations:
    """The writes. Safe for any number of threads. Each raises ApiError, or ManifestError for a broken manifest."""

    def __init__(self, controller: ControllerPort, manifests: ManifestsPort) -> None:
        self._controller = controller
        self._manifests = manifests
        self._writer = Writer(controller)

    # ---- what each does in which state -----------------------------------------------------------

    def start(self, name: str, terms: Terms) -> Result:
        """Set `state: running`, and see the VM run."""
        row, does = self._row(START, name)
        timeout_s = START_TIMEOUT_S + (_stop_s(row) if row.situation is Situation.STOPPING else 0.0)
        return self._power(row, does, START, table.STARTED, timeout_s, Wish.START, terms)

    def stop(self, name: str, terms: Terms, *, force: bool = False) -> Result:
        """Set `state: stopped`, and see the VM stop; `force` is the power cut."""
        row, does = self._row(STOP, name)
        wish, timeout_s = (Wish.FORCE_STOP, STOP_GRACE_S) if force else (Wish.STOP, _stop_s(row))
        return self._power(row, does, STOP, table.STOPPED, timeout_s, wish, terms)

    def restart(self, name: str, terms: Terms) -> Result:
        """Write a new `restartedAt`, and see another process run."""
        row, _ = self._row(RESTART, name)
        last = row.wanted.spec.restarted_at if isinstance(row.wanted, DesiredVM) else None
        goal = table.restarted(row.status.process)
        timeout_s = _stop_s(row) + START_TIMEOUT_S
        edits: Changes = {("spec", "restartedAt"): _later_than(last)}
        return self._edit(row, edits, RESTART.failed, goal, timeout_s, None, terms)

    def recreate(self, name: str, terms: Terms) -> Result:
        """Have the VM stopped, its root disk set aside and a blank one made; its manifest stays as it is."""
        row, _ = self._row(RECREATE, name)
        spec = row.wanted.spec if isinstance(row.wanted, DesiredVM) else VMSpec()
        if spec.protect:
            raise ApiError(Code.VM_PROTECTED)
        runs = spec.state is PowerState.RUNNING
        goal = table.recreated(row.status.process, runs=runs)
        timeout_s = _stop_s(row) + START_TIMEOUT_S
        return self._edit(row, {}, RECREATE.failed, goal, timeout_s, Wish.RECREATE, terms)

    def delete(self, name: str, terms: Terms, *, purge: bool = False) -> Result:
        """Take the manifest away, and see the VM gone; `purge`: its disks too."""
        status = self._controller.board.get(name)
        if self._manifests.is_leftover(name) and not (status and views.is_shown(status)):
            timeout_s = STOP_GRACE_S  # off, and of no manifest: nothing but its disk is there
        else:
            timeout_s = _stop_s(self._row(DELETE, name, held=True)[0])

        def write(terms: Terms) -> Wanted:
            try:
                return self._manifests.remove(name, discard=purge, expect=terms.expect, dry_run=terms.dry_run)
            except StateError as error:
                if error.__cause__ is None:  # somebody else's deletion was faster
                    raise ApiError(Code.VM_NOT_FOUND) from error
                raise

        task = Task(name, write, table.DELETED, DELETE.failed, timeout_s)
        return self._writer.run(task, terms)

    # ---- what is possible in every state ----------------------------------------------------------

    def create(self, name: str, asked: Asked, terms: Terms, *, start: bool) -> Result:
        """Make a manifest, stopped unless `start`, and see the agent know the VM, or run it."""
        if terms.expect is not None:
            raise ApiError(Code.PRECONDITION_FAILED)
        spec: dict[str, Value] = {**default_spec(), **asked.given}
        if start:
            spec["state"] = PowerState.RUNNING.value
        runs = spec["state"] == PowerState.RUNNING.value
        self._must_have_iso(spec.get("isoPath"))

        def write(terms: Terms) -> Wanted:
            try:
                return self._manifests.create(name, spec, dry_run=terms.dry_run)
            except ConflictError as error:
                raise invalid("name", f"名称已被占用：{error}", f"the name is taken: {error}") from error
            except ManifestError as error:
                raise configuration.blamed(error) from error

        timeout_s = START_TIMEOUT_S if runs else FIRST_LOOK_TIMEOUT_S
        failed = Code.VM_START_FAILED if runs else Code.VM_CONFIG_FAILED
        task = Task(name, write, table.created(runs=runs), failed, timeout_s)
        return self._writer.run(task, terms)

    def configure(self, name: str, asked: Asked, terms: Terms) -> Result:
        """Change fields of the manifest, and see what can be changed live changed."""
        row = self._managed(name)
        edits = configuration.changes(asked, row.status, row.desired.spec)
        self._must_have_iso(configuration.iso_path(edits))
        power_changed = STATE in edits
        timeout_s = _stop_s(row) + START_TIMEOUT_S if power_changed else LIVE_TIMEOUT_S
        medium_changed = not edits.keys().isdisjoint(MEDIUM)
        goal = table.in_force(power_changed=power_changed, medium_changed=medium_changed)
        try:
            return self._edit(row, edits, Code.VM_CONFIG_FAILED, goal, timeout_s, None, terms)
        except ManifestError as error:
            self._controller.ask(name)  # somebody may have broken the file just now
            if any(p.file == row.desired.source.file for p in self._controller.problems()):
                raise
            raise configuration.blamed(error) from error

    def toggle_iso(self, name: str, terms: Terms, *, mount: bool) -> Result:
        """Put the manifest's ISO into the drive, or take it out; of a VM that is off, at its next start."""
        row = self._managed(name)
        spec = row.desired.spec
        if mount and spec.iso_path is None:
            raise invalid("isoPath", "虚拟机没有设置 ISO 镜像", "the VM has no ISO: set isoPath first")
        if mount:
            self._must_have_iso(spec.iso_path)
        edits: Changes = {} if spec.mount_iso is mount else {("spec", "mountIso"): mount}
        goal = table.mounted(mount)
        return self._edit(row, edits, Code.ISO_TOGGLE_FAILED, goal, LIVE_TIMEOUT_S, None, terms)

    # ---- finding -----------------------------------------------------------------------------------

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

    def _row(self, operation: Operation, name: str, *, held: bool = False) -> tuple[Row, Does]:
        """The VM, and what the table says; a refusal is raised. `held`: the manifest may be gone, and its VM held."""
        row = self._found(name)
        match operation.table[row.situation]:
            case Code() as code:
                raise ApiError(code, _why_refused(row))
            case Does() as does:
                if does is Does.WRITE and not held:
                    self._must_have_a_manifest(name)
                return row, does

    def _found(self, name: str) -> Row:
        self._controller.scan()  # what was saved a moment ago counts: what is written follows from what is there
        status, wanted = self.find(name), self._controller.wanted(name)
        return Row(name, status, wanted, situation(status, wanted))

    def _managed(self, name: str) -> ManagedRow:
        """A VM that a manifest describes. Raises ApiError for any other."""
        row = self._found(name)
        self._must_have_a_manifest(name)
        match row.wanted:
            case DesiredVM() as desired:
                return ManagedRow(row.name, row.status, row.wanted, row.situation, desired)
            case Removal():
                raise ApiError(Code.MANIFEST_INVALID, messages.BEING_REMOVED)
            case None:
                raise ApiError(Code.MANIFEST_INVALID, messages.NO_MANIFEST)

    def _must_have_a_manifest(self, name: str) -> None:
        if name in self._controller.held():
            raise ApiError(Code.MANIFEST_INVALID, messages.HELD)

    def _must_have_iso(self, iso_path: object) -> None:
        if isinstance(iso_path, str) and (fault := self._manifests.iso_fault(iso_path)):
            message = fault.message.removeprefix("spec.isoPath: ")
            raise ApiError(
                Code.INVALID_REQUEST_PARAMS,
                details=(Detail("isoPath", Text(f"该 ISO 镜像不可用：{message}", message)),),
            )

    # ---- writing -----------------------------------------------------------------------------------

    def _power(
        self,
        row: Row,
        does: Does,
        operation: Operation,
        goal: Goal,
        timeout_s: float,
        wish: Wish,
        terms: Terms,
    ) -> Result:
        """Write `state`, where it is not written; a VM without a manifest is only asked."""
        target = PowerState.RUNNING if operation is START else PowerState.STOPPED
        if does is Does.ASK:
            return self._ask(row, operation.failed, goal, timeout_s, wish, terms)
        wanted = row.wanted
        is_written = isinstance(wanted, DesiredVM) and wanted.spec.state is target
        edits: Changes = {} if is_written else {STATE: target.value}
        return self._edit(row, edits, operation.failed, goal, timeout_s, wish, terms)

    def _ask(self, row: Row, failed: Code, goal: Goal, timeout_s: float, wish: Wish, terms: Terms) -> Result:
        if terms.expect is not None:
            raise ApiError(Code.PRECONDITION_FAILED, messages.NO_MANIFEST)
        return self._writer.run(Task(row.name, lambda _: row.wanted, goal, failed, timeout_s, wish), terms)

    def _edit(
        self,
        row: Row,
        edits: Changes,
        failed: Code,
        goal: Goal,
        timeout_s: float,
        wish: Wish | None,
        terms: Terms,
    ) -> Result:
        def write(terms: Terms) -> Wanted:
            if not edits and terms.expect is None:
                return row.wanted
            return self._manifests.edit(row.name, edits, expect=terms.expect, dry_run=terms.dry_run)

        return self._writer.run(Task(row.name, write, goal, failed, timeout_s, wish), terms)


@dataclass(frozen=True)
class ManagedRow(Row):
    """A VM that a manifest describes."""

    desired: DesiredVM


def _stop_s(row: Row) -> float:
    """How long a stop may take: the guest's time, and ours."""
    last = row.wanted.last if isinstance(row.wanted, Removal) else row.wanted
    return float((last.spec.shutdown if last else Shutdown()).timeout_s) + STOP_GRACE_S


def _later_than(last: str | None) -> str:
    """Now; or, where somebody's clock was ahead, just after the last restart that was asked for."""
    now = datetime.now(UTC)
    if last is None:
        return timestamp(now)
    try:
        return timestamp(max(now, datetime.fromisoformat(last) + timedelta(milliseconds=1)))
    except OverflowError as error:
        raise invalid(
            "restartedAt", "已是最后的时刻", "is the end of time: no later restart can be asked for"
        ) from error


def _why_refused(row: Row) -> Text | None:
    if row.situation is Situation.REMOVING:
        return messages.BEING_REMOVED
    if row.situation is not Situation.OPAQUE:
        return None
    if row.status.state is VMState.UNKNOWN:
        return Text.same(explanation(row.status))
    return messages.SUSPENDED
