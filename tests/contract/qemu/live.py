"""Real QEMUs for tests: launched as the agent would launch them, each in a directory of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from reconciler.layout import SocketDir
from reconciler.model.errors import SettingsError
from reconciler.model.observed import Identity, ProcessHandle, QemuView
from reconciler.model.vm import Accel, VMSpec
from reconciler.qemu import binary, isos, sockets, view
from reconciler.qemu.answers import Execute
from reconciler.qemu.command_line import command_line
from reconciler.qemu.identity import MAC_RANDOM_BYTES, new_identity
from reconciler.qemu.images import Images
from reconciler.qemu.machine import IsoFd, Machine
from reconciler.qemu.monitor import Monitors
from reconciler.qemu.process import Processes, ProcessState
from reconciler.settings import QemuUser

QEMU = "qemu-system-x86_64"
GUEST_TIMEOUT_S = 100.0  # a guest boots in 3 s of an idle CPU; the tests share theirs
GUESTS = Path(__file__).resolve().parents[3] / ".local" / "guest"
T = TypeVar("T")
LAUNCHED: list[ProcessHandle] = []
"""Every QEMU of this run, so that none outlives it, whatever becomes of its test."""


def qemu_user() -> QemuUser | None:
    """Whom QEMU runs as in these tests: somebody else, where we are root."""
    if os.getuid() != 0:
        return None
    try:
        return QemuUser.named("reconciler-qemu")
    except SettingsError:
        return QemuUser("nobody", 65534, 65534)


def wait_for(what: str, look: Callable[[], T], timeout_s: float = 60.0) -> T:
    """Look until there is something to see."""
    deadline = time.monotonic() + timeout_s
    while not (seen := look()):
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s for: {what}"
        time.sleep(0.005)
    return seen


def free_port() -> int:
    """A port that nobody listens on, of those that the kernel gives out."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LiveVM:
    """One VM of a test. `execute` asks its QEMU; `handle` is its process."""

    def __init__(self, host: Host, spec: VMSpec, identity: Identity) -> None:
        self.name = f"vm-{identity.uuid[:8]}"
        self.spec = spec
        self.identity = identity
        self.directory = Path(tempfile.mkdtemp(prefix="rq-"))
        self.sockets = SocketDir(self.directory / "s")
        self.disk = self.directory / "root.qcow2"
        self.serial_log = self.directory / "serial.log"
        self.log = self.directory / "qemu.log"
        self.execute: Execute = host.monitors.session(self.name, self.sockets.qmp)
        self.argv: tuple[str, ...] = ()
        self._host = host
        self._handle: ProcessHandle | None = None

    @property
    def handle(self) -> ProcessHandle:
        assert self._handle is not None, "it was never launched"
        return self._handle

    def launch(self, iso: Path | None = None) -> LiveVM:
        """Start QEMU, halted, with everything that the agent would give it."""
        if not self.disk.exists():
            self._host.images.create(self.disk, self.spec.disk_size_gib * 1024**3)
        with ExitStack() as opened:
            machine = Machine(
                self.name,
                self.spec,
                self.identity,
                Accel.TCG,
                free_port(),
                disk_fd=_open(self.disk, os.O_RDWR, opened),
                serial_log_fd=_open(self.serial_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, opened),
                sockets=opened.enter_context(sockets.listening(self.sockets)),
                iso=_iso(iso, opened) if iso else None,
            )
            self.argv = command_line(machine, QEMU)
            self._handle = self._host.processes.spawn(
                self.argv,
                log_path=self.log,
                pass_fds=machine.descriptors,
                user=self._host.user,
                groups=(),
                cwd=Path("/"),
            )
            LAUNCHED.append(self._handle)
        return self

    def look(self) -> QemuView:
        """What the agent would see."""
        return view.observe(self.execute, self.identity.uuid)

    def state(self) -> ProcessState:
        return self._host.processes.state(self.handle)

    def wait_gone(self) -> int | None:
        """Wait for the end of QEMU; its exit status."""
        wait_for(f"the end of {self.name}", lambda: self.state() is ProcessState.DEAD)
        return self._host.processes.reap(self.handle)

    def wait_serial(self, text: str) -> None:
        """Wait until the guest said `text` on its console."""
        said = self.serial_log
        wait_for(f"{text!r} on the console", lambda: text in said.read_text("latin-1"), GUEST_TIMEOUT_S)

    def status(self, field: str) -> str:
        """One field of /proc/PID/status."""
        lines = Path(f"/proc/{self.handle.pid}/status").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{field}:"))

    def close(self) -> None:
        if self._handle is not None and self.state() is not ProcessState.DEAD:
            self._host.processes.send_signal(self._handle, signal.SIGKILL)
            self.wait_gone()
        self._host.monitors.drop(self.name)
        shutil.rmtree(self.directory)


class Host:
    """What one test shares between its VMs; ends all that it started."""

    def __init__(self) -> None:
        self.user = qemu_user()
        self.events: list[tuple[str, str]] = []
        self.processes = Processes()
        self.monitors = Monitors(lambda name, event: self.events.append((name, event)))
        self.images = Images(self.user)
        self._machine_type = binary.machine_type(QEMU)
        self._stack = ExitStack()
        self._stack.callback(self.monitors.close)

    def vm(self, spec: VMSpec | None = None) -> LiveVM:
        """A new VM, small and not yet launched."""
        mac = secrets.token_bytes(MAC_RANDOM_BYTES)
        identity = new_identity(str(uuid4()), mac, self._machine_type)
        vm = LiveVM(self, spec or VMSpec(memory_mib=256, cpu_cores=1, disk_size_gib=1), identity)
        self._stack.callback(vm.close)
        return vm

    def wait_event(self, vm: LiveVM, event: str) -> None:
        wait_for(f"{event} of {vm.name}", lambda: (vm.name, event) in self.events, GUEST_TIMEOUT_S)

    def close(self) -> None:
        self._stack.close()


def _open(path: Path, flags: int, opened: ExitStack) -> int:
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    opened.callback(os.close, descriptor)
    return descriptor


def _iso(path: Path, opened: ExitStack) -> IsoFd:
    medium = isos.open_medium(str(path), path.parent, ())
    opened.callback(_close, medium.fd)
    return IsoFd(medium.fd, medium.node_name)


def _close(descriptor: int) -> None:
    with suppress(OSError):
        os.close(descriptor)
