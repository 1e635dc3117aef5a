"""QEMU's processes: started in a session of their own, known by their start ticks, signalled by pidfd.

A pid alone is never trusted: it is reused, and the clock that dates it may step. Boot id, pid and start ticks
together name one process for ever (`ProcessHandle`). What cannot be read is a StateError, never "dead": a
QEMU that is taken for dead would be started twice. Next: `reconciler.qemu.exits`, which tells when one ends.
"""

from __future__ import annotations

import os
import resource
import select
import shutil
import signal
import stat
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from reconciler.model.errors import SpawnError, StateError
from reconciler.model.observed import ProcessHandle
from reconciler.settings import QemuUser

PROC = Path("/proc")
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ProcessState(Enum):
    """What /proc says of a process. STOPPED: by a signal; it exists and answers nothing.

    One that is traced stops for moments all the time; whether it answers is for QMP to find out.
    """

    RUNNING = auto()
    STOPPED = auto()
    DEAD = auto()


@dataclass(frozen=True)
class Stat:
    """What is used of /proc/PID/stat."""

    state: ProcessState
    start_ticks: int


class Processes:
    """The processes of this host, and those that this agent started. Safe to use from any thread.

    Neither they nor the agent itself leave core files: these would hold the memory of guests.
    """

    def __init__(self, proc: Path = PROC) -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        self._proc = proc
        self._boot_id: str | None = None
        self._lock = threading.Lock()
        self._children: dict[ProcessHandle, subprocess.Popen[bytes]] = {}

    def boot_id(self) -> str:
        """The kernel's name for this boot of the host, which no agent outlives: read once. Raises StateError."""
        if self._boot_id is None:
            path = self._proc / "sys/kernel/random/boot_id"
            try:
                self._boot_id = path.read_text(encoding="ascii").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise StateError(f"cannot read the boot id of this host: {error}") from error
        return self._boot_id

    def spawn(
        self,
        argv: Sequence[str],
        *,
        log_path: Path,
        pass_fds: Sequence[int],
        user: QemuUser | None,
        groups: Sequence[int],
        cwd: Path,
    ) -> ProcessHandle:
        """Start a program; stdout and stderr are appended to the log. `groups` are its only extra groups.

        Without `user` it runs as the agent does, groups included. Raises SpawnError, StateError; then nothing
        runs.
        """
        boot_id = self.boot_id()
        if shutil.which(argv[0]) is None:
            raise SpawnError(f"{argv[0]} could not be started: there is no such program")
        try:
            with _open_log(log_path) as log:
                child = _popen(argv, log.fileno(), pass_fds, user, groups, cwd)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise SpawnError(f"{argv[0]} could not be started: {error}") from error
        handle = ProcessHandle(boot_id, child.pid, self._start_ticks(child))
        with self._lock:
            self._children[handle] = child
        return handle

    def reap(self, handle: ProcessHandle) -> int | None:
        """The exit status of a child that ended (-N: by signal N); None while it runs, or if it is no child.

        May be asked again until `forget`.
        """
        with self._lock:
            child = self._children.get(handle)
        return None if child is None else child.poll()

    def forget(self, handle: ProcessHandle) -> None:
        """Drop what is kept of a child that was reaped; one that still runs stays known."""
        with self._lock:
            child = self._children.get(handle)
            if child is not None and child.poll() is not None:
                del self._children[handle]

    def state(self, handle: ProcessHandle) -> ProcessState:
        """What has become of the process. Raises StateError where that cannot be found out."""
        if handle.boot_id != self.boot_id():
            return ProcessState.DEAD
        found = self._stat(handle.pid)
        if found is None or found.start_ticks != handle.start_ticks:
            return ProcessState.DEAD
        return found.state

    def ends_within(self, handle: ProcessHandle, seconds: float) -> bool:
        """Whether the process is dead, or dies within so many seconds. Raises StateError."""
        try:
            pidfd = os.pidfd_open(handle.pid)
        except ProcessLookupError:
            return True
        except OSError as error:
            raise StateError(f"cannot take hold of process {handle.pid}: {error}") from error
        try:
            if self.state(handle) is not ProcessState.DEAD:
                poll = select.poll()  # select() knows no descriptor above 1023
                poll.register(pidfd, select.POLLIN)
                poll.poll(seconds * 1000)
        finally:
            os.close(pidfd)
        return self.state(handle) is ProcessState.DEAD

    def find(self, uuid: str) -> tuple[ProcessHandle, ...]:
        """Every process that has the words `-uuid UUID` in its command line. Raises StateError."""
        boot_id = self.boot_id()
        found = []
        for pid in self._pids():
            if _has_pair(self._arguments(pid), b"-uuid", uuid.encode()):
                seen = self._stat(pid)
                if seen is not None and seen.state is not ProcessState.DEAD:
                    found.append(ProcessHandle(boot_id, pid, seen.start_ticks))
        return tuple(found)

    def handle(self, pid: int) -> ProcessHandle | None:
        """The process that has this pid now. Raises StateError."""
        found = self._stat(pid)
        if found is None or found.state is ProcessState.DEAD:
            return None
        return ProcessHandle(self.boot_id(), pid, found.start_ticks)

    def command_line(self, pid: int) -> tuple[str, ...]:
        """What this process was started with; nothing where it is gone. Raises StateError."""
        return tuple(word.decode(errors="surrogateescape") for word in self._arguments(pid)[:-1])

    def send_signal(self, handle: ProcessHandle, number: signal.Signals) -> bool:
        """Send a signal to this very process; False if it is gone. Raises StateError.

        The pidfd pins whatever has the pid; only then are the start ticks compared, so nothing else can be
        hit.
        """
        try:
            pidfd = os.pidfd_open(handle.pid)
        except ProcessLookupError:
            return False
        except OSError as error:
            raise StateError(f"cannot take hold of process {handle.pid}: {error}") from error
        try:
            if self.state(handle) is ProcessState.DEAD:
                return False
            signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            return False
        except OSError as error:
            raise StateError(f"cannot signal process {handle.pid}: {error}") from error
        finally:
            os.close(pidfd)
        return True

    def _start_ticks(self, child: subprocess.Popen[bytes]) -> int:
        """Until a child is reaped its pid is its own, so these are its ticks whether it still runs or not."""
        try:
            found = self._stat(child.pid)
        except StateError:
            found = None
        if found is None:  # it could be neither recorded nor found again: better that it never was
            child.kill()
            child.wait()
            raise SpawnError(f"process {child.pid}, just started, cannot be read in {self._proc}")
        return found.start_ticks

    def _stat(self, pid: int) -> Stat | None:
        """None where there is no such process."""
        text = self._read(pid, "stat")
        return None if text is None else parse_stat(text)

    def _arguments(self, pid: int) -> list[bytes]:
        return (self._read(pid, "cmdline") or b"").split(b"\0")

    def _read(self, pid: int, name: str) -> bytes | None:
        """A file of a process; None where there is no such process, which a missing /proc does not prove."""
        try:
            return (self._proc / str(pid) / name).read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            self._prove_readable()
            return None
        except OSError as error:
            raise StateError(f"cannot read {self._proc}/{pid}/{name}: {error}") from error

    def _prove_readable(self) -> None:
        try:
            (self._proc / "self/stat").read_bytes()
        except OSError as error:
            raise StateError(f"{self._proc} cannot be read: {error}") from error

    def _pids(self) -> list[int]:
        self._prove_readable()
        try:
            return [int(name) for name in os.listdir(self._proc) if name.isdigit()]
        except OSError as error:
            raise StateError(f"cannot list {self._proc}: {error}") from error


def raise_descriptor_limit() -> None:
    """Let the agent have as many descriptors as the kernel allows it: three or more go to each VM.

    QEMU inherits the limit, and has no use for the lower one: it waits with poll(), for which no number is too high.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # fs.nr_open was lowered meanwhile: then it stays as it is
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def parse_stat(text: bytes) -> Stat:
    """What /proc/PID/stat says. Its second field, the name, may hold `) (` and spaces. Raises StateError."""
    try:
        fields = text[text.rindex(b")") + 1 :].split()
        letter, threads, start_ticks = fields[0], int(fields[17]), int(fields[19])  # 3, 20 and 22 of proc(5)
    except (ValueError, IndexError) as error:
        raise StateError(f"cannot understand /proc/PID/stat: {text[:80]!r}") from error
    return Stat(_state(letter, threads), start_ticks)


def _state(letter: bytes, threads: int) -> ProcessState:
    """A zombie whose other threads still run has not ended: it holds its files, locks and ports."""
    match letter:
        case b"Z" if threads > 1:
            return ProcessState.RUNNING
        case b"Z" | b"X" | b"x":
            return ProcessState.DEAD
        case b"T":
            return ProcessState.STOPPED
        case _:
            return ProcessState.RUNNING


def _has_pair(arguments: list[bytes], first: bytes, second: bytes) -> bool:
    return (first, second) in pairwise(arguments)


def _open_log(path: Path) -> BinaryIO:
    """Append to a regular file that is nobody else's to read; a FIFO or a link in its place is refused."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    log = os.fdopen(os.open(path, flags, 0o600), "ab")
    if not stat.S_ISREG(os.fstat(log.fileno()).st_mode):
        log.close()
        raise OSError(f"{path} is not a regular file")
    return log


def _popen(
    argv: Sequence[str],
    log: int,
    pass_fds: Sequence[int],
    user: QemuUser | None,
    groups: Sequence[int],
    cwd: Path,
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*_as(user, groups), *argv],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=tuple(pass_fds),
        cwd=cwd,
        env={"PATH": os.environ.get("PATH", SEARCH_PATH), "LC_ALL": "C.UTF-8"},
        umask=0o077,
        start_new_session=True,
    )


def _as(user: QemuUser | None, groups: Sequence[int]) -> tuple[str, ...]:
    """What drops the privileges before the program. Not Popen, which would copy the agent's memory map for it."""
    if user is None:
        return ()
    extra = f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups"
    return "setpriv", f"--reuid={user.uid}", f"--regid={user.gid}", extra, "--no-new-privs", "--"
