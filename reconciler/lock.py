"""One agent on one state directory: a lock that ends with its holder, whatever ends that.

The agent's noVNC services hold one each as well, by which the next agent finds them: `reconciler.console.services`.

The lock alone says whether there is an agent. The text in its file says which: it is believed only of a process
that lives and has these start ticks, for the text of an agent that was killed stays, and a pid comes again.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from reconciler.model.errors import StateError

log = logging.getLogger(__name__)

PROBES_S = 0.5  # somebody who only looks whether the lock is held holds it for a moment
PAUSE_S = 0.02


@dataclass(frozen=True)
class Holder:
    """An agent's process, told from every other that has or had its pid since the host was booted."""

    pid: int
    start_ticks: int


class AgentLock:
    """An flock on a file that names its holder. The descriptor is not inherited by QEMU."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def __enter__(self) -> AgentLock:
        """Take the lock, where no agent has it. Raises StateError, naming the holder."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(self._path, error) from error
        try:
            _take(descriptor, self._path)
            _sign(descriptor)
        except OSError as error:
            os.close(descriptor)
            raise _unusable(self._path, error) from error
        except StateError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lock back."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # what stands there is of no live agent soon
                os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


def holder(path: Path) -> Holder | None:
    """The live agent that holds the lock now; None where nobody does, or it is not known who. Raises StateError."""
    text = _text_if_held(path)
    return None if text is None else _named_in(text)


def must_be_free(path: Path) -> None:
    """Raises StateError, naming the holder, where an agent holds the lock."""
    if (text := _text_if_held(path)) is not None:
        raise _taken(path, _named_in(text))


def end_holder(
    path: Path, timeout_s: float = 30.0, by: signal.Signals = signal.SIGTERM, what: str = "the agent"
) -> None:
    """End the process that holds the lock, by a signal, and wait until it has. Nothing to do where none does.

    `what` is what it is called in the log. Raises StateError where it may not be ended, or has not ended in time.
    """
    deadline = time.monotonic() + timeout_s
    asked: Holder | None = None
    while (text := _text_if_held(path)) is not None:
        found = _named_in(text)
        if found is not None and found != asked:
            log.info("ending %s%s with %s", what, _pid_of(found), by.name)
            _signal(found, by)
            asked = found
        if time.monotonic() > deadline:
            raise StateError(f"{_called(found)} that uses {path.parent} did not end within {timeout_s:g} s")
        time.sleep(PAUSE_S)


def _take(descriptor: int, path: Path) -> None:
    """Lock; wait for those who only look, and for an agent that has not signed yet, to refuse it by its name."""
    deadline = time.monotonic() + PROBES_S
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            found = holder(path)
            if found is not None or time.monotonic() > deadline:
                raise _taken(path, found) from error
        time.sleep(PAUSE_S)


def _sign(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()} {start_ticks(os.getpid())}\n".encode(), 0)


def _text_if_held(path: Path) -> bytes | None:
    """What the file says while somebody holds the lock; None where nobody does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(descriptor, 64, 0)
    else:
        return None
    finally:
        os.close(descriptor)


def _named_in(text: bytes) -> Holder | None:
    """The process that the text names, if it lives: between lock and signature the text is the former agent's."""
    words = text.split()
    if len(words) != 2 or not all(word.isdigit() for word in words):
        return None
    named = Holder(*map(int, words))
    return named if start_ticks(named.pid) == named.start_ticks else None


def start_ticks(pid: int) -> int | None:
    """When the process was started; None where there is none of this pid."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return int(stat[stat.rindex(b")") + 1 :].split()[19])  # 22 in proc(5); the name before may hold anything


def _signal(agent: Holder, number: signal.Signals) -> None:
    """Send a signal. Raises StateError where that is not allowed; a process that is gone is fine."""
    try:
        with _held(agent.pid) as pidfd:
            if start_ticks(agent.pid) == agent.start_ticks:
                signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return
    except OSError as error:
        raise StateError(f"{_called(agent)} cannot be ended: {error.strerror}") from error


@contextlib.contextmanager
def _held(pid: int) -> Iterator[int]:
    """A pidfd, which pins whatever has the pid: what is compared behind it is compared of what is signalled."""
    pidfd = os.pidfd_open(pid)
    try:
        yield pidfd
    finally:
        os.close(pidfd)


def _taken(path: Path, agent: Holder | None) -> StateError:
    return StateError(
        f"another agent{_pid_of(agent)} uses {path.parent}; end it first, or give this one another --state-dir"
    )


def _called(agent: Holder | None) -> str:
    return f"the agent{_pid_of(agent)}"


def _pid_of(agent: Holder | None) -> str:
    return f" (pid {agent.pid})" if agent else ""


def _unusable(path: Path, error: OSError) -> StateError:
    return StateError(f"{path}: cannot be used as the agent's lock: {error.strerror}")
