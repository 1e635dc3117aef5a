"""Word of every QEMU that ends, is stopped by a signal, or goes on. The kernel is asked, never QEMU.

An exit wakes the thread through a pidfd. A stop (SIGSTOP, a debugger) wakes nobody, so the state letters in
/proc are compared every `poll_s`. A change is told by name alone; whoever is told looks for himself.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from reconciler.model.errors import StateError
from reconciler.model.observed import ProcessHandle
from reconciler.qemu.process import Processes, ProcessState

log = logging.getLogger(__name__)


@dataclass
class _Watched:
    handle: ProcessHandle
    pidfd: int
    state: ProcessState


class ExitWatch:
    """Calls `on_change(name)`, from its own thread, when a watched process ends, stops or continues.

    An end is told once; the name is then watched no longer. `on_change` must not block.
    """

    def __init__(self, processes: Processes, on_change: Callable[[str], None], poll_s: float = 2.0) -> None:
        self._processes = processes
        self._on_change = on_change
        self._poll_s = poll_s
        self._lock = threading.Lock()
        self._watched: dict[str, _Watched] = {}
        self._names: dict[int, str] = {}
        self._epoll = select.epoll()
        self._wake = os.eventfd(0)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="exits", daemon=True)
        self._thread.start()

    def watch(self, name: str, handle: ProcessHandle) -> None:
        """Watch the process of this name, in place of the one before; one that is gone is told at once.

        Raises StateError where it cannot be watched.
        """
        with self._lock:
            present = self._watched.get(name)
            if present is not None and present.handle == handle:
                return
            self._forget(name)
            watched = self._take_hold(handle)
            if watched is not None:
                self._names[watched.pidfd] = name
                self._watched[name] = watched
        if watched is None:
            self._tell(name)

    def unwatch(self, name: str) -> None:
        """Watch the process of this name no longer."""
        with self._lock:
            self._forget(name)

    def close(self) -> None:
        """End the thread and let go of everything."""
        self._closing.set()
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        with self._lock:
            for name in list(self._watched):
                self._forget(name)
            self._epoll.close()
            os.close(self._wake)

    def _take_hold(self, handle: ProcessHandle) -> _Watched | None:
        """None if the process is gone. The pidfd comes first, so that the state seen is its process's."""
        try:
            pidfd = os.pidfd_open(handle.pid)
        except ProcessLookupError:
            return None
        except OSError as error:
            raise StateError(f"cannot watch process {handle.pid}: {error}") from error
        watched = None
        try:
            watched = self._registered(handle, pidfd)
        except OSError as error:
            raise StateError(f"cannot watch process {handle.pid}: {error}") from error
        finally:
            if watched is None:
                os.close(pidfd)
        return watched

    def _registered(self, handle: ProcessHandle, pidfd: int) -> _Watched | None:
        state = self._processes.state(handle)
        if state is ProcessState.DEAD:
            return None
        self._epoll.register(pidfd, select.EPOLLIN)
        return _Watched(handle, pidfd, state)

    def _forget(self, name: str) -> None:
        watched = self._watched.pop(name, None)
        if watched is not None:
            del self._names[watched.pidfd]
            self._epoll.unregister(watched.pidfd)
            os.close(watched.pidfd)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._wait_and_tell()
            except Exception:  # without this thread no end would be noticed before the next round
                log.exception("looking at the QEMUs failed; the next look is in %g s", self._poll_s)
                self._closing.wait(self._poll_s)

    def _wait_and_tell(self) -> None:
        ready = [descriptor for descriptor, _ in self._epoll.poll(self._poll_s)]
        if self._wake in ready:
            return
        for name in self._ended(ready):
            self._tell(name)
        for name in self._changed():
            self._tell(name)

    def _ended(self, ready: list[int]) -> list[str]:
        """Asked again under the lock: the number may have come to be another process's pidfd meanwhile."""
        with self._lock:
            names = [self._names[pidfd] for pidfd in ready if pidfd in self._names and _has_ended(pidfd)]
            for name in names:
                self._forget(name)
        return names

    def _changed(self) -> Iterator[str]:
        """Those that were stopped or continued since the last look, each as soon as it is found."""
        with self._lock:
            watched = list(self._watched.items())
        for name, one in watched:
            with suppress(StateError):  # not knowing is no change; the round that needs to know says so
                state = self._processes.state(one.handle)
                if state not in {one.state, ProcessState.DEAD}:  # of an end the pidfd tells
                    one.state = state
                    yield name

    def _tell(self, name: str) -> None:
        try:
            self._on_change(name)
        except Exception:
            log.exception("%s: telling of its process failed", name)


def _has_ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))
