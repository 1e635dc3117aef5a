"""Looks at the manifests directory and says what each file holds, reading only what changed.

A file that somebody is writing is deferred, and so is the whole tree while git is at work in it: half a
version is never seen. Next: `reconciler.manifest.claims`, which says who describes which VM.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reconciler.clock import Clock
from reconciler.manifest.decode import Decoded, decode
from reconciler.manifest.git_lock import STALE_S, GitLocks, GitState, dot_gits_above
from reconciler.manifest.seen import Deferred, FileView, RootState, Scan, Unreadable
from reconciler.manifest.walk import Candidate, Tree, walk
from reconciler.manifest.whole import NotYet, Stamp, Whole, read_whole
from reconciler.manifest.yaml_reader import MAX_BYTES
from reconciler.model.vm import Problem

_LOG = logging.getLogger(__name__)
_COARSE_NS = 2_000_000_000
"""The coarsest time stamp of a file system (FAT): two versions within it can have the same stamp."""
_LOOK_AGAIN_MIN_S, _LOOK_AGAIN_MAX_S = 0.2, 1.0
_LONG_WAIT_S = 60.0
_BLANK = b" \t\r\n\0"
_EMPTY = (  # a power cut and a full disk leave such files: nobody has said that a VM should go
    "the file is empty: write a manifest into it, or remove it. What it held stays in force"
)

Decode = Callable[[bytes, str], Decoded]


@dataclass(frozen=True)
class _Known:
    """What was read of a file. `sure`: the stamp is so old that another version would have another one."""

    stamp: Stamp
    sure: bool
    digest: bytes
    view: FileView


class Scanner:
    """Scans one directory, again and again; remembers what it read. For one thread at a time.

    `rest_s` is how long a file must be left alone before it is read where the kernel grants no leases.
    """

    def __init__(self, root: Path, clock: Clock, *, rest_s: float = 1.0, decode: Decode = decode) -> None:
        self._root = root
        self._clock = clock
        self._rest_s = rest_s
        self._decode = decode
        self._locks = GitLocks(clock)
        self._known: dict[str, _Known] = {}
        self._stamp_since_s: dict[str, tuple[Stamp, float]] = {}
        self._waiting_since_s: dict[str, float] = {}
        self._inner_dot_gits: tuple[Path, ...] = ()

    def scan(self) -> Scan:
        """Look at everything once. Never raises for what lies in the directory."""
        dot_gits = (*dot_gits_above(self._root), *self._inner_dot_gits)
        before = self._locks.look(dot_gits)
        if before.busy:
            return self._unsettled(before)
        scan, tree = self._look()
        if tree.vanished or self._locks.look(dot_gits).marks != before.marks:
            return self._unsettled(before)
        self._inner_dot_gits = tuple(Path(d) for d in tree.dot_gits)
        return Scan(scan.root, scan.files, (*scan.problems, *_stale(before)), look_again_s=scan.look_again_s)

    def _unsettled(self, state: GitState) -> Scan:
        return Scan(RootState.PRESENT, {}, _stale(state), settled=False, look_again_s=_LOOK_AGAIN_MIN_S)

    def _look(self) -> tuple[Scan, Tree]:
        try:
            tree = walk(self._root)
        except OSError as error:
            return Scan(_root_state(error), problems=(self._root_problem(error),)), Tree()
        views = self._views(tree)
        self._waiting_since_s = {
            file: self._waiting_since_s.get(file, self._clock.now_s())
            for file, view in views.items()
            if isinstance(view, Deferred)
        }
        files = dict(sorted(views.items()))
        return Scan(RootState.PRESENT, files, self._long_waits(), look_again_s=self._look_again_s()), tree

    def _views(self, tree: Tree) -> dict[str, FileView]:
        views: dict[str, FileView] = {d: _unreadable(d, error) for d, error in tree.troubles.items()}
        known: dict[str, _Known] = {}
        inodes: set[tuple[int, int]] = set()
        for candidate in tree.candidates:
            found = self._view(candidate, inodes)
            if isinstance(found, _Known):
                known[candidate.shown] = found
                views[candidate.shown] = found.view
            elif found is not None:
                views[candidate.shown] = found
        self._known = known
        self._stamp_since_s = {f: s for f, s in self._stamp_since_s.items() if f in views}
        return views

    def _view(self, candidate: Candidate, inodes: set[tuple[int, int]]) -> _Known | FileView | None:
        """What one file holds; None for one that is gone again, and for a link to a file of the same tree."""
        try:
            stamp = Stamp.of(os.stat(candidate.path))
            if candidate.is_link and (stamp.device, stamp.inode) in inodes:
                return None
            inodes.add((stamp.device, stamp.inode))
            known = self._known.get(candidate.shown)
            if known is not None and known.sure and known.stamp == stamp:
                return known
            read = read_whole(candidate.path, MAX_BYTES, lambda s: self._at_rest(candidate.shown, s))
        except FileNotFoundError as error:
            return _unreadable(candidate.shown, error) if os.path.lexists(candidate.path) else None
        except OSError as error:
            return _unreadable(candidate.shown, error)
        return Deferred(read.reason) if isinstance(read, NotYet) else self._decoded(candidate.shown, read)

    def _decoded(self, file: str, read: Whole) -> _Known:
        digest = hashlib.sha256(read.data).digest()
        known = self._known.get(file)
        same = known is not None and known.digest == digest
        view = known.view if known is not None and same else self._decode_safely(file, read.data)
        age_ns = self._clock.utc().timestamp() * 1e9 - read.stamp.ctime_ns
        return _Known(read.stamp, age_ns > _COARSE_NS, digest, view)

    def _decode_safely(self, file: str, data: bytes) -> FileView:
        if not data.strip(_BLANK):
            return Unreadable(Problem(file, 1, 1, "", _EMPTY))
        try:
            return self._decode(data, file)
        except Exception:  # one file must never keep the others from being read
            _LOG.exception("%s: the decoder failed; please report this with the file", file)
            return Unreadable(Problem(file, 1, 1, "", "the agent failed to decode it: see the agent's log"))

    def _at_rest(self, file: str, stamp: Stamp) -> bool:
        now_s = self._clock.now_s()
        seen, since_s = self._stamp_since_s.get(file, (stamp, now_s))
        self._stamp_since_s[file] = (stamp, since_s if seen == stamp else now_s)
        return seen == stamp and now_s - since_s >= self._rest_s

    def _look_again_s(self) -> float | None:
        """Soon after a file was deferred, then less and less often."""
        if not self._waiting_since_s:
            return None
        waited_s = self._clock.now_s() - max(self._waiting_since_s.values())
        return min(max(waited_s, _LOOK_AGAIN_MIN_S), _LOOK_AGAIN_MAX_S)

    def _long_waits(self) -> tuple[Problem, ...]:
        now_s = self._clock.now_s()
        message = (
            "a program has had it open for writing for more than a minute: it is read when that program "
            "closes it (`fuser -v FILE` names the program); until then its last version stays in force"
        )
        return tuple(
            Problem(file, 1, 1, "", message)
            for file, since_s in self._waiting_since_s.items()
            if now_s - since_s > _LONG_WAIT_S
        )

    def _root_problem(self, error: OSError) -> Problem:
        message = (
            f"the manifests directory cannot be read: {error.strerror}. "
            "No VM is changed or removed because of that; make the directory readable again"
        )
        return Problem(str(self._root), 1, 1, "", message)


def _root_state(error: OSError) -> RootState:
    match error:
        case FileNotFoundError():
            return RootState.MISSING
        case NotADirectoryError():
            return RootState.NOT_A_DIRECTORY
        case _:
            return RootState.UNREADABLE


def _unreadable(file: str, error: OSError) -> Unreadable:
    message = f"cannot be read: {error.strerror}; what it held stays in force"
    return Unreadable(Problem(file, 1, 1, "", message))


def _stale(state: GitState) -> tuple[Problem, ...]:
    message = (
        f"git has held this lock for more than {STALE_S:.0f} s and has probably died: if no git runs there, "
        "remove the file. The manifests are read all the same"
    )
    return tuple(Problem(str(path), 1, 1, "", message) for path in state.stale)
