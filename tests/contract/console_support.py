"""A real noVNC service, as a process, before a small real TCP server in the place of QEMU's VNC."""

from __future__ import annotations

import base64
import http.client
import os
import shutil
import socket
import socketserver
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from reconciler.clock import SystemClock
from reconciler.console.consoles import Consoles
from reconciler.console.services import Services, Setup, end_all
from reconciler.console.targets import Targets
from reconciler.console.tokens import Tokens
from reconciler.layout import Layout
from reconciler.lock import start_ticks
from reconciler.model.observed import ProcessHandle
from reconciler.model.status import VMState
from reconciler.model.vm import PowerState, VMSpec
from tests.contract.memory_controller import desired, status_of
from tests.e2e.site import free_port, wait_for

GREETING = b"RFB 003.008\n"
FLOOD = b"flood"
FLOOD_BYTES = 12 * 1024**2
KEY = base64.b64encode(b"0123456789abcdef").decode()


class VncServer(socketserver.ThreadingTCPServer):
    """Says the greeting of VNC, then gives back what it gets; for FLOOD, more than the kernel keeps for anybody."""

    allow_reuse_address = True
    daemon_threads = True

    class Handler(socketserver.BaseRequestHandler):
        server: VncServer

        def handle(self) -> None:
            self.request.sendall(GREETING)
            with suppress(OSError):
                while data := self.request.recv(4096):
                    self.request.sendall(bytes(FLOOD_BYTES) if data == FLOOD else data)
                    if data == FLOOD:
                        self.server.flooded.set()

    def __init__(self) -> None:
        self.flooded = threading.Event()
        super().__init__(("127.0.0.1", free_port()), self.Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def server_close(self) -> None:
        """Called at the end of `with`: without an end of its loop, that would spin on a closed socket."""
        self.shutdown()
        super().server_close()


class House:
    """A service on a port of its own, the consoles of its agent, and two VMs."""

    def __init__(self, run_dir: Path, vnc: VncServer, other: VncServer) -> None:
        self.vnc = vnc
        self.layout = Layout(run_dir / "state", run_dir)
        names = frozenset({"localhost", "127.0.0.1", "::1"})
        origins = frozenset({"https://panel.example"})
        self.setup = Setup(
            self.layout, ("127.0.0.1", "::1"), names, origins, None, "qemu-system-x86_64", linger_s=60
        )
        self.layout.state_dir.mkdir()
        self.web_port = free_port()
        self.tokens = Tokens(self.layout.consoles, SystemClock())
        self.services = Services(self.setup)
        self.consoles = Consoles(self.services, self.tokens, Targets(self.layout.consoles))
        self.runs("web", vnc)
        self.runs("other", other)
        self.gateway = self.services.serve(self.web_port)

    def runs(self, name: str, vnc: VncServer) -> None:
        """This VM's VNC server is that one; this process is its QEMU."""
        ticks = start_ticks(os.getpid())
        assert ticks is not None
        status = status_of(desired(name), name, VMState.RUNNING)
        port = vnc.server_address[1]
        assert isinstance(port, int)
        self.consoles.hear(replace(status, process=ProcessHandle("b", os.getpid(), ticks), vnc_port=port))

    def stops(self, name: str) -> None:
        """This VM was stopped."""
        self.consoles.hear(status_of(desired(name, VMSpec(state=PowerState.STOPPED)), name, VMState.STOPPED))

    def get(self, path: str, **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        """GET a path as it stands."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.web_port, timeout=30)) as connection:
            connection.putrequest("GET", path, skip_host=True, skip_accept_encoding=True)
            for name, value in {"Host": f"localhost:{self.web_port}", **headers}.items():
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def open(
        self, token: str, address: str = "127.0.0.1", window: int | None = None, **headers: str
    ) -> Visitor:
        """Ask for a console."""
        return Visitor(self.web_port, f"/websockify/?token={token}", address, headers, window)


class Visitor:
    """A WebSocket client; `status` is what the service answered.

    `window`: how many bytes the kernel takes for it, about; by itself it takes megabytes.
    """

    def __init__(
        self, web_port: int, path: str, address: str, headers: dict[str, str], window: int | None = None
    ) -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.socket.settimeout(60)
        if window is not None:  # counts for a connection that is made after it
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self.socket.connect((address, web_port))
        given = {"Host": f"localhost:{web_port}", "Origin": f"http://localhost:{web_port}", **headers}
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        lines = [f"GET {path} HTTP/1.1", *(f"{k}: {v}" for k, v in (given | upgrade).items() if v)]
        self.socket.sendall("\r\n".join([*lines, f"Sec-WebSocket-Key: {KEY}", "", ""]).encode("latin-1"))
        self.stream = self.socket.makefile("rb")
        line = self.stream.readline()
        self.status = int(line.split()[1]) if line else None
        while line.strip():
            line = self.stream.readline()

    def read(self) -> bytes | None:
        """The next message; None once the service has ended the connection."""
        while head := self.stream.read(2):
            payload = self.stream.read(head[1])
            if head[0] == 0x82:
                return payload
            if head[0] == 0x88:
                return None
        return None

    def write(self, data: bytes) -> None:
        """One message of at most 64 KiB; the mask of zeros, which is allowed, leaves it as it is."""
        length = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
        self.socket.sendall(b"\x82" + length + bytes(4) + data)

    def write_for_ever(self) -> NoReturn:
        """Until the connection ends; TimeoutError where it takes nothing more, and does not end."""
        while True:
            self.write(b"x" * 60_000)

    def close(self) -> None:
        """Hang up."""
        self.stream.close()
        self.socket.close()


@contextmanager
def open_house() -> Iterator[House]:
    """A house, while the block runs."""
    run_dir = Path(tempfile.mkdtemp(prefix="rc-"))
    with VncServer() as vnc, VncServer() as other:
        house = House(run_dir, vnc, other)
        try:
            yield house
        finally:
            house.consoles.close()
            end_all(house.layout.consoles)
            wait_for("the service is gone", lambda: start_ticks(house.gateway.pid) is None)
            shutil.rmtree(run_dir)
