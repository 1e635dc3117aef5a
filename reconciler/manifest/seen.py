"""What one look at the manifests directory saw, as values: the way from the disk to the pure rules.

Made by `reconciler.manifest.scan`, judged by `reconciler.manifest.claims` and `reconciler.manifest.holdings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from reconciler.manifest.decode import Decoded
from reconciler.model.vm import Problem


class RootState(StrEnum):
    """What the manifests directory itself is."""

    PRESENT = "present"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    NOT_A_DIRECTORY = "not a directory"


@dataclass(frozen=True)
class Deferred:
    """A file that somebody is writing: read when it is whole, counted as what it was until then."""

    reason: str


@dataclass(frozen=True)
class Unreadable:
    """A file, or (its path ends with `/`) a whole sub-directory, that could not be read."""

    problem: Problem


FileView = Decoded | Deferred | Unreadable


@dataclass(frozen=True)
class Scan:
    """One look. `files` is sorted by path relative to the root.

    Not `settled`: git is at work in the tree, so that nothing at all was concluded. `look_again_s` is when
    what was deferred deserves another look; None if nothing was.
    """

    root: RootState
    files: Mapping[str, FileView] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    settled: bool = True
    look_again_s: float | None = None

    def same_as(self, other: Scan) -> bool:
        """Whether two looks saw the same. Decoded files are the same only if nothing was decoded anew between."""
        return (
            (self.root, self.problems, self.settled) == (other.root, other.problems, other.settled)
            and self.files.keys() == other.files.keys()
            and all(_same(view, other.files[file]) for file, view in self.files.items())
        )


def _same(one: FileView, other: FileView) -> bool:
    return one is other or (not isinstance(one, Decoded) and one == other)
