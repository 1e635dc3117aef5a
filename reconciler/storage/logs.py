"""The logs of a VM: QEMU's stderr, whose end explains a failure, and the serial console, which must not fill a disk."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from reconciler.layout import VMDir
from reconciler.model.inspection import LogEnd

KEPT_BYTES = 1024**2

# What terminals obey: colours and cursor moves, titles, and the rest of ESC's short forms.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def size(path: Path) -> int:
    """Bytes in a log; 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def read_tail(path: Path, limit_bytes: int) -> bytes:
    """The last bytes of a log; none where there is none. Never follows a link, never waits for a FIFO."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return b""
        return os.pread(descriptor, limit_bytes, max(0, status.st_size - limit_bytes))
    finally:
        os.close(descriptor)


def end_of(path: Path, limit_bytes: int, lines: int, before: Path | None = None) -> LogEnd:
    """The last lines of a log, of at most so many bytes, as text that is harmless on a terminal and in a page.

    A log shorter than that goes on, backwards, in `before`.
    """
    total = size(path)
    data = read_tail(path, limit_bytes)
    if before is not None and len(data) < limit_bytes:
        total += size(before)
        data = read_tail(before, limit_bytes - len(data)) + data
    if len(data) < total:
        data = data[data.find(b"\n") + 1 :]  # the first line is most likely half of one
    return LogEnd("".join(harmless(data).splitlines(keepends=True)[-lines:]), total)


def harmless(data: bytes) -> str:
    """Text without anything that a terminal obeys; what is no UTF-8, and other control characters, become U+FFFD."""
    text = data.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROLS.sub("\ufffd", _ESCAPES.sub("", text))


def cut_serial_log(home: VMDir) -> None:
    """Begin the serial log anew. QEMU appends, so what is cut off is free; the end of it is kept aside."""
    home.serial_log_before.write_bytes(read_tail(home.serial_log, KEPT_BYTES))
    os.truncate(home.serial_log, 0)
