"""A controller that keeps its VMs in memory: the real board, real values, a round that obeys, fails or hangs.

It stands where `reconciler.control.Controller` stands, so that every answer of the API can be reached without
QEMU.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from reconciler.control.board import Board
from reconciler.converge.explain import explain
from reconciler.manifest.edit import Changes, Remove
from reconciler.manifest.fields import spec_of, written
from reconciler.manifest.nodes import Value
from reconciler.manifest.store import Expect
from reconciler.model.errors import ConflictError, PreconditionError, ProtectedError, StateError
from reconciler.model.inspection import FieldView
from reconciler.model.observed import Fault, ProcessHandle
from reconciler.model.plan import Plan, Wish
from reconciler.model.status import Condition, ConditionType, Truth, VMState, VMStatus
from reconciler.model.vm import DesiredVM, ManifestRef, PowerState, Problem, Removal, VMSpec, Wanted
from tests.unit.converge.model_host import blank, running

RUNNING = VMSpec()
UTC = "2023-07-15T10:30:00.000Z"


class Guest(Enum):
    """How a VM takes what is wished of it."""

    OBEYS = auto()
    IGNORES = auto()
    """Stays as it is, unsettled, but for the power cut."""
    CANNOT_START = auto()


def desired(name: str, spec: VMSpec = RUNNING, **labels: str) -> DesiredVM:
    """A VM as a manifest would describe it."""
    return DesiredVM(name, spec, "g1", ManifestRef(f"/manifests/{name}.yaml", 3, 1), labels)


def condition(kind: ConditionType, status: Truth, reason: str, message: str) -> Condition:
    """A condition of a fixed time."""
    return Condition(kind, status, reason, message, UTC)


def status_of(vm: DesiredVM | None, name: str, state: VMState, number: int = 0, pid: int = 0) -> VMStatus:
    """A status with nothing remarkable in it."""
    return VMStatus(
        name=name,
        state=state,
        desired=vm,
        conditions=(),
        pending=(),
        process=ProcessHandle("boot", pid, 1) if pid else None,
        started_at=UTC if pid else None,
        vnc_port=5900,
        disk_size_bytes=None,
        forwarded_ports=frozenset(f.host_port for f in vm.spec.port_forwards) if vm else frozenset(),
        uuid="6f0e",
        last_exit=None,
        failures=0,
        next_try_in_s=None,
        medium_inserted=False,
        observed_generation="g1",
        settled=True,
        plan="nothing to do",
        round=number,
    )


@dataclass
class MemoryController:
    """See `ControllerPort` and `ManifestsPort` of `reconciler.api.ports`.

    `edit_errors` are raised by the next edits, one each.
    """

    board: Board = field(default_factory=Board)
    manifests: dict[str, Wanted] = field(default_factory=dict)
    guests: dict[str, Guest] = field(default_factory=dict)
    found: tuple[Problem, ...] = ()
    waiting: set[str] = field(default_factory=set)
    trash: dict[str, DesiredVM] = field(default_factory=dict)
    edit_errors: list[Exception] = field(default_factory=list)
    git_looks: int = 0
    """So many looks at the manifests see nothing of an edit, since git is at work among them."""
    edits: list[tuple[str, Changes]] = field(default_factory=list)
    isos: set[str] = field(default_factory=set)
    leftovers: set[str] = field(default_factory=set)
    wishes: list[tuple[str, Wish | None]] = field(default_factory=list)
    is_ready: bool = True
    broken: Exception | None = None

    def __post_init__(self) -> None:
        self._rounds = itertools.count(1)
        self._last = 0
        self._lock = threading.Lock()
        self._unread: dict[str, Wanted] = {}

    # ---- the world ----------------------------------------------------------------------------

    def has(self, name: str, state: VMState, spec: VMSpec = RUNNING, **labels: str) -> VMStatus:
        """Let there be a VM with a manifest, in this state."""
        vm = desired(name, spec, **labels)
        self.manifests[name] = vm
        return self.shows(name, state, vm)

    def shows(self, name: str, state: VMState, vm: DesiredVM | None = None) -> VMStatus:
        """Publish a state; a state that has a process gets one."""
        alive = state in {VMState.RUNNING, VMState.PAUSED, VMState.STOPPING, VMState.UNKNOWN}
        status = status_of(vm, name, state, self._number(), 12345 if alive else 0)
        self.board.publish(status)
        return status

    def states(self, name: str, *conditions: Condition) -> None:
        """Publish the VM's status again, with these conditions."""
        status = self.board.get(name)
        assert status is not None
        self.board.publish(replace(status, conditions=conditions))

    # ---- the port -------------------------------------------------------------------------------

    def problems(self) -> tuple[Problem, ...]:
        if self.broken:
            raise self.broken
        return self.found

    def wanted(self, name: str) -> Wanted:
        return self.manifests.get(name)

    def held(self) -> tuple[str, ...]:
        return tuple(sorted(self.waiting))

    def ready(self) -> bool:
        return self.is_ready

    def scan(self) -> float | None:
        self._read()
        return None

    def ask(self, name: str, wish: Wish | None = None) -> int:
        self.wishes.append((name, wish))
        self._read()
        ticket = self._last
        threading.Thread(target=self._round, args=(name, wish)).start()
        return ticket

    def explain(self, name: str) -> tuple[FieldView, ...]:
        """Every field of the VM, which runs as it was launched."""
        status = self.board.get(name)
        vm = status.desired if status else None
        return explain(vm, running(vm) if vm else blank())

    def preview(self, name: str, wanted: Wanted, wish: Wish | None = None) -> Plan:
        return Plan(name)

    def edit(self, name: str, changes: Changes, *, expect: Expect = None, dry_run: bool = False) -> DesiredVM:
        if self.edit_errors:
            raise self.edit_errors.pop(0)
        vm = self.manifests[name]
        assert isinstance(vm, DesiredVM)
        if expect is not None and vm.generation not in expect:
            raise PreconditionError("seen otherwise", vm.generation)
        given = {path[-1]: value for path, value in changes.items() if not isinstance(value, Remove)}
        spec = spec_of({**written(vm.spec), **given})
        edited = replace(vm, spec=spec, generation=f"{vm.generation}+" if changes else vm.generation)
        if dry_run:
            return edited
        self.edits.append((name, changes))
        self._unread[name] = edited
        if not self.git_looks:
            self._read()
        return edited

    def create(self, name: str, spec: Mapping[str, Value], *, dry_run: bool = False) -> DesiredVM:
        if self.edit_errors:
            raise self.edit_errors.pop(0)
        if name in self.manifests:
            raise ConflictError(f"{name}.yaml describes a VM of this name")
        vm = desired(name, spec_of({"vncPort": 5900, **spec}))
        if not dry_run:
            self.manifests[name] = vm
        return vm

    def remove(self, name: str, *, discard: bool, expect: Expect = None, dry_run: bool = False) -> Removal:
        if self.edit_errors:
            raise self.edit_errors.pop(0)
        vm = self.manifests.get(name)
        assert isinstance(vm, DesiredVM)
        if vm.spec.protect:
            raise ProtectedError(f"{name}: spec.protect is true")
        removal = Removal(vm, discard)
        if not dry_run:
            self.manifests[name] = removal
        return removal

    def is_leftover(self, name: str) -> bool:
        return name in self.leftovers

    def iso_fault(self, iso_path: str) -> Fault | None:
        return (
            None if iso_path in self.isos else Fault("IsoNotFound", f"spec.isoPath: {iso_path} is not there")
        )

    def confirm_prune(self, names: Sequence[str], *, dry_run: bool = False) -> tuple[str, ...]:
        released = tuple(name for name in names if name in self.waiting)
        if not dry_run:
            self.waiting -= set(released)
        return released

    def rename(self, name: str, new: str, *, expect: Expect = None, dry_run: bool = False) -> DesiredVM:
        if self.edit_errors:
            raise self.edit_errors.pop(0)
        vm = self.manifests[name]
        assert isinstance(vm, DesiredVM)
        renamed = replace(vm, name=new)
        if not dry_run:
            self.manifests[new] = renamed
            del self.manifests[name]
        return renamed

    def restore(self, name: str, *, dry_run: bool = False) -> None:
        if name not in self.trash:
            raise StateError(f"{name}: nothing of this name was set aside")
        if dry_run:
            return
        self.manifests[name] = self.trash.pop(name)

    # ---- the round --------------------------------------------------------------------------------

    def _read(self) -> None:
        if self.git_looks:
            self.git_looks -= 1
        else:
            self.manifests.update(self._unread)
            self._unread.clear()

    def _number(self) -> int:
        with self._lock:
            self._last = next(self._rounds)
            return self._last

    def _round(self, name: str, wish: Wish | None) -> None:
        wanted, before = self.manifests.get(name), self.board.get(name)
        number = self._number()
        vm = wanted if isinstance(wanted, DesiredVM) else None
        runs = vm is not None and vm.spec.state is PowerState.RUNNING
        match self.guests.get(name, Guest.OBEYS):
            case Guest.IGNORES if before and wish is not Wish.FORCE_STOP:
                state = VMState.STARTING if runs else VMState.STOPPING
                after = replace(before, desired=vm, state=state, settled=False, round=number)
            case Guest.CANNOT_START if runs:
                after = self._failed(vm, name, number)
            case _ if runs:
                after = status_of(vm, name, VMState.RUNNING, number, 12346)
            case _ if isinstance(wanted, Removal) or (wanted is None and wish is None):
                return self.board.drop(name)
            case _:
                after = status_of(vm, name, VMState.STOPPED, number)
        return self.board.publish(after)

    @staticmethod
    def _failed(vm: DesiredVM | None, name: str, number: int) -> VMStatus:
        words = "qemu-system-x86_64: Could not open 'x.iso': No such file or directory"
        ready = condition(ConditionType.READY, Truth.FALSE, "StartFailed", words)
        status = status_of(vm, name, VMState.FAILED, number)
        return replace(status, conditions=(ready,), failures=1, next_try_in_s=10.0, settled=False)
