"""What the agent knows of the manifests, for all its threads, and kept over its restarts.

`refresh` looks at the directory and folds what it saw into the holdings; everybody else reads the last
result, which is on disk before anybody sees it. Next: `reconciler.manifest.watch`, which says when to look.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from reconciler import durable
from reconciler.clock import Clock
from reconciler.layout import Layout
from reconciler.manifest.claims import claims_of, contested
from reconciler.manifest.decode import Decoded
from reconciler.manifest.departures import DEFAULT_RULES, Rules
from reconciler.manifest.holdings import (
    Holdings,
    Tombstone,
    begun,
    confirmed,
    entombed,
    fold,
    forgotten,
    in_order,
    next_look_s,
    resumed,
    withdrawn,
    without,
)
from reconciler.manifest.notices import held_fault
from reconciler.manifest.scan import Scanner
from reconciler.manifest.seen import Deferred, Scan, Unreadable
from reconciler.model.errors import StateError
from reconciler.model.observed import Fault
from reconciler.model.vm import DesiredVM, Problem, Removal, Wanted

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Refresh:
    """The names of which something is different now, and in how many seconds another look is worthwhile.

    Unsettled: the directory was in the middle of a change, and nothing was concluded from it.
    """

    changed: frozenset[str]
    look_again_s: float | None
    settled: bool


@dataclass(frozen=True)
class _View:
    """What readers see: never changed, only replaced."""

    holdings: Holdings
    held: Mapping[str, Fault]
    problems: tuple[Problem, ...] = ()
    problems_of: Mapping[str, tuple[Problem, ...]] | None = None
    dependents: Mapping[str, tuple[str, ...]] | None = None


class Catalog:
    """The manifests below `root`, as last seen. Safe for any number of threads; readers never wait."""

    def __init__(
        self, layout: Layout, root: Path, scanner: Scanner, clock: Clock, rules: Rules = DEFAULT_RULES
    ) -> None:
        """Take over what an earlier agent knew. Raises StateError if that cannot be read."""
        self._path = layout.catalog
        self._scanner = scanner
        self._clock = clock
        self._rules = rules
        self._lock = threading.Lock()
        self._learnt: Scan | None = None
        self._told_broken: frozenset[str] = frozenset()
        self._written = _load_bytes(self._path)
        fresh = Holdings(str(root.absolute()), clock.boot_id)
        known = fresh if self._written is None else _decode(self._path, self._written)
        self._view = _view(resumed(known, fresh.root, fresh.boot_id, clock.now_s()), ())

    def refresh(self) -> Refresh:
        """Look at the manifests now. Raises StateError, with all as before, if the result cannot be kept."""
        with self._lock:
            scan = self._scanner.scan()
            now_s = self._clock.now_s()
            changed = frozenset[str]() if self._says_nothing_new(scan) else self._learn(scan, now_s)
            waits = (scan.look_again_s, next_look_s(self._view.holdings, now_s, self._rules))
            return Refresh(changed, min((w for w in waits if w is not None), default=None), scan.settled)

    def wanted(self, name: str) -> Wanted:
        """What is wanted of a name."""
        return self._view.holdings.wanted(name)

    def names(self) -> tuple[str, ...]:
        """All names of which something is wanted, removal included, sorted."""
        return tuple(sorted(self._view.holdings.entries))

    def problems(self) -> tuple[Problem, ...]:
        """Everything that is wrong with the manifests and their directory."""
        return self._view.problems

    def problems_of(self, name: str) -> tuple[Problem, ...]:
        """What is wrong with the files that hold this VM."""
        return (self._view.problems_of or {}).get(name, ())

    def held(self) -> dict[str, Fault]:
        """The VMs whose manifests are gone and that are kept nevertheless: why, and what to do."""
        return dict(self._view.held)

    def confirm_prune(self, names: Collection[str]) -> tuple[str, ...]:
        """Let held VMs go. Returns those that do; the others are protected or not held. Raises StateError."""
        with self._lock:
            return tuple(sorted(self._replace_holdings(confirmed(self._view.holdings, names))))

    def file_naming(self, name: str) -> str | None:
        """A file that has this name in it, as far as is known; it may be broken."""
        files = self._view.holdings.files
        return next((file for file, memory in files.items() if name in memory.names), None)

    def confirmable(self, names: Collection[str]) -> tuple[str, ...]:
        """Those of these names that `confirm_prune` would let go."""
        entries = self._view.holdings.entries
        return tuple(sorted(n for n in set(names) if n in entries and entries[n].confirmable))

    def forget(self, name: str) -> None:
        """A removal is complete: nothing of the VM is left. Raises StateError."""
        with self._lock:
            if name in self._view.holdings.tombstones:
                self._learnt = None  # a manifest that took the name meanwhile counts from now on
            self._replace_holdings(forgotten(self._view.holdings, name))

    def renamed(self, old: str) -> None:
        """A VM has another name now: the old one was nobody's removal, and is forgotten. Raises StateError."""
        with self._lock:
            self._replace_holdings(without(self._view.holdings, old))

    # ---- deletions that somebody asked for ------------------------------------------------------

    def entomb(self, vm: DesiredVM, *, discard: bool, stamp: str = "") -> None:
        """Make durable that this VM is to be deleted, before its manifest is taken away. Raises StateError."""
        with self._lock:
            self._replace_holdings(
                entombed(self._view.holdings, vm, Tombstone(vm.generation, discard, stamp))
            )

    def withdraw(self, name: str) -> None:
        """Give up a deletion whose manifest could not be taken away. Raises StateError."""
        with self._lock:
            self._replace_holdings(withdrawn(self._view.holdings, name))

    def bury(self, name: str) -> None:
        """The manifest is gone: from now on the VM is wanted removed. Raises StateError."""
        with self._lock:
            self._replace_holdings(begun(self._view.holdings, name))

    def unfinished(self) -> dict[str, Tombstone]:
        """The VMs that an agent was about to delete, and whose manifests may be there still."""
        holdings = self._view.holdings
        return {name: holdings.tombstones[name] for name in holdings.unfinished}

    def dependents(self, name: str) -> tuple[str, ...]:
        """The VMs that are to be started after this one."""
        return (self._view.dependents or {}).get(name, ())

    def vnc_claims(self) -> dict[int, tuple[str, ...]]:
        """The VNC ports that manifests name, with the VMs that they name them for."""
        claims: defaultdict[int, list[str]] = defaultdict(list)
        for name, entry in sorted(self._view.holdings.entries.items()):
            if entry.last.spec.vnc_port is not None and not entry.removing:
                claims[entry.last.spec.vnc_port].append(name)
        return {port: tuple(names) for port, names in claims.items()}

    def _says_nothing_new(self, scan: Scan) -> bool:
        """Whether the rules would come to the same result as last time: nothing to see, and nothing waits."""
        if not scan.settled:
            return True
        waiting = any(entry.waiting for entry in self._view.holdings.entries.values())
        return self._learnt is not None and not waiting and scan.same_as(self._learnt)

    def _learn(self, scan: Scan, now_s: float) -> frozenset[str]:
        before = self._view
        problems = _problems(scan, before.holdings)
        changed = self._replace(_view(fold(before.holdings, scan, now_s, self._rules), problems))
        self._learnt = scan
        _tell_problems(before.problems, problems)
        self._told_broken = _tell_mended(self._told_broken, problems, scan)
        return changed

    def _replace_holdings(self, holdings: Holdings) -> frozenset[str]:
        return self._replace(_view(holdings, self._view.problems))

    def _replace(self, after: _View) -> frozenset[str]:
        """Keep, then publish. Returns the names of which something is different."""
        data = msgspec.json.encode(after.holdings)
        if data != self._written:
            _write(self._path, data)
            self._written = data
        before, self._view = self._view, after
        _tell(before, after)
        return _differences(before, after)


def _view(holdings: Holdings, problems: tuple[Problem, ...]) -> _View:
    faults = ((name, held_fault(entry, holdings.root)) for name, entry in holdings.entries.items())
    held = {name: fault for name, fault in faults if fault is not None}
    by_name: defaultdict[str, list[Problem]] = defaultdict(list)
    names_in = _names_in(holdings)
    for problem in problems:
        for name in names_in.get(problem.file, ()):
            by_name[name].append(problem)
    told = {name: tuple(found) for name, found in by_name.items()}
    return _View(holdings, held, problems, told, _dependents(holdings))


def _dependents(holdings: Holdings) -> dict[str, tuple[str, ...]]:
    """For each VM that is named, those that are to be started after it."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name, entry in holdings.entries.items():
        for before in entry.last.spec.depends_on:
            found[before].append(name)
    return {name: tuple(later) for name, later in found.items()}


def _names_in(holdings: Holdings) -> dict[str, set[str]]:
    """The names to tell of a problem in a file: those it holds, and those that come from it."""
    names_in = {file: set(memory.names) for file, memory in holdings.files.items()}
    for name, entry in holdings.entries.items():
        names_in.setdefault(entry.last.source.file, set()).add(name)
    return names_in


def _problems(scan: Scan, before: Holdings) -> tuple[Problem, ...]:
    found = list(scan.problems)
    for view in scan.files.values():
        match view:
            case Decoded(problems=problems):
                found += problems
            case Unreadable(problem=problem):
                found.append(problem)
    claims = claims_of(scan, before.files)
    return (*found, *contested(claims), *in_order(before, claims).problems)


def _differences(before: _View, after: _View) -> frozenset[str]:
    names = before.holdings.entries.keys() | after.holdings.entries.keys()
    return frozenset(name for name in names if _seen_of(before, name) != _seen_of(after, name))


def _seen_of(view: _View, name: str) -> tuple[Wanted, Fault | None, tuple[Problem, ...]]:
    return view.holdings.wanted(name), view.held.get(name), (view.problems_of or {}).get(name, ())


def _tell(before: _View, after: _View) -> None:
    for name, fault in after.held.items():
        if before.held.get(name) != fault:
            _LOG.warning("%s: %s: %s", name, fault.reason, fault.message)
    for name in after.holdings.entries:
        was, wanted = before.holdings.wanted(name), after.holdings.wanted(name)
        if isinstance(wanted, Removal) and isinstance(was, DesiredVM):
            _LOG.info("%s (%s): %s: the VM is removed", name, wanted.last.source.file, wanted.cause)


def _tell_problems(before: Collection[Problem], after: Collection[Problem]) -> None:
    known = set(before)
    for problem in dict.fromkeys(after):
        if problem not in known:
            _LOG.warning("%s", problem)


def _tell_mended(told: frozenset[str], problems: Collection[Problem], scan: Scan) -> frozenset[str]:
    """Say which of the files `told` as broken are good again; returns those that are told as broken now.

    Not good again is one that only broke otherwise, or that somebody is just writing.
    """
    broken = {problem.file for problem in problems}
    awaited = {file for file, view in scan.files.items() if isinstance(view, Deferred)}
    mended = told - broken - awaited
    for file in sorted(mended):
        _LOG.info("%s: %s", file, "is valid again" if file in scan.files else "no longer a problem")
    return (told | broken) - mended


def _load_bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"{path}: cannot be read: {error.strerror}") from error


def _decode(path: Path, data: bytes) -> Holdings:
    try:
        return msgspec.json.decode(data, type=Holdings)
    except msgspec.DecodeError as error:
        raise StateError(
            f"{path}: is damaged ({error}). It says which VMs there are: put a good copy in its place; or, "
            "to have the agent learn them from the manifests alone, move it away"
        ) from error


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        durable.write(path, data)
    except OSError as error:
        raise StateError(f"{path}: cannot be written: {error.strerror}") from error
