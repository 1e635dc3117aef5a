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
from reconciler.control.manifests import Manifests, Tools
from reconciler.control.queue import WorkQueue
from reconciler.control.worker import Workers
from reconciler.converge.ports import VncPorts
from reconciler.converge.reconcile import Reconciler
from reconciler.converge.summarise import Context
from reconciler.manifest.catalog import Catalog
from reconciler.manifest.store import ManifestStore
from reconciler.model.inspection import FieldView
from reconciler.model.plan import Plan, Verdict, Wish
from reconciler.model.status import ConditionType, Truth, VMState, VMStatus
from reconciler.model.vm import Problem, Wanted
from reconciler.storage.records import Records
from reconciler.storage.trash import Trash

log = logging.getLogger(__name__)

PURGE_EVERY_S = 3600.0
ON_ITS_WAY = {VMState.STARTING, VMState.STOPPING}
# The actions, the catalog and the firewall tell of these.
QUIET = {ConditionType.RECONCILING, ConditionType.PRUNE_HELD, ConditionType.HOST_REACHABLE}
# Off, or on still, since somebody wrote so.
EXPECTED = {"WaitingForDependencies", "WaitingForDependents", "Expired"}


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
    ports: VncPorts
    overrule: Callable[[Wanted], Wanted] = field(default=lambda wanted: wanted)


class Controller:
    """The one door to the work of the agent. Safe for any number of threads."""

    def __init__(self, parts: Parts, workers: int) -> None:
        self._parts = parts
        self.board = parts.board
        self.manifests = Manifests(
            Tools(
                catalog=parts.catalog,
                store=parts.store,
                records=parts.records,
                trash=parts.trash,
                ports=parts.ports,
                board=parts.board,
                look_at_iso=parts.reconciler.observer.look_at_iso,
                scan=self.scan,
            )
        )
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
            weaker = wish is Wish.STOP and self._wishes.get(name) is Wish.FORCE_STOP
            if wish is not None and not weaker:
                self._wishes[name] = wish
            ticket = self._last_round
        self._parts.queue.add(name)
        return ticket

    def preview(self, name: str, wanted: Wanted, wish: Wish | None = None) -> Plan:
        """What a round would do now, were this wanted of the VM. Raises nothing that a round would not."""
        return self._parts.reconciler.preview(name, wanted, wish)

    def explain(self, name: str) -> tuple[FieldView, ...]:
        """Every field of the VM: as its manifest has it, as it was launched, as QEMU says now."""
        return self._parts.reconciler.explain(name, self.wanted(name))

    def confirm_prune(self, names: Sequence[str], *, dry_run: bool = False) -> tuple[str, ...]:
        """Let these held removals happen; returns those that were held, and are not any more."""
        if dry_run:
            return self._parts.catalog.confirmable(names)
        released = self._parts.catalog.confirm_prune(names)
        for name in released:
            self._parts.queue.add(name)
        return released

    # ---- life -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to work, on every VM that the last agent left word of; the manifests are read by `scan`."""
        for name in sorted(self._known()):
            self._parts.queue.add(name)
        self._workers.start()

    def stop(self) -> None:
        """Finish the rounds under way, and no more. VMs go on."""
        self._workers.stop()

    def works(self) -> bool:
        """Whether the workers do: none has died, and not all of them hang."""
        return self._workers.work()

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
        well = c.type is ConditionType.READY and (c.status is Truth.TRUE or c.reason in EXPECTED)
        log.log(logging.INFO if well else logging.WARNING, "%s: %s: %s", now.name, c.reason, c.message)


def publisher(
    board: Board,
    records: Records,
    hear: Callable[[VMStatus], None] = lambda _: None,
    spread: Callable[[VMStatus | None, VMStatus], None] = lambda _before, _now: None,
) -> Callable[[VMStatus], None]:
    """What publishes a status: on the board, unless nothing is left of the VM; what is new in it, in the log.

    `hear` is told before, so that whoever reads the board finds that it knows; `spread` after, with what stood there
    before, so that those whom it tells can read it.
    """

    def publish(status: VMStatus) -> None:
        hear(status)
        gone = status.desired is None and status.state is VMState.STOPPED and status.settled
        if gone and not records.exists(status.name):
            board.drop(status.name)
        else:
            before = board.get(status.name)
            _tell(before, status)
            board.publish(status)
            spread(before, status)

    return publish
