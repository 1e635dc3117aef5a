"""Tells whether git is at work in the tree: a checkout unlinks files, even directories, and makes them again.

git holds `index.lock` while it does, and renames it to `index` at the end. A look at the tree counts only if
no young lock was there before and after it, and the index is the same file. Next: `reconciler.manifest.scan`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from reconciler.clock import Clock
from reconciler.manifest.whole import Stamp

STALE_S = 60.0
"""A checkout that takes longer is hardly one of manifests: the git that made such a lock has died."""


_DOT_GIT_MAX_CHARS = 8192
"""Longer than any path: a file that goes on is none that git made."""


@dataclass(frozen=True)
class GitState:
    """Locks and index files of some repositories at one moment: equal states mean that no git ran between."""

    marks: tuple[tuple[str, Stamp], ...]
    busy: bool
    stale: tuple[Path, ...]


def dot_gits_above(root: Path) -> tuple[Path, ...]:
    """The `.git` of every work tree that `root` lies in, as it is named and as its symlinks resolve."""
    places = dict.fromkeys((*_upwards(root.absolute()), *_upwards(Path(os.path.realpath(root)))))
    return tuple(p / ".git" for p in places if os.path.exists(p / ".git"))


def git_dir(dot_git: Path) -> Path:
    """The directory that a `.git` is, or that a `.git` file (of a linked work tree) names.

    A file that names none, such as one full of zeros that a power cut left, stands for itself.
    """
    named = _named_in(dot_git) if os.path.isfile(dot_git) else ""
    return dot_git.parent / named if named else dot_git


class GitLocks:
    """Looks at locks, and remembers since when each has been there, whatever the wall clock does."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._first_seen_s: dict[tuple[str, Stamp], float] = {}

    def look(self, dot_gits: Iterable[Path]) -> GitState:
        """The state of these repositories now."""
        directories = [git_dir(d) for d in dot_gits]
        locks = _stamps(d / "index.lock" for d in directories)
        indexes = _stamps(d / "index" for d in directories)
        now_s = self._clock.now_s()
        self._first_seen_s = {lock: self._first_seen_s.get(lock, now_s) for lock in locks}
        stale = tuple(Path(lock[0]) for lock in locks if self._age_s(lock, now_s) > STALE_S)
        return GitState((*locks, *indexes), busy=len(stale) < len(locks), stale=stale)

    def _age_s(self, lock: tuple[str, Stamp], now_s: float) -> float:
        by_wall_clock_s = self._clock.utc().timestamp() - lock[1].mtime_ns / 1e9
        return max(by_wall_clock_s, now_s - self._first_seen_s[lock])


def _named_in(dot_git: Path) -> str:
    """What a `.git` file names; empty where that is no path."""
    try:
        with dot_git.open(errors="replace") as file:
            text = file.read(_DOT_GIT_MAX_CHARS)
    except OSError:
        return ""
    keyword, _, named = text.partition(":")
    return named.strip() if keyword == "gitdir" and "\0" not in named else ""


def _upwards(path: Path) -> tuple[Path, ...]:
    return (path, *path.parents)


def _stamps(paths: Iterable[Path]) -> tuple[tuple[str, Stamp], ...]:
    found: list[tuple[str, Stamp]] = []
    for path in paths:
        try:
            found.append((str(path), Stamp.of(path.stat())))
        except OSError:
            continue
    return tuple(found)
