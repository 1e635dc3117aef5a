"""Real processes: started, told apart, signalled and reaped."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.model.errors import SpawnError
from reconciler.model.observed import ProcessHandle
from reconciler.qemu.process import Processes, ProcessState
from reconciler.settings import QemuUser
from tests.contract.qemu.live import qemu_user, wait_for

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root starts processes of other users")


class Started(Processes):
    """Processes that end with the test. `run` starts a program with a log in the test's directory."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.log = directory / "log"
        self.handles: list[ProcessHandle] = []

    def run(
        self,
        *argv: str,
        user: QemuUser | None = None,
        groups: tuple[int, ...] = (),
        fds: tuple[int, ...] = (),
    ) -> ProcessHandle:
        handle = self.spawn(argv, log_path=self.log, pass_fds=fds, user=user, groups=groups, cwd=Path("/"))
        self.handles.append(handle)
        if user is not None:  # the program that drops the privileges has become the one that was asked for
            name = Path(argv[0]).name[:15]
            wait_for(f"{name} runs", lambda: status(handle, "Name") == name)
        return handle

    def wait(self, handle: ProcessHandle) -> int | None:
        wait_for("its end", lambda: self.state(handle) is ProcessState.DEAD)
        return self.reap(handle)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    started = Started(tmp_path)
    yield started
    for handle in started.handles:
        started.send_signal(handle, signal.SIGKILL)
        started.wait(handle)


def status(handle: ProcessHandle, field: str) -> str:
    lines = Path(f"/proc/{handle.pid}/status").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{field}:"))


def test_a_child_runs_stops_goes_on_and_ends_with_its_status(started: Started) -> None:
    handle = started.run("sleep", "1000")
    assert started.state(handle) is ProcessState.RUNNING
    assert started.reap(handle) is None
    started.send_signal(handle, signal.SIGSTOP)
    wait_for("its stop", lambda: started.state(handle) is ProcessState.STOPPED)
    started.send_signal(handle, signal.SIGCONT)
    wait_for("its going on", lambda: started.state(handle) is ProcessState.RUNNING)
    assert started.send_signal(handle, signal.SIGTERM)
    assert started.wait(handle) == -signal.SIGTERM


def test_a_zombie_is_dead_before_it_is_reaped_and_its_status_is_kept_until_forgotten(
    started: Started,
) -> None:
    handle = started.run("sh", "-c", "exit 7")
    wait_for("its end", lambda: started.state(handle) is ProcessState.DEAD)
    assert status(handle, "State").startswith("Z")
    assert not started.send_signal(handle, signal.SIGKILL)
    assert [started.reap(handle), started.reap(handle)] == [7, 7]
    assert not Path(f"/proc/{handle.pid}").exists()
    started.forget(handle)
    started.forget(handle)
    assert started.reap(handle) is None


def test_forgetting_a_child_that_runs_forgets_nothing(started: Started) -> None:
    handle = started.run("sleep", "1000")
    started.forget(handle)
    started.send_signal(handle, signal.SIGKILL)
    assert started.wait(handle) == -signal.SIGKILL


def test_a_leader_that_ended_before_its_threads_is_not_dead(started: Started) -> None:
    """A QEMU that is being torn down still holds its disk: it must not be started a second time yet."""
    leave = "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(1000,)).start(); "
    handle = started.run(sys.executable, "-c", leave + "ctypes.CDLL(None).syscall(60, 0)")
    wait_for("the end of its leader", lambda: status(handle, "State").startswith("Z"))
    assert started.state(handle) is ProcessState.RUNNING
    assert started.reap(handle) is None


def test_the_program_gets_a_session_a_log_no_input_and_a_small_environment(started: Started) -> None:
    started.log.write_text("before\n")
    handle = started.run("sh", "-c", "cat; echo out; echo err >&2; env; umask; ulimit -c; pwd; exit 3")
    assert started.wait(handle) == 3
    lines = started.log.read_text().splitlines()
    assert lines[:3] == ["before", "out", "err"]
    assert lines[-3:] == ["0077", "0", "/"]
    assert {line.partition("=")[0] for line in lines[3:-3]} <= {
        "PATH",
        "LC_ALL",
        "PWD",
        "OLDPWD",
        "SHLVL",
        "_",
    }


def test_the_program_leads_its_own_session(started: Started) -> None:
    handle = started.run("sleep", "1000")
    assert os.getsid(handle.pid) == handle.pid != os.getsid(0)


def test_the_log_is_nobody_elses_to_read(started: Started) -> None:
    started.wait(started.run("true"))
    assert started.log.stat().st_mode & 0o777 == 0o600


def test_only_the_descriptors_that_are_named_are_inherited(started: Started) -> None:
    reader, writer = os.pipe()
    hidden = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(hidden, True)
    handle = started.run("sleep", "1000", fds=(writer,))
    wait_for("its exec", lambda: status(handle, "Name") == "sleep")
    try:
        assert {int(fd) for fd in os.listdir(f"/proc/{handle.pid}/fd")} == {0, 1, 2, writer}
    finally:
        for descriptor in (reader, writer, hidden):
            os.close(descriptor)


@as_root
def test_a_user_brings_its_own_groups_and_only_the_extra_ones_named(started: Started) -> None:
    user = qemu_user()
    assert user is not None
    plain, extra = started.run("sleep", "9", user=user), started.run("sleep", "9", user=user, groups=(4242,))
    assert status(plain, "Uid").split() == [str(user.uid)] * 4
    assert status(plain, "Gid").split() == [str(user.gid)] * 4
    assert (status(plain, "Groups"), status(extra, "Groups")) == ("", "4242")


@pytest.mark.parametrize("argv", [("no-such-program",), ("/",), ("a\0b",), ("sh", "x" * 3_000_000)])
def test_what_cannot_be_started_is_a_spawn_error_that_names_it(
    started: Started, argv: tuple[str, ...]
) -> None:
    with pytest.raises(SpawnError, match="could not be started"):
        started.run(*argv)


@pytest.mark.parametrize("kind", ["link", "fifo", "directory", "nowhere"])
def test_a_log_that_is_no_regular_file_stops_the_start(started: Started, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    match kind:
        case "link":
            target.touch()
            started.log.symlink_to(target)
        case "fifo":
            os.mkfifo(started.log)
        case "directory":
            started.log.mkdir()
        case "nowhere":
            started.log = tmp_path / "no" / "log"
    with pytest.raises(SpawnError):
        started.run("sh", "-c", "echo x")


def test_a_signal_never_reaches_another_process_that_has_the_pid(started: Started) -> None:
    handle = started.run("sleep", "1000")
    other = replace(handle, start_ticks=handle.start_ticks - 1)
    assert not started.send_signal(other, signal.SIGKILL)
    assert not started.send_signal(replace(handle, boot_id="another"), signal.SIGKILL)
    assert not started.send_signal(replace(handle, pid=2**22 - 1), signal.SIGKILL)
    assert started.state(handle) is ProcessState.RUNNING


def test_a_process_that_is_no_child_is_seen_and_has_no_status(started: Started) -> None:
    handle = started.run("sh", "-c", "sleep 1000 & echo $!; wait")
    wait_for("the grandchild's pid", lambda: started.log.read_text().strip())
    pid = int(started.log.read_text())
    line = Path(f"/proc/{pid}/stat").read_text()
    grandchild = ProcessHandle(started.boot_id(), pid, int(line.rpartition(")")[2].split()[19]))
    assert started.state(grandchild) is ProcessState.RUNNING
    assert started.send_signal(grandchild, signal.SIGKILL)
    wait_for("its end", lambda: started.state(grandchild) is ProcessState.DEAD)
    assert started.reap(grandchild) is None
    started.send_signal(handle, signal.SIGKILL)
