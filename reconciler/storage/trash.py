"""VMs that were set aside: their disks, identity and last manifest, until the day that is written in each entry."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from reconciler import durable
from reconciler.layout import Layout, VMDir
from reconciler.model.errors import ConflictError, StateError
from reconciler.model.vm import DesiredVM

log = logging.getLogger(__name__)


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
        if not home.path.exists() and (done := self._already(last)):
            return done  # an agent died between the move and telling that it was made
        home.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        note = TrashEntry(last.name, last.source.file, now, now + timedelta(days=last.spec.retain_days))
        durable.write(home.manifest, last.text.encode())
        durable.write(_note(home.path), msgspec.json.encode(note) + b"\n")
        self._layout.trash.mkdir(parents=True, exist_ok=True, mode=0o700)
        target = self._place(note)
        self._move(home.path, target)
        return target

    def set_disk_aside(self, name: str, now: datetime) -> Path | None:
        """Move the VM's root disk below its own directory; returns where it is now, None where there was none.

        It stays there until the VM itself goes, or somebody removes it.
        """
        home = self._layout.vm(name)
        if not home.disk.exists():
            return None
        target = home.replaced_disk(f"{now:%Y%m%dT%H%M%S.%fZ}")
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        home.disk.rename(target)
        durable.sync_directory(target.parent)
        durable.sync_directory(home.path)
        return target

    def discard(self, name: str) -> None:
        """Delete the VM's directory, disks included. A VM without one is fine."""
        if (home := self._layout.vm(name).path).exists():
            shutil.rmtree(home)
            durable.sync_directory(self._layout.vms)

    def entries(self) -> tuple[tuple[Path, TrashEntry], ...]:
        """Every entry with a readable note, oldest first."""
        paths = self._layout.trash.iterdir() if self._layout.trash.exists() else ()
        found = [(path, note) for path in paths if (note := _read_note(path))]
        return tuple(sorted(found, key=lambda entry: entry[1].set_aside_at))

    def find(self, name: str) -> TrashEntry:
        """The entry that `taking_back` would move. Raises as it does."""
        return self._newest(name, self._layout.vm(name))[1]

    @contextlib.contextmanager
    def taking_back(self, name: str) -> Iterator[tuple[TrashEntry, str]]:
        """Move the newest entry of this name back; gives its note and the text of its manifest.

        Where the caller fails to write the manifest, the entry is in the trash again, as it was. One that an agent
        was bringing back when it died is gone on with. Raises StateError where there is none, ConflictError where
        a VM of this name exists.
        """
        home = self._layout.vm(name)
        path, note = self._newest(name, home)
        if path != home.path:
            self._move(path, home.path)
        try:
            yield note, home.manifest.read_text()
        except BaseException:
            self._move(home.path, self._place(note))
            raise
        _note(home.path).unlink()
        home.manifest.unlink()

    def purge(self, now: datetime) -> tuple[str, ...]:
        """Delete what may be deleted by now; returns the names. What cannot be deleted is tried again next time."""
        gone = []
        for path, note in self.entries():
            if note.delete_after <= now:
                try:
                    shutil.rmtree(path)
                    gone.append(note.name)
                except OSError as error:
                    log.warning("%s: cannot be deleted from the trash: %s", path, error)
        return tuple(gone)

    def _already(self, last: DesiredVM) -> Path | None:
        """The newest entry of this name, if it was made of this very manifest."""
        for path, note in reversed(self.entries()):
            if note.name == last.name:
                return path if VMDir(path).manifest.read_text() == last.text else None
        return None

    def _newest(self, name: str, home: VMDir) -> tuple[Path, TrashEntry]:
        if home.path.exists():
            if note := _read_note(home.path):
                return home.path, note
            raise ConflictError(f"{name}: a VM of this name exists; remove or rename it first")
        mine = [entry for entry in self.entries() if entry[1].name == name]
        if not mine:
            raise StateError(f"{name}: nothing of this name was set aside in {self._layout.trash}")
        return mine[-1]

    def _place(self, note: TrashEntry) -> Path:
        return self._layout.trash / f"{note.name}-{note.set_aside_at:%Y%m%dT%H%M%S.%fZ}"

    def _move(self, source: Path, target: Path) -> None:
        source.rename(target)
        durable.sync_directory(self._layout.trash)
        durable.sync_directory(self._layout.vms)


def _read_note(path: Path) -> TrashEntry | None:
    try:
        return msgspec.json.decode(_note(path).read_bytes(), type=TrashEntry)
    except (OSError, msgspec.DecodeError):
        return None


def _note(path: Path) -> Path:
    return path / "trash.json"
