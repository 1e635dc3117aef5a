"""Says when to look at the manifests: at once when the kernel reports a change, and now and then regardless.

inotify is the hint: it overflows silently and loses directories that are renamed or swapped. The look every
`rescan_s` is the truth. What is watched is the tree below the root, the directory that the root's own name is
in (it may appear, or be a link that is swapped), and the git directory above, for the end of a checkout.
Next: `reconciler.manifest.catalog`, whose `refresh` is the look.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.inotify import InotifyObserver
from watchdog.observers.inotify_move_event_grouper import InotifyMoveEventGrouper

from reconciler.manifest.git_lock import dot_gits_above, git_dir

_LOG = logging.getLogger(__name__)

_EVENTS: list[type[FileSystemEvent]] = [
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
]
"""What can change the manifests. Our own reads open and close files, and must not be heard."""

_PAIRING_S = 0.005
"""How long watchdog keeps the first half of a rename back for the second: its own half second is too long."""

_RENEWALS = 5
"""How often in a row a tree may change under our hands before the next look goes on with it."""

Look = Callable[[], float | None]


@dataclass(frozen=True)
class _Target:
    """A directory to watch, told from another that takes its name."""

    path: str
    recursive: bool
    device: int
    inode: int


class Watcher:
    """Calls `look` from a thread of its own: at the start, after every change, and at least every `rescan_s`.

    `look` returns in how many seconds it wants to be called again at the latest, or None. Changes that come
    while it runs lead to one more call. What it raises is logged, and it is called again at the next rescan.
    """

    def __init__(self, root: Path, rescan_s: float, look: Look) -> None:
        self._root = root.absolute()
        self._rescan_s = rescan_s
        self._look = look
        self._hinted = threading.Event()
        self._stopping = threading.Event()
        self._sight = _Sight(self._root, self._hinted.set)
        self._thread = threading.Thread(target=self._run, name="manifest-watch", daemon=True)

    def start(self) -> None:
        """Begin; the first look is made at once."""
        self._thread.start()

    def stop(self) -> None:
        """End, after a look that is under way. Returns when the thread is gone."""
        self._stopping.set()
        self._hinted.set()
        if self._thread.ident is not None:
            self._thread.join()

    def watches(self) -> bool:
        """Whether somebody still looks."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._hinted.clear()
                self._sight.renew()  # before the look: what changes after this is reported
                self._hinted.wait(self._look_safely())
        finally:
            self._sight.close()

    def _look_safely(self) -> float:
        try:
            due_s = self._look()
        except Exception:  # the one thread that looks must not end
            _LOG.exception("the manifests could not be looked at; the next try is in %g s", self._rescan_s)
            due_s = None
        return self._rescan_s if due_s is None else min(due_s, self._rescan_s)


class _Sight(FileSystemEventHandler):
    """The inotify watches, renewed when what they should watch is something else now."""

    def __init__(self, root: Path, hint: Callable[[], None]) -> None:
        self._root = str(root)
        self._hint = hint
        self._real = ""
        self._targets: frozenset[_Target] = frozenset()
        self._lost = threading.Event()
        self._observer: InotifyObserver | None = None
        self._blind = False

    def renew(self) -> None:
        """Watch what there is to watch now. Never raises: what fails is said once, and left to the rescans."""
        if self._blind:
            return
        try:
            self._renew()
        except Exception as error:  # without its thread nobody would look at the manifests ever again
            self._go_blind(error)

    def _renew(self) -> None:
        """Done when what there is is what is watched, seen after the watches were in place.

        What appeared while they were being changed made no event.
        """
        for _ in range(_RENEWALS):
            targets = _targets(Path(self._root))
            if targets == self._targets and not self._lost.is_set():
                return
            self._lost.clear()
            self._targets = targets
            self._real = os.path.realpath(self._root)
            self._schedule(targets)

    def close(self) -> None:
        """Watch nothing any more."""
        observer, self._observer = self._observer, None
        try:
            if observer is not None and observer.is_alive():
                observer.stop()
                observer.join()
        except Exception:  # it is not needed any more, and its threads end with the process
            _LOG.exception("the watches on the manifests could not be ended properly")

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Pass on what can matter; called by watchdog's thread."""
        source, target = os.fsdecode(event.src_path), os.fsdecode(event.dest_path)
        if isinstance(event, DirDeletedEvent | DirMovedEvent) and source in {t.path for t in self._targets}:
            self._lost.set()
        if _ends_git_lock(event, source) or self._matters(source) or (target and self._matters(target)):
            self._hint()

    def _schedule(self, targets: frozenset[_Target]) -> None:
        if self._observer is None:
            InotifyMoveEventGrouper.delay = _PAIRING_S
            self._observer = InotifyObserver()
            self._observer.start()
        self._observer.unschedule_all()
        for target in targets:
            self._watch(self._observer, target)

    def _go_blind(self, error: Exception) -> None:
        self._blind = True
        _LOG.warning(
            "changes of the manifests are not reported at once, only found by looking now and then: inotify: %s "
            "(see the sysctls fs.inotify.max_user_watches and max_user_instances)",
            error,
            exc_info=None if isinstance(error, OSError) else error,
        )
        self.close()

    def _watch(self, observer: InotifyObserver, target: _Target) -> None:
        try:
            observer.schedule(self, target.path, recursive=target.recursive, event_filter=_EVENTS)
        except (FileNotFoundError, NotADirectoryError):
            self._lost.set()
        except PermissionError:
            _LOG.info("%s may not be watched: changes there are found by looking now and then", target.path)

    def _matters(self, path: str) -> bool:
        if path in (self._root, self._real):
            return True
        below = path.removeprefix(self._real + "/")
        return below != path and ".git" not in below.split("/")


def _ends_git_lock(event: FileSystemEvent, source: str) -> bool:
    ended = isinstance(event, FileDeletedEvent | FileMovedEvent)
    return ended and os.path.basename(source) == "index.lock"


def _targets(root: Path) -> frozenset[_Target]:
    real = os.path.realpath(root)
    git_dirs = (os.path.realpath(git_dir(d)) for d in dot_gits_above(root))
    outside = {os.path.dirname(root), *(d for d in git_dirs if not d.startswith(real + "/"))}
    found = (_target(real, recursive=True), *(_target(d, recursive=False) for d in outside - {real}))
    return frozenset(t for t in found if t is not None)


def _target(path: str, *, recursive: bool) -> _Target | None:
    try:
        result = os.stat(path)
    except OSError:
        return None
    return _Target(path, recursive, result.st_dev, result.st_ino) if os.path.isdir(path) else None
