"""Word of real processes that end, stop and go on."""

from __future__ import annotations

import errno
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.model.errors import StateError
from reconciler.model.observed import ProcessHandle
from reconciler.qemu.exits import ExitWatch
from reconciler.qemu.process import Processes, ProcessState
from tests.contract.qemu.live import wait_for

POLL_S = 0.02


class Watched:
    """A watch, and whom it told of."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.processes = Processes()
        self.told: list[str] = []
        self.watch = ExitWatch(self.processes, self.told.append, POLL_S)
        self._handles: list[ProcessHandle] = []

    def sleeper(self) -> ProcessHandle:
        log = self.directory / "log"
        argv = ("sleep", "1000")
        handle = self.processes.spawn(argv, log_path=log, pass_fds=(), user=None, groups=(), cwd=Path("/"))
        self._handles.append(handle)
        return handle

    def signal(self, handle: ProcessHandle, number: signal.Signals) -> None:
        self.processes.send_signal(handle, number)

    def end(self, handle: ProcessHandle) -> None:
        self.signal(handle, signal.SIGKILL)
        wait_for("its end", lambda: self.processes.state(handle) is ProcessState.DEAD)
        self.processes.reap(handle)

    def wait_told(self, *names: str) -> None:
        wait_for(f"word of {names}, not {self.told}", lambda: self.told == list(names))

    def close(self) -> None:
        self.watch.close()
        for handle in self._handles:
            self.end(handle)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(tmp_path)
    yield watched
    watched.close()


def test_an_end_is_told_once_by_name(watched: Watched) -> None:
    one, other = watched.sleeper(), watched.sleeper()
    watched.watch.watch("one", one)
    watched.watch.watch("other", other)
    watched.end(one)
    watched.wait_told("one")
    watched.end(other)
    watched.wait_told("one", "other")


def test_an_end_is_told_at_once_and_not_at_the_next_poll(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.watch.close()
    watched.watch = ExitWatch(watched.processes, watched.told.append, poll_s=3600)
    handle = watched.sleeper()
    watched.watch.watch("one", handle)
    watched.end(handle)
    watched.wait_told("one")
    watched.close()


def test_a_stop_and_a_going_on_are_told(watched: Watched) -> None:
    handle = watched.sleeper()
    watched.watch.watch("one", handle)
    watched.signal(handle, signal.SIGSTOP)
    watched.wait_told("one")
    watched.signal(handle, signal.SIGCONT)
    watched.wait_told("one", "one")
    watched.end(handle)
    watched.wait_told("one", "one", "one")


def test_a_process_that_is_gone_already_is_told_at_once(watched: Watched) -> None:
    handle = watched.sleeper()
    watched.end(handle)
    watched.watch.watch("one", handle)
    assert watched.told == ["one"]


def test_watching_the_same_process_again_changes_nothing(watched: Watched) -> None:
    handle = watched.sleeper()
    for _ in range(3):
        watched.watch.watch("one", handle)
    watched.end(handle)
    watched.wait_told("one")


def test_a_name_has_one_process_the_latest(watched: Watched) -> None:
    old, new, last = watched.sleeper(), watched.sleeper(), watched.sleeper()
    watched.watch.watch("one", old)
    watched.watch.watch("one", new)
    watched.watch.watch("last", last)
    watched.end(old)
    watched.end(last)
    watched.wait_told("last")
    watched.end(new)
    watched.wait_told("last", "one")


def test_a_wake_that_was_meant_for_another_is_no_end(watched: Watched) -> None:
    """Between the kernel's wake and the look, a pidfd's number may have come to be another process's."""
    handle = watched.sleeper()
    watched.watch.watch("one", handle)
    assert watched.watch._ended([watched.watch._watched["one"].pidfd]) == []
    watched.end(handle)
    watched.wait_told("one")


def test_what_is_watched_no_longer_is_not_told(watched: Watched) -> None:
    one, last = watched.sleeper(), watched.sleeper()
    watched.watch.watch("one", one)
    watched.watch.watch("last", last)
    watched.watch.unwatch("one")
    watched.watch.unwatch("never watched")
    watched.end(one)
    watched.end(last)
    watched.wait_told("last")


def test_one_that_fails_to_listen_ends_no_watch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(tmp_path)
    watched.watch.close()

    def listen(name: str) -> None:
        watched.told.append(name)
        raise RuntimeError("boom")

    watched.watch = ExitWatch(watched.processes, listen, POLL_S)
    for name in ("one", "two"):
        handle = watched.sleeper()
        watched.watch.watch(name, handle)
        watched.end(handle)
    wait_for("word of both", lambda: sorted(watched.told) == ["one", "two"])
    watched.close()
    assert "one: telling of its process failed" in caplog.text


class Full:
    """An epoll that has no room for one more, as where fs.epoll.max_user_watches is reached."""

    def __init__(self, epoll: select.epoll) -> None:
        self.poll, self.unregister, self.close = epoll.poll, epoll.unregister, epoll.close

    def register(self, descriptor: int, events: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_what_could_not_be_watched_does_not_count_as_watched(watched: Watched) -> None:
    handle, epoll = watched.sleeper(), watched.watch._epoll
    descriptors = os.listdir("/proc/self/fd")
    watched.watch._epoll = Full(epoll)  # type: ignore[assignment]
    with pytest.raises(StateError, match="cannot watch process"):
        watched.watch.watch("one", handle)
    assert os.listdir("/proc/self/fd") == descriptors
    watched.watch._epoll = epoll
    watched.watch.watch("one", handle)
    watched.end(handle)
    watched.wait_told("one")


def test_nothing_that_goes_wrong_in_a_look_ends_the_watch(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = watched.sleeper(), watched.sleeper()
    watched.watch.watch("one", one)
    watched.watch.watch("other", other)
    with monkeypatch.context() as broken:
        broken.setattr(watched.processes, "state", lambda _: 1 // 0)
        wait_for("the failure", lambda: "looking at the QEMUs failed" in caplog.text)
    watched.end(one)
    watched.wait_told("one")
    watched.end(other)
    watched.wait_told("one", "other")
