"""VMs that were set aside: their disks, identity and last manifest, until the day that is written in each entry."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from reconciler import durable
from reconciler.layout import Layout
from reconciler.model.errors import ConflictError, StateError
from reconciler.model.vm import DesiredVM


@dataclass(frozen=True)
class TrashEntry:
    """One VM that was set aside, and when it may be deleted. `file` is where its manifest stood."""

    name: str
    file: str
    set_aside_at: datetime
    delete_after: datetime


class Trash:
    """The trash below one state directory. An entry without its note is kept for ever: nothing says otherwise."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def set_aside(self, last: DesiredVM, now: datetime) -> Path:
        """Move the VM's directory to the trash with its last manifest; returns where it is now.

        A VM that never had a directory leaves one that holds the manifest alone.
        """
        home = self._layout.vm(last.name)
        home.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        note = TrashEntry(last.name, last.source.file, now, now + timedelta(days=last.spec.retain_days))
        durable.write(home.manifest, last.text.encode())
        durable.write(_note(home.path), msgspec.json.encode(note) + b"\n")
        self._layout.trash.mkdir(parents=True, exist_ok=True, mode=0o700)
        target = self._layout.trash / f"{last.name}-{now:%Y%m%dT%H%M%S.%fZ}"
        self._move(home.path, target)
        return target

    def discard(self, name: str) -> None:
        """Delete the VM's directory, disks included. A VM without one is fine."""
        if (home := self._layout.vm(name).path).exists():
            shutil.rmtree(home)

    def entries(self) -> tuple[tuple[Path, TrashEntry], ...]:
        """Every entry with a readable note, oldest first."""
        found = []
        for path in self._layout.trash.iterdir() if self._layout.trash.exists() else ():
            try:
                found.append((path, msgspec.json.decode(_note(path).read_bytes(), type=TrashEntry)))
            except (OSError, msgspec.DecodeError):
                continue
        return tuple(sorted(found, key=lambda entry: entry[1].set_aside_at))

    @contextlib.contextmanager
    def taking_back(self, name: str) -> Iterator[tuple[TrashEntry, str]]:
        """Move the newest entry of this name back; gives its note and the text of its manifest.

        Where the caller fails to write the manifest, the entry is in the trash again, as it was. Raises StateError
        where there is none, ConflictError where a VM of this name exists.
        """
        mine = [entry for entry in self.entries() if entry[1].name == name]
        if not mine:
            raise StateError(f"{name}: nothing of this name was set aside in {self._layout.trash}")
        path, note = mine[-1]
        home = self._layout.vm(name)
        if home.path.exists():
            raise ConflictError(f"{name}: a VM of this name exists; remove or rename it first")
        self._move(path, home.path)
        try:
            yield note, home.manifest.read_text()
        except BaseException:
            self._move(home.path, path)
            raise
        _note(home.path).unlink()
        home.manifest.unlink()

    def purge(self, now: datetime) -> tuple[str, ...]:
        """Delete what may be deleted by now; returns the names."""
        ripe = [(path, note) for path, note in self.entries() if note.delete_after <= now]
        for path, _ in ripe:
            shutil.rmtree(path)
        return tuple(note.name for _, note in ripe)

    def _move(self, source: Path, target: Path) -> None:
        source.rename(target)
        durable.sync_directory(self._layout.trash)
        durable.sync_directory(self._layout.vms)


def _note(path: Path) -> Path:
    return path / "trash.json"
