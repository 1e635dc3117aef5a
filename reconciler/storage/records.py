"""What the agent keeps of each VM on disk: its identity and its lifecycle, as JSON of the model's own types.

Every write is durable before it returns; a file that cannot be read or decoded is a StateError, never "nothing".
Next: `reconciler.storage.trash`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from reconciler import durable
from reconciler.layout import Layout
from reconciler.model.errors import StateError
from reconciler.model.observed import Identity, Lifecycle
from reconciler.model.vm import is_vm_name

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Renaming:
    """From what name to what."""

    old: str
    new: str


class Records:
    """The records of all VMs below one state directory."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def names(self) -> tuple[str, ...]:
        """Every VM that has a directory, sorted, whether or not a manifest describes it."""
        try:
            return tuple(sorted(p.name for p in self._layout.vms.iterdir() if is_vm_name(p.name)))
        except FileNotFoundError:
            return ()

    def exists(self, name: str) -> bool:
        """Whether anything is kept of this VM."""
        return self._layout.vm(name).path.exists()

    def identity(self, name: str) -> Identity | None:
        """The VM's identity, or None before its first start. Raises StateError."""
        return _read(self._layout.vm(name).identity, Identity)

    def lifecycle(self, name: str) -> Lifecycle | None:
        """What is remembered of the VM, or None where nothing is: which does not mean that nothing runs.

        Raises StateError.
        """
        return _read(self._layout.vm(name).lifecycle, Lifecycle)

    def save_identity(self, name: str, identity: Identity) -> None:
        """Make the identity durable. Raises StateError."""
        self._write(name, self._layout.vm(name).identity, identity)

    def save_lifecycle(self, name: str, lifecycle: Lifecycle) -> None:
        """Make the memory durable. Raises StateError."""
        self._write(name, self._layout.vm(name).lifecycle, lifecycle)

    # ---- another name ---------------------------------------------------------------------------

    def note_renaming(self, old: str, new: str) -> None:
        """Make durable, in the VM's directory, that it is about to get another name. Raises StateError."""
        self._write(old, self._layout.vm(old).renaming, Renaming(old, new))

    def renaming(self, name: str) -> Renaming | None:
        """The renaming that this directory is in the middle of."""
        return _read(self._layout.vm(name).renaming, Renaming)

    def move(self, old: str, new: str) -> None:
        """Move the VM's directory. Raises StateError, with all as before."""
        here, there = self._layout.vm(old).path, self._layout.vm(new).path
        try:
            here.rename(there)
            try:
                durable.sync_directory(self._layout.vms)
            except OSError:
                there.rename(here)
                raise
        except OSError as error:
            raise StateError(f"{here}: cannot be moved: {error.strerror}") from error

    def move_back(self, new: str, old: str) -> None:
        """Move the VM's directory to where it was: what is not surely on the disk then, is still done.

        Raises StateError.
        """
        here, there = self._layout.vm(new).path, self._layout.vm(old).path
        try:
            here.rename(there)
        except OSError as error:
            raise StateError(f"{here}: cannot be moved back: {error.strerror}") from error
        try:
            durable.sync_directory(self._layout.vms)
        except OSError as error:
            log.warning("%s: is back, and that is perhaps not on the disk: %s", there, error)

    def end_renaming(self, name: str) -> None:
        """Take the note away."""
        self._layout.vm(name).renaming.unlink(missing_ok=True)

    def _write(self, name: str, path: Path, value: object) -> None:
        try:
            self._layout.vm(name).path.mkdir(parents=True, exist_ok=True, mode=0o700)
            durable.write(path, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
        except OSError as error:
            raise StateError(f"{path}: cannot be written: {error.strerror}") from error


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"{path}: cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise StateError(
            f"{path}: is damaged ({error}); put a good copy in its place, or, once its QEMU has ended, move it away"
        ) from error
