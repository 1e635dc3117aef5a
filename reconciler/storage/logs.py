"""The logs of a VM: QEMU's stderr, whose end explains a failure, and the serial console, which must not fill a disk."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from reconciler.layout import VMDir

KEPT_BYTES = 1024**2


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
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return b""
        file.seek(max(0, status.st_size - limit_bytes))
        return file.read(limit_bytes)


def cut_serial_log(home: VMDir) -> None:
    """Begin the serial log anew. QEMU appends, so what is cut off is free; the end of it is kept aside."""
    home.serial_log_before.write_bytes(read_tail(home.serial_log, KEPT_BYTES))
    os.truncate(home.serial_log, 0)
