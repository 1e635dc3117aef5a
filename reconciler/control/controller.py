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
from reconciler.model.status import VMState, VMStatus
from reconciler.model.vm import DesiredVM, Problem, Wanted
from reconciler.storage.records import Records
from reconciler.storage.trash import Trash

log = logging.getLogger(__name__)

PURGE_EVERY_S = 3600.0


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
        self._first_look: frozenset[str] | None = None
        self._purged_s = -PURGE_EVERY_S
        self._workers = Workers(parts.queue, self._look, workers)

    # ---- asked by the watcher -----------------------------------------------------------------

    def scan(self) -> float | None:
        """Read the manifests again and queue what changed; returns in how many seconds to read once more, if so."""
        refresh = self._parts.catalog.refresh()
        names = refresh.changed
        if self._first_look is None:
            names = frozenset(self._parts.catalog.names()) | frozenset(self._parts.records.names())
            self._first_look = names
        for name in sorted(names):
            self._parts.queue.add(name)
        self._purge()
        return refresh.look_again_s

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
        """Whether the manifests were read and every VM was looked at once."""
        first = self._first_look
        return first is not None and all(self.board.get(name) or self.wanted(name) is None for name in first)

    def ask(self, name: str, wish: Wish | None = None) -> int:
        """Read the manifests, then look at this VM now.

        Returns a ticket: a status whose round is greater has seen everything that was before this call.
        """
        self.scan()
        with self._lock:
            if wish is not None:
                self._wishes[name] = wish
            ticket = self._last_round
        self._parts.queue.add(name)
        return ticket

    def look(self, name: str) -> None:
        """Something happened to this VM: look at it."""
        self._parts.queue.add(name)

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
        if self._parts.catalog.wanted(name) is not None:
            raise ConflictError(f"{name}: a manifest of this name exists; remove or rename it first")
        with self._parts.trash.taking_back(name) as (entry, text):
            self._parts.store.create(entry.file, text)
        self.ask(name)

    # ---- life -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to work on what is queued."""
        self._workers.start()

    def stop(self) -> None:
        """Finish the rounds under way, and no more. VMs go on."""
        self._workers.stop()

    def _look(self, name: str) -> Verdict:
        with self._lock:
            number = self._last_round = next(self._rounds)
            wish = self._wishes.pop(name, None)
        catalog = self._parts.catalog
        context = Context(
            number, catalog.problems_of(name), catalog.held().get(name), previous=self.board.get(name)
        )
        return self._parts.reconciler.round(name, self.wanted(name), wish, context)

    def _purge(self) -> None:
        now_s = self._parts.clock.now_s()
        if now_s - self._purged_s < PURGE_EVERY_S:
            return
        self._purged_s = now_s
        for name in self._parts.trash.purge(self._parts.clock.utc()):
            log.info("%s: deleted from the trash: its time was over", name)


def publisher(board: Board, records: Records) -> Callable[[VMStatus], None]:
    """What publishes a status: on the board, unless nothing is left of the VM."""

    def publish(status: VMStatus) -> None:
        gone = status.desired is None and status.state is VMState.STOPPED
        if gone and not records.exists(status.name):
            board.drop(status.name)
        else:
            board.publish(status)

    return publish
