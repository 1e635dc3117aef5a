"""Reads a file as a whole version or not at all.

A checkout storm gave 29 truncated reads in 136,000, and half a manifest is often a valid one. The kernel
knows whether anybody has a file open for writing: it grants a read lease only if nobody has, and makes who
then opens it wait until the lease is given back, which is some ten microseconds later. Where there are no
leases (network file systems, other people's files for a plain user), the caller says whether a file has
come to rest.
Next: `reconciler.manifest.scan`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

_NO_LEASES = frozenset({errno.EINVAL, errno.EACCES, errno.EPERM, errno.ENOLCK, errno.EOPNOTSUPP})


@dataclass(frozen=True)
class Stamp:
    """What tells one version of a file from the next without reading it."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @staticmethod
    def of(result: os.stat_result) -> Stamp:
        """The stamp in a stat."""
        return Stamp(result.st_dev, result.st_ino, result.st_size, result.st_mtime_ns, result.st_ctime_ns)


@dataclass(frozen=True)
class Whole:
    """One whole version of a file and the stamp that belongs to it."""

    stamp: Stamp
    data: bytes


@dataclass(frozen=True)
class NotYet:
    """Somebody writes the file, or may still be writing it."""

    reason: str


class NotRegularError(OSError):
    """A device, a FIFO, a socket or a directory where a file should be."""


class _Lease(Enum):
    HELD = auto()
    WRITER = auto()
    UNSUPPORTED = auto()


def read_whole(path: str | Path, max_bytes: int, at_rest: Callable[[Stamp], bool]) -> Whole | NotYet:
    """The file's content (of a longer file the first `max_bytes` + 1) as one version that really was there.

    `at_rest` is asked only where the kernel cannot say whether there is a writer. Never blocks on a FIFO or a
    device. Raises NotRegularError, and OSError if the file cannot be opened or read.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):  # before open, which alone can set a device to work
        raise NotRegularError(errno.EINVAL, "not a regular file")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except BlockingIOError:  # somebody else's lease, a file server's for example
        return NotYet("it is leased to another program")
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotRegularError(errno.EINVAL, "not a regular file")
        return _read_open(descriptor, max_bytes, at_rest)
    finally:
        os.close(descriptor)


def _read_open(descriptor: int, max_bytes: int, at_rest: Callable[[Stamp], bool]) -> Whole | NotYet:
    match _take_lease(descriptor):
        case _Lease.HELD:
            return _read_leased(descriptor, max_bytes)
        case _Lease.WRITER:
            return NotYet("it is open for writing")
        case _Lease.UNSUPPORTED:
            return _read_at_rest(descriptor, max_bytes, at_rest)


def _take_lease(descriptor: int) -> _Lease:
    try:
        # A writer that comes while we hold the lease is announced by a signal: SIGIO, which would kill the
        # agent, unless another is chosen. SIGURG is ignored by default.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            return _Lease.WRITER
        if error.errno in _NO_LEASES:
            return _Lease.UNSUPPORTED
        raise
    return _Lease.HELD


def _read_leased(descriptor: int, max_bytes: int) -> Whole | NotYet:
    try:
        data = _read(descriptor, max_bytes)
        stamp = Stamp.of(os.fstat(descriptor))
        undisturbed = fcntl.fcntl(descriptor, fcntl.F_GETLEASE) == fcntl.F_RDLCK
    finally:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return Whole(stamp, data) if undisturbed else NotYet("it is about to be written")


def _read_at_rest(descriptor: int, max_bytes: int, at_rest: Callable[[Stamp], bool]) -> Whole | NotYet:
    before = Stamp.of(os.fstat(descriptor))
    if not at_rest(before):
        return NotYet("it changed a moment ago")
    data = _read(descriptor, max_bytes)
    if Stamp.of(os.fstat(descriptor)) != before:
        return NotYet("it changed while it was read")
    return Whole(before, data)


def _read(descriptor: int, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    missing = max_bytes + 1
    while missing and (part := os.read(descriptor, missing)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
