"""What a running VM shows, as a PNG: QEMU writes it into a file without a name, which is handed over as a descriptor.

Nothing is left on any disk, and QEMU needs no directory to write to. The descriptor may only be written: QEMU
compares how a descriptor of an fd set was opened with how it wants it (seen on 7.2: one that may also be read is
"Permission denied"). Read `reconciler.qemu.media` for descriptors that stay longer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from reconciler.model.errors import QemuError
from reconciler.qemu.answers import Answer, Execute, mapping, mappings, member

MARK = "screenshot"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Twice what the graphics memory of a VM (16 MiB) can hold. Looked at afterwards, not enforced meanwhile: QEMU aborts
# when its PNG library cannot write.
MAX_BYTES = 32 * 1024**2
HELD_MAX = 64


def screenshot(execute: Execute) -> bytes:
    """The screen as PNG. One caller a VM at a time. Raises QemuError."""
    _sweep(execute)
    with _nameless_file() as (reading, writing):
        fdset = _hand_over(execute, writing)
        try:
            execute("screendump", {"filename": f"/dev/fdset/{fdset}", "format": "png"})
        finally:
            with suppress(QemuError):  # what it leaves, the next screenshot sweeps
                execute("remove-fd", {"fdset-id": fdset})
        return _checked(_read(reading))


def _sweep(execute: Execute) -> None:
    """Give back what screenshots left behind: of an agent that died, and of a VM that was halted meanwhile.

    A QEMU whose guest is halted marks a descriptor as removed and keeps it until the guest runs (seen on 7.2). Only
    so many are left with it. Raises QemuError.
    """
    held = [each for each in _fdsets(execute) if _is_ours(each)]
    for fdset in held:
        execute("remove-fd", {"fdset-id": member(fdset, "fdset-id", int, "query-fdsets")})
    if len(held) >= HELD_MAX and sum(map(_is_ours, _fdsets(execute))) >= HELD_MAX:
        raise QemuError(f"{HELD_MAX} screenshots were taken while the guest was halted; resume it for more")


def _fdsets(execute: Execute) -> list[Answer]:
    return mappings(execute("query-fdsets"), "query-fdsets")


def _is_ours(fdset: Answer) -> bool:
    return any(fd.get("opaque") == MARK for fd in mappings(fdset.get("fds"), "query-fdsets"))


def _hand_over(execute: Execute, fd: int) -> int:
    added = mapping(execute("add-fd", {"opaque": MARK}, fd=fd), "add-fd")
    return member(added, "fdset-id", int, "add-fd")


@contextmanager
def _nameless_file() -> Iterator[tuple[int, int]]:
    """A file in memory, as a descriptor to read and one to write; gone with the block."""
    reading = os.memfd_create("screenshot", os.MFD_CLOEXEC)
    try:
        writing = os.open(f"/proc/self/fd/{reading}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            yield reading, writing
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _read(file: int) -> bytes:
    """What was written, which is given back at once, however long QEMU keeps the file open."""
    data = os.pread(file, MAX_BYTES + 1, 0)
    os.ftruncate(file, 0)
    return data


def _checked(data: bytes) -> bytes:
    if not data.startswith(SIGNATURE):
        raise QemuError("QEMU's screendump is no PNG")
    if len(data) > MAX_BYTES:
        raise QemuError(f"QEMU's screendump has more than {MAX_BYTES // 1024**2} MiB")
    return data
