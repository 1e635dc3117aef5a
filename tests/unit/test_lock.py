"""One agent on one state directory, and the right process ended where another is in the way."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler import lock
from reconciler.lock import AgentLock, Holder, end_holder, holder, must_be_free
from reconciler.model.errors import StateError

HOLD = """
import signal, sys
from pathlib import Path
from reconciler.lock import AgentLock

signal.signal(signal.SIGTERM, signal.SIG_IGN if "deaf" in sys.argv else signal.SIG_DFL)
with AgentLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent.lock"


@contextmanager
def another_agent(path: Path, *how: str) -> Iterator[subprocess.Popen[str]]:
    """An agent in a process of its own that holds the lock; `deaf` is one that a SIGTERM does not end."""
    command = (sys.executable, "-c", HOLD, str(path), *how)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout
        assert agent.stdout.readline() == "held\n"
        try:
            yield agent
        finally:
            agent.kill()


@contextmanager
def held_unsigned(path: Path, text: str) -> Iterator[None]:
    """An agent between its lock and its signature: the file says what stood there before."""
    path.write_text(text)
    descriptor = os.open(path, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def ticks(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def test_the_second_is_refused_and_told_who_holds_it(path: Path) -> None:
    with another_agent(path) as other:
        assert holder(path) == Holder(other.pid, ticks(other.pid))
        with pytest.raises(StateError, match=rf"another agent \(pid {other.pid}\)"), AgentLock(path):
            pass
        with pytest.raises(StateError, match=rf"another agent \(pid {other.pid}\)"):
            must_be_free(path)
    end_holder(path)
    with AgentLock(path):
        assert holder(path) == Holder(os.getpid(), ticks(os.getpid()))
    assert holder(path) is None


def test_a_child_does_not_inherit_the_lock(path: Path) -> None:
    with AgentLock(path):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        assert holder(path) is None
    finally:
        child.kill()
        child.wait()


def test_what_the_former_agent_signed_does_not_stay(path: Path) -> None:
    with AgentLock(path):
        assert path.read_text() == f"{os.getpid()} {ticks(os.getpid())}\n"
    assert path.read_bytes() == b""


def test_whoever_has_the_pid_of_a_killed_agent_is_neither_named_nor_ended(path: Path) -> None:
    """The text of an agent that was killed stays, and is all there is until the next one has signed."""
    with subprocess.Popen(["sleep", "60"]) as stranger:
        for text in (f"{stranger.pid}\n", f"{stranger.pid} {ticks(stranger.pid) - 1}\n", "", "\0\0", "1 x"):
            with held_unsigned(path, text):
                assert holder(path) is None
                with pytest.raises(StateError, match="another agent uses"):
                    must_be_free(path)
                with pytest.raises(StateError, match=r"the agent that uses .* did not end within 0\.1 s"):
                    end_holder(path, timeout_s=0.1)
        assert stranger.poll() is None
        stranger.kill()


def test_an_agent_is_ended_and_its_lock_free(path: Path) -> None:
    with another_agent(path) as other:
        end_holder(path)
        assert holder(path) is None
        assert other.wait() == -signal.SIGTERM


def test_ending_where_there_is_no_agent_is_fine(path: Path) -> None:
    end_holder(path)
    with another_agent(path):
        pass
    end_holder(path)


def test_an_agent_that_does_not_end_is_told(path: Path) -> None:
    with another_agent(path, "deaf") as other:
        with pytest.raises(StateError, match=rf"the agent \(pid {other.pid}\) .* did not end within 0\.2 s"):
            end_holder(path, timeout_s=0.2)
        assert other.poll() is None


def test_an_agent_that_may_not_be_ended_is_told_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(signal, "pidfd_send_signal", refuse)
    with another_agent(path), pytest.raises(StateError, match="cannot be ended: Operation not permitted"):
        end_holder(path)


def test_an_agent_that_starts_while_others_look_is_not_refused(path: Path) -> None:
    """Looking whether the lock is held takes it for a moment; two agents that start both look first."""
    path.touch()
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    looked = threading.Timer(lock.PROBES_S / 5, os.close, (descriptor,))
    looked.start()
    with AgentLock(path):
        assert holder(path) is not None
    looked.join()


def test_a_lock_that_is_not_signed_is_refused_all_the_same_and_soon(path: Path) -> None:
    with held_unsigned(path, ""):
        begun_s = time.monotonic()
        with pytest.raises(StateError, match="another agent uses"), AgentLock(path):
            pass
        assert time.monotonic() - begun_s < 10 * lock.PROBES_S


def test_a_refused_lock_leaves_no_descriptor_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    descriptors = os.listdir("/proc/self/fd")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with another_agent(path), pytest.raises(StateError), AgentLock(path):
        pass
    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", full)
        with pytest.raises(StateError, match="No space left"), AgentLock(path):
            pass
    assert os.listdir("/proc/self/fd") == descriptors
    must_be_free(path)


def test_a_lock_file_that_cannot_be_made_is_said_plainly(tmp_path: Path) -> None:
    path = tmp_path / "no" / "agent.lock"
    with pytest.raises(StateError, match=r"agent\.lock: cannot be used .*: No such file"), AgentLock(path):
        pass
    (tmp_path / "agent.lock").mkdir()
    with pytest.raises(StateError, match="Is a directory"), AgentLock(tmp_path / "agent.lock"):
        pass
