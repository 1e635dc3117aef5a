"""Writes manifests: the smallest edit, whole after a power cut, never over somebody else's edit.

The directory belongs to people. A file keeps its owner and its mode; a link stays a link, and only a target
inside of the directory is edited; nothing is overwritten that was not read just before.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

from reconciler import durable
from reconciler.manifest.decode import decode
from reconciler.manifest.edit import Changes, edit, without
from reconciler.manifest.whole import NotRegularError, NotYet, Stamp, read_whole
from reconciler.manifest.yaml_reader import MAX_BYTES
from reconciler.model.errors import ConflictError, ManifestError, PreconditionError
from reconciler.model.vm import DesiredVM, ManifestRef, Problem

_LOG = logging.getLogger(__name__)

_ATTEMPTS = 4
_PAUSE_S = 0.05
_SUFFIXES = (".yaml", ".yml")
_T = TypeVar("_T")

Expect = Collection[str] | None
"""The generations of a VM that its writer has seen and would change; None: whatever is there."""


class ManifestStore:
    """The writer of one directory of manifests; safe to be used by many threads."""

    def __init__(self, root: Path, sleep: Callable[[float], object] = time.sleep) -> None:
        self._root = root
        self._sleep = sleep
        self._lock = threading.Lock()

    def change(self, source: ManifestRef, name: str, changes: Changes, expect: Expect = None) -> DesiredVM:
        """Change fields of a VM in the file of `source`; returns the VM as the file says then.

        An edit that came in between is kept: the changes are applied to it, up to three times. Raises
        ManifestError (nothing was written), PreconditionError, ConflictError, OSError.
        """
        return self._repeated(lambda: self._change(source.file, name, changes, expect))

    def preview(self, source: ManifestRef, name: str, changes: Changes, expect: Expect = None) -> DesiredVM:
        """What `change` would return, with nothing written. Raises as `change` does."""
        return self._repeated(lambda: self._edited(source.file, name, changes, expect)[1])

    def rename(self, source: ManifestRef, name: str, new: str, *, dry_run: bool = False) -> DesiredVM:
        """Give the VM another name; a file `<name>.yaml` becomes `<new>.yaml`, unless there is one already.

        Returns the VM as it is described then, and where. Raises as `change` does.
        """
        changes: Changes = {("metadata", "name"): new}
        return self._repeated(lambda: self._rename(source.file, name, new, changes, dry_run=dry_run))

    def described(self, source: ManifestRef, name: str) -> DesiredVM | None:
        """The VM of this name in the file of `source` as it is now; None, too, where that cannot be read."""
        try:
            data = (self._root / source.file).read_bytes()
        except OSError:
            return None
        return next((vm for vm in decode(data, source.file).vms if vm.name == name), None)

    def remove(self, source: ManifestRef, name: str, expect: Expect = None) -> None:
        """Take a VM's document away, and the file with it if nothing else is in there.

        A link is not removed: what it leads to would stay. Raises ManifestError, PreconditionError,
        ConflictError, OSError.
        """
        self._repeated(lambda: self._remove(source.file, name, expect))

    def stamp(self, source: ManifestRef) -> str:
        """What tells this file from one that is made anew at its place with the same words; empty for none."""
        try:
            info = os.stat(self._root / source.file)
        except FileNotFoundError:
            return ""
        return f"{info.st_dev}:{info.st_ino}:{info.st_ctime_ns}"

    def create(self, file_name: str, text: str) -> ManifestRef:
        """Make a new manifest; never overwrites.

        Raises ManifestError for a text or a file name that is no manifest's, ConflictError where the file
        exists, OSError.
        """
        data = text.encode("utf-8", "surrogatepass")
        decoded = decode(data, file_name)
        if decoded.problems or not decoded.vms:
            raise ManifestError(decoded.problems) if decoded.problems else _refused(file_name, "found no VM")
        with self._lock:
            path = self._place_for(file_name)
            mode, owner = _mode_and_owner(path.parent)
            try:
                durable.create(path, data, mode=mode, owner=owner)
            except FileExistsError as error:
                raise ConflictError(f"{file_name} exists already; it was left as it is") from error
        return decoded.vms[0].source

    def _repeated(self, write: Callable[[], _T]) -> _T:
        with self._lock:
            for _ in range(_ATTEMPTS - 1):
                try:
                    return write()
                except ConflictError:
                    self._sleep(_PAUSE_S)
            return write()

    def _change(self, file: str, name: str, changes: Changes, expect: Expect) -> DesiredVM:
        (version, edited), vm = self._edited(file, name, changes, expect)
        self._replace(file, version, edited)
        return vm

    def _edited(
        self, file: str, name: str, changes: Changes, expect: Expect
    ) -> tuple[tuple[_Version, bytes], DesiredVM]:
        version = self._read(file)
        _must_be_expected(version.data, file, name, expect)
        edited = edit(version.data, file, name, changes)
        return (version, edited), _vm_in(edited, file, name)

    def _rename(self, file: str, name: str, new: str, changes: Changes, *, dry_run: bool) -> DesiredVM:
        version = self._read(file)
        edited = edit(version.data, file, name, changes)
        vm = _vm_in(edited, file, new)
        if dry_run:
            return vm
        self._replace(file, version, edited)
        return replace(vm, source=replace(vm.source, file=self._moved(file, name, new)))

    def _moved(self, file: str, name: str, new: str) -> str:
        """Let the file's name follow its VM's, where it did; a link stays. Where the file is now.

        Raises nothing: the VM has its new name already, and that of the file is for people.
        """
        before = PurePosixPath(file)
        after = before.with_stem(new)
        here, there = self._root / before, self._root / after
        if before.stem != name or here.is_symlink() or there.exists():
            return file
        try:
            here.rename(there)
        except OSError as error:
            _LOG.warning("%s describes %s now, and keeps its own name: %s", file, new, error)
            return file
        try:
            durable.sync_directory(there.parent)
        except OSError as error:
            _LOG.warning("%s was %s, and that is perhaps not on the disk: %s", after, file, error)
        return str(after)

    def _remove(self, file: str, name: str, expect: Expect) -> None:
        version = self._read(file)
        _must_be_expected(version.data, file, name, expect)
        rest = without(version.data, file, name)
        if rest is not None:
            self._replace(file, version, rest)
        elif (self._root / file).is_symlink():
            raise _refused(file, "found a link, expected a file: remove both by hand")
        else:
            self._verify(file, version)
            durable.remove(version.path)

    def _replace(self, file: str, version: _Version, data: bytes) -> None:
        if data != version.data:
            verify = partial(self._verify, file, version)
            durable.write(version.path, data, mode=version.mode, owner=version.owner, verify=verify)

    def _verify(self, file: str, version: _Version) -> None:
        if self._read(file) != version:
            raise ConflictError(f"{file} was changed by somebody else at the same moment; try again")

    def _read(self, file: str) -> _Version:
        """What the file is now: links are followed, as long as they stay inside of the directory."""
        try:
            path = (self._root / _relative(file)).resolve(strict=True)
            self._must_be_inside(path, file)
            return _Version.of(path, file)
        except FileNotFoundError as error:
            raise ConflictError(f"{file} is gone") from error
        except RuntimeError as error:  # what pathlib makes of ELOOP
            raise _refused(file, "found a link to itself, expected a file") from error

    def _place_for(self, file: str) -> Path:
        """Where a new file of this name goes."""
        relative = _relative(file)
        hidden = any(part.startswith(".") for part in relative.parts)
        if relative.suffix not in _SUFFIXES or hidden:
            raise _refused(file, "found a file name that is never read, expected such as web-server.yaml")
        parent = (self._root / relative.parent).resolve(strict=True)
        self._must_be_inside(parent, file)
        return parent / relative.name

    def _must_be_inside(self, path: Path, file: str) -> None:
        root = self._root.resolve(strict=True)
        if not path.is_relative_to(root):
            raise _refused(file, f"found a link to {path}, expected a place inside of {root}")


@dataclass(frozen=True)
class _Version:
    """A file at one moment; equal to another only if nobody touched it in between."""

    path: Path
    data: bytes
    mode: int
    owner: durable.Owner
    stamp: Stamp

    @classmethod
    def of(cls, path: Path, file: str) -> _Version:
        """Read it as a whole. Raises ConflictError while somebody has it open for writing."""
        try:
            found = read_whole(path, MAX_BYTES, _take_as_it_is)
        except NotRegularError as error:
            raise _refused(file, "found something that is no regular file, expected one") from error
        if isinstance(found, NotYet):
            raise ConflictError(f"{file} cannot be edited at this moment: {found.reason}; try again")
        info = path.stat()
        if Stamp.of(info) != found.stamp:
            raise ConflictError(f"{file} is being changed by somebody else; try again")
        return cls(path, found.data, stat.S_IMODE(info.st_mode), (info.st_uid, info.st_gid), found.stamp)


def _vm_in(data: bytes, file: str, name: str) -> DesiredVM:
    """The VM that an edited file describes; `edit` has made sure that it does."""
    return next(vm for vm in decode(data, file).vms if vm.name == name)


def _must_be_expected(data: bytes, file: str, name: str, expect: Expect) -> None:
    """Raises PreconditionError unless the VM's generation is one that the writer has seen."""
    if expect is None:
        return
    now = next((vm.generation for vm in decode(data, file).vms if vm.name == name), None)
    if now not in expect:
        raise PreconditionError(
            f"{file} describes {name} otherwise than you have seen it; nothing was changed", now
        )


def _take_as_it_is(_stamp: Stamp) -> bool:
    """Where the kernel does not know of writers: what was read is compared again just before the rename."""
    return True


def _relative(file: str) -> PurePosixPath:
    """A path below the directory, as a manifest's reference or a client names it."""
    path = PurePosixPath(file)
    if path.is_absolute() or ".." in path.parts or not path.name or "\0" in file:
        raise _refused(
            file, "found a path that leads elsewhere, expected one inside of the manifests' directory"
        )
    return path


def _refused(file: str, message: str) -> ManifestError:
    return ManifestError((Problem(file, 1, 1, "", message),))


def _mode_and_owner(directory: Path) -> tuple[int, durable.Owner | None]:
    """For a new file: readable as the directory is; owned as the directory is, where that is ours to give."""
    info = directory.stat()
    mode = 0o600 | (0o644 & info.st_mode)
    return mode, (info.st_uid, info.st_gid) if os.geteuid() == 0 else None
