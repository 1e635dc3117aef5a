"""What an import gives: a spec, and everything that somebody has to know about it.

Next: `reconciler.importing.libvirt`, which makes one from a libvirt domain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from reconciler.model.vm import VMSpec

ROOT_DISK = "root"


class Kind(StrEnum):
    """How much a note matters, the most urgent first; the value is the heading that people read."""

    TO_DO = "to do before it is the same VM"
    CHANGED = "carried over otherwise"
    LOST = "does not carry over"


@dataclass(frozen=True)
class Note:
    """One thing that is not as it was: its place in the source (an XPath below its root), and what to do."""

    kind: Kind
    place: str
    line: int
    message: str


@dataclass(frozen=True)
class Image:
    """A disk whose content has to be brought: where it is, and which disk of the VM it becomes.

    `disk` is ROOT_DISK or the name of a data disk. `path` is the source's own word, and may be anything.
    """

    disk: str
    path: str
    format: str


@dataclass(frozen=True)
class Imported:
    """A VM as another program described it."""

    name: str
    spec: VMSpec
    labels: Mapping[str, str]
    notes: tuple[Note, ...]
    images: tuple[Image, ...] = ()

    def noted(self, kind: Kind) -> tuple[Note, ...]:
        """The notes of one kind, in the order of the source."""
        return tuple(note for note in self.notes if note.kind is kind)
