"""The processes of the noVNC services, one for each web port: found, started, replaced, ended.

A service is known by the lock that it holds, which names its pid and start ticks and ends with it, whatever ends it.
One that another agent left, by the same command, is taken over as it is; by another command (a changed setting, an
upgrade), it is replaced, and open pages connect again. A lock file without a holder says that there was one, and
should be: `revive` sees to that. Next: `reconciler.console.gateway`, the program.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from reconciler import __version__, assets, lock
from reconciler.layout import ConsoleDir, Layout
from reconciler.listeners import ListenError, listening
from reconciler.model.console import Gateway
from reconciler.model.errors import ConsoleError, StateError

log = logging.getLogger(__name__)

SERVICES_MAX = 8
START_TIMEOUT_S = 15.0
END_TIMEOUT_S = 10.0
PAUSE_S = 0.01
BACKLOG = 64
LINGER_S = 300.0


@dataclass(frozen=True)
class Setup:
    """What services are started with: where they listen, the names and origins they take, whom they refuse.

    `linger_s`: how long one stays without an agent and an open console.
    """

    layout: Layout
    addresses: tuple[str, ...]
    names: frozenset[str]
    origins: frozenset[str]
    qemu_uid: int | None
    qemu_binary: str
    linger_s: float = LINGER_S

    @property
    def directory(self) -> ConsoleDir:
        """What the services live on."""
        return self.layout.consoles

    def command(self, web_port: int) -> list[str]:
        """The command of a service, but for the descriptors of its sockets."""
        return [
            *(sys.executable, "-m", "reconciler.console.gateway"),
            *("--state-dir", str(self.layout.state_dir.absolute())),
            *("--run-dir", str(self.layout.run_dir.absolute())),
            *("--port", str(web_port)),
            *(word for name in sorted(self.names) for word in ("--name", name)),
            *(word for origin in sorted(self.origins) for word in ("--origin", origin)),
            *(() if self.qemu_uid is None else ("--qemu-uid", str(self.qemu_uid))),
            *("--qemu-binary", self.qemu_binary),
            *("--linger-s", f"{self.linger_s:g}"),
            *("--version", f"{__version__} at {','.join(self.addresses)}"),
        ]


class Services:
    """The services of one run directory. Safe for any number of threads."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._lock = threading.Lock()

    def serve(self, web_port: int) -> Gateway:
        """The service on this port, started if there is none. Raises ConsoleError."""
        with self._lock:
            try:
                return self._present(web_port) or self._start(web_port)
            except (OSError, StateError, assets.MissingAssetsError) as error:
                raise ConsoleError(str(error)) from error

    def revive(self, *, wanted: bool) -> None:
        """Start the services that should be there and are not; where they are not wanted, forget them."""
        for web_port in self._setup.directory.web_ports():
            path = self._setup.directory.lock(web_port)
            with self._lock:
                try:
                    if self._present(web_port):
                        continue
                    if wanted:
                        self._start(web_port)
                        continue
                except (ConsoleError, StateError, OSError, assets.MissingAssetsError) as error:
                    log.warning("noVNC on port %s: cannot be brought back: %s", web_port, error)
                path.unlink(missing_ok=True)

    # ---- one that is there -------------------------------------------------------------------------

    def _present(self, web_port: int) -> Gateway | None:
        """The service on this port, if one runs as we would start it; one that runs otherwise is ended."""
        path = self._setup.directory.lock(web_port)
        holder = lock.holder(path)
        if holder is None:
            return None
        if _command_of(holder.pid)[:-2] == self._setup.command(web_port):
            return Gateway(holder.pid, web_port)
        log.info("noVNC on port %s: was started with other settings; replacing it", web_port)
        lock.end_holder(path, END_TIMEOUT_S, signal.SIGKILL, what=f"the noVNC service on port {web_port}")
        return None

    # ---- one that is not ---------------------------------------------------------------------------

    def _start(self, web_port: int) -> Gateway:
        directory = self._setup.directory
        others = [port for port in directory.web_ports() if lock.holder(directory.lock(port))]
        if len(others) >= SERVICES_MAX:
            ports = ", ".join(map(str, others))
            raise ConsoleError(
                f"there are {SERVICES_MAX} noVNC services already, on the ports {ports}: use one of these"
            )
        assets.console()
        directory.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with ExitStack() as stack:
            listeners = [stack.enter_context(each) for each in _listeners(self._setup.addresses, web_port)]
            child = self._spawn(web_port, [each.fileno() for each in listeners])
        self._wait_until_up(child, web_port)
        threading.Thread(target=_reap, args=(child, web_port), daemon=True).start()
        log.info("noVNC on port %s: started, pid %s", web_port, child.pid)
        return Gateway(child.pid, web_port)

    def _spawn(self, web_port: int, descriptors: Sequence[int]) -> subprocess.Popen[bytes]:
        python = {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}
        with self._setup.directory.log(web_port).open("wb") as out:
            return subprocess.Popen(
                [*self._setup.command(web_port), "--listen-fds", ",".join(map(str, descriptors))],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=tuple(descriptors),
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", **python},
                umask=0o077,
                start_new_session=True,
            )

    def _wait_until_up(self, child: subprocess.Popen[bytes], web_port: int) -> None:
        """Until it holds its lock. Raises ConsoleError, with its own words; then nothing runs."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while (
            holder := lock.holder(self._setup.directory.lock(web_port))
        ) is None or holder.pid != child.pid:
            if child.poll() is not None or time.monotonic() > deadline:
                child.kill()
                child.wait()
                self._setup.directory.lock(web_port).unlink(missing_ok=True)
                raise ConsoleError(f"the service did not come up: {self._last_words(web_port)}")
            time.sleep(PAUSE_S)

    def _last_words(self, web_port: int) -> str:
        lines = self._setup.directory.log(web_port).read_text(errors="replace").splitlines()
        return lines[-1] if lines else "it said nothing"


def end_all(directory: ConsoleDir) -> None:
    """End every service of a run directory, and all tokens: nobody has anything to look at any more."""
    for web_port in directory.web_ports():
        path = directory.lock(web_port)
        try:
            lock.end_holder(path, END_TIMEOUT_S, signal.SIGKILL, what=f"the noVNC service on port {web_port}")
        except StateError as error:
            log.error("noVNC on port %s: %s", web_port, error)
        else:
            path.unlink(missing_ok=True)
    shutil.rmtree(directory.path, ignore_errors=True)


def _command_of(pid: int) -> list[str]:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
        return [os.fsdecode(word) for word in words]
    return []


def _reap(child: subprocess.Popen[bytes], web_port: int) -> None:
    status = child.wait()
    log.info("noVNC on port %s: ended (pid %s, status %s)", web_port, child.pid, status)


def _listeners(addresses: Sequence[str], port: int) -> tuple[socket.socket, ...]:
    """Sockets that listen on this port at all of the addresses; ::1 may be missing. Raises ConsoleError."""
    try:
        return listening(addresses, port, BACKLOG)
    except ListenError as error:
        raise _explained(port, error) from error


def _explained(port: int, error: ListenError) -> ConsoleError:
    if error.errno == errno.EADDRINUSE:
        return ConsoleError(
            f"port {port} is taken by another program (`ss -ltnp 'sport = :{port}'` names it); "
            "give another webPort"
        )
    return ConsoleError(f"cannot listen on {error.address}, port {port}: {error.strerror}")
