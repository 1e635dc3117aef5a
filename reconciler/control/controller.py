"""The controller: everything that may ask for a look at a VM meets everything that answers here.

It holds no opinion: what is wanted comes from the catalog, what to do about it from the round. The API, the command
line and the manifests' watcher all enter through this one class.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from reconciler.clock import Clock
from reconciler.control.board import Board
from reconciler.control.queue import WorkQueue
from reconciler.control.worker import Workers
from reconciler.converge.reconcile import Reconciler
from reconciler.converge.summarise import Context
from reconciler.manifest.catalog import Catalog
from reconciler.manifest.edit import Changes
from reconciler.manifest.store import ManifestStore
from reconciler.model.errors import ConflictError, StateError
from reconciler.model.plan import Verdict, Wish
from reconciler.model.status import ConditionType, Truth, VMState, VMStatus
from reconciler.model.vm import DesiredVM, Problem, Removal, Wanted
from reconciler.storage.records import Records
from reconciler.storage.trash import Trash

log = logging.getLogger(__name__)

PURGE_EVERY_S = 3600.0
REMOVAL_TIMEOUT_S = 5.0
ON_ITS_WAY = {VMState.STARTING, VMState.STOPPING}
QUIET = {ConditionType.RECONCILING, ConditionType.PRUNE_HELD}  # the actions and the catalog tell of these


@dataclass(frozen=True)
class Parts:
    """What a controller is made of."""

    catalog: Catalog
    store: ManifestStore
    records: Records
    trash: Trash
    board: Board
    queue: WorkQueue
    reconciler: Reconciler
    clock: Clock
    overrule: Callable[[Wanted], Wanted] = field(default=lambda wanted: wanted)


class Controller:
    """The one door to the work of the agent. Safe for any number of threads."""

    def __init__(self, parts: Parts, workers: int) -> None:
        self._parts = parts
        self.board = parts.board
        self._rounds = itertools.count(1)
        self._last_round = 0
        self._wishes: dict[str, Wish] = {}
        self._lock = threading.Lock()
        self._read = False  # the manifests, as a whole, at least once
        self._ready = False
        self._purged_s = -PURGE_EVERY_S
        self._workers = Workers(parts.queue, self._look, workers)

    # ---- asked by the watcher -----------------------------------------------------------------

    def scan(self) -> float | None:
        """Read the manifests again and queue what changed; returns in how many seconds to read once more, if so."""
        refresh = self._parts.catalog.refresh()
        for name in sorted(refresh.changed):
            self._parts.queue.add(name)
        self._read = self._read or refresh.settled
        return refresh.look_again_s

    def watch(self) -> float | None:
        """`scan`, and now and then what nobody waits for: deleting from the trash what is due."""
        look_again_s = self.scan()
        self._purge()
        return look_again_s

    # ---- asked by people ----------------------------------------------------------------------

    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the manifests."""
        return self._parts.catalog.problems()

    def wanted(self, name: str) -> Wanted:
        """What is wanted of a name."""
        return self._parts.overrule(self._parts.catalog.wanted(name))

    def held(self) -> tuple[str, ...]:
        """The VMs whose removal waits for `reconciler prune --confirm`."""
        return tuple(sorted(self._parts.catalog.held()))

    def ready(self) -> bool:
        """Whether the manifests were read once, and every VM that they or the records know was looked at."""
        if not self._ready:
            self._ready = self._read and all(self.board.get(name) for name in self._known())
        return self._ready

    def _known(self) -> frozenset[str]:
        return frozenset(self._parts.catalog.names()) | frozenset(self._parts.records.names())

    def ask(self, name: str, wish: Wish | None = None) -> int:
        """Read the manifests, then look at this VM now.

        Returns a ticket: a status whose round is greater has seen everything that was before this call.
        """
        self.scan()
        return self.look(name, wish)

    def look(self, name: str, wish: Wish | None = None) -> int:
        """`ask`, without reading the manifests."""
        with self._lock:
            if wish is not None:
                self._wishes[name] = wish
            ticket = self._last_round
        self._parts.queue.add(name)
        return ticket

    def edit(self, name: str, changes: Changes) -> None:
        """Change the VM's manifest. Raises ManifestError, ConflictError, StateError or OSError."""
        wanted = self._parts.catalog.wanted(name)
        if not isinstance(wanted, DesiredVM):
            raise StateError(f"{name}: no manifest describes this VM")
        self._parts.store.change(wanted.source, name, changes)

    def confirm_prune(self, names: Sequence[str]) -> tuple[str, ...]:
        """Let these held removals happen; returns those that were held, and are not any more."""
        released = self._parts.catalog.confirm_prune(names)
        for name in released:
            self._parts.queue.add(name)
        return released

    def restore(self, name: str) -> None:
        """Bring back the VM of this name that was set aside last: its disks, its identity and its manifest.

        Raises StateError where nothing was set aside, ConflictError where the name or the file is taken.
        """
        catalog = self._parts.catalog
        self.board.wait_for(name, lambda _: not isinstance(catalog.wanted(name), Removal), REMOVAL_TIMEOUT_S)
        match catalog.wanted(name):
            case Removal():
                raise ConflictError(f"{name}: is being removed just now; try again when it is gone")
            case DesiredVM() if name in catalog.held():
                raise ConflictError(
                    f"{name}: was never set aside: its removal is held; put its manifest back"
                )
            case DesiredVM(source=source):
                raise ConflictError(
                    f"{name}: {source} describes a VM of this name; remove or rename it first"
                )
        with self._parts.trash.taking_back(name) as (entry, text):
            self._parts.store.create(entry.file, text)
        self.ask(name)

    # ---- life -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to work, on every VM that the last agent left word of; the manifests are read by `scan`."""
        for name in sorted(self._known()):
            self._parts.queue.add(name)
        self._workers.start()

    def stop(self) -> None:
        """Finish the rounds under way, and no more. VMs go on."""
        self._workers.stop()

    def _look(self, name: str, retry_s: float) -> Verdict:
        with self._lock:
            number = self._last_round = next(self._rounds)
            wish = self._wishes.pop(name, None)
        catalog = self._parts.catalog
        context = Context(
            round=number,
            retry_s=retry_s,
            problems=catalog.problems_of(name),
            held=catalog.held().get(name),
            previous=self.board.get(name),
        )
        return self._parts.reconciler.round(name, self.wanted(name), wish, context)

    def _purge(self) -> None:
        now_s = self._parts.clock.now_s()
        if now_s - self._purged_s < PURGE_EVERY_S:
            return
        self._purged_s = now_s
        for name in self._parts.trash.purge(self._parts.clock.utc()):
            log.info("%s: deleted from the trash: its time was over", name)


def _tell(before: VMStatus | None, now: VMStatus) -> None:
    """Log the conditions that hold now and did not, or not for this reason; what is on its way is no news."""
    known = {(c.type, c.status, c.reason, c.message) for c in before.conditions} if before else set()
    for c in now.conditions:
        on_its_way = c.type is ConditionType.READY and now.state in ON_ITS_WAY
        if (c.type, c.status, c.reason, c.message) in known or c.type in QUIET or on_its_way:
            continue
        well = c.type is ConditionType.READY and c.status is Truth.TRUE
        log.log(logging.INFO if well else logging.WARNING, "%s: %s: %s", now.name, c.reason, c.message)


def publisher(board: Board, records: Records) -> Callable[[VMStatus], None]:
    """What publishes a status: on the board, unless nothing is left of the VM; what is new in it, in the log."""

    def publish(status: VMStatus) -> None:
        gone = status.desired is None and status.state is VMState.STOPPED
        if gone and not records.exists(status.name):
            board.drop(status.name)
        else:
            _tell(board.get(status.name), status)
            board.publish(status)

    return publish
