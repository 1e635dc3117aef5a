"""One agent on one state directory: a lock that ends with its holder, whatever ends that."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType

from reconciler.model.errors import StateError


class AgentLock:
    """An flock on a file that names its holder's pid. The descriptor is not inherited by QEMU."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def __enter__(self) -> AgentLock:
        """Take the lock, at once or not at all. Raises StateError, naming the holder."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            must_be_free(self._path)
            raise StateError(f"{self._path} was held a moment ago; try again") from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lock back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def holder(path: Path) -> int | None:
    """The pid of the agent that holds the lock now (0: not written yet); None where nobody does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(descriptor, 32, 0).decode().strip()
        return int(text) if text.isdigit() else 0
    else:
        return None
    finally:
        os.close(descriptor)


def must_be_free(path: Path) -> None:
    """Raises StateError, naming the holder, where an agent holds the lock."""
    if (pid := holder(path)) is not None:
        raise StateError(
            f"another agent (pid {pid}) uses {path.parent}; end it first, or give this one another --state-dir"
        )


def wait_free(path: Path, timeout_s: float = 30.0) -> None:
    """Wait until nobody holds the lock. Raises StateError when the time is over."""
    deadline = time.monotonic() + timeout_s
    while (pid := holder(path)) is not None:
        if time.monotonic() > deadline:
            raise StateError(f"the agent (pid {pid}) did not end within {timeout_s:g} s")
        time.sleep(0.05)
