"""A real noVNC service, as a process, before a small real TCP server in the place of QEMU's VNC."""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import signal
import socket
import socketserver
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler import lock
from reconciler.clock import SystemClock
from reconciler.console.consoles import Consoles
from reconciler.console.services import SERVICES_MAX, Services, Setup, end_all
from reconciler.console.targets import Targets
from reconciler.console.tokens import UNUSED_S, USED_S, Tokens, digest_of
from reconciler.layout import Layout
from reconciler.lock import AgentLock, start_ticks
from reconciler.model.console import Gateway
from reconciler.model.errors import ConsoleError
from reconciler.model.observed import ProcessHandle
from reconciler.model.status import VMState
from reconciler.model.vm import PowerState, VMSpec
from tests.contract.memory_controller import desired, status_of
from tests.e2e.site import free_port, wait_for

GREETING = b"RFB 003.008\n"
KEY = base64.b64encode(b"0123456789abcdef").decode()


class VncServer(socketserver.ThreadingTCPServer):
    """Says the greeting of VNC, then gives back what it gets."""

    allow_reuse_address = True
    daemon_threads = True

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(GREETING)
            with suppress(OSError):
                while data := self.request.recv(4096):
                    self.request.sendall(data)

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", free_port()), self.Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def server_close(self) -> None:
        """Called at the end of `with`: without an end of its loop, that would spin on a closed socket."""
        self.shutdown()
        super().server_close()


class House:
    """A service on a port of its own, the consoles of its agent, and two VMs."""

    def __init__(self, run_dir: Path, vnc: VncServer, other: VncServer) -> None:
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
        with closing(http.client.HTTPConnection("127.0.0.1", self.web_port, timeout=10)) as connection:
            connection.putrequest("GET", path, skip_host=True, skip_accept_encoding=True)
            for name, value in {"Host": f"localhost:{self.web_port}", **headers}.items():
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def open(self, token: str, address: str = "127.0.0.1", **headers: str) -> Visitor:
        """Ask for a console."""
        return Visitor(self.web_port, f"/websockify/?token={token}", address, headers)


class Visitor:
    """A WebSocket client; `status` is what the service answered."""

    def __init__(self, web_port: int, path: str, address: str, headers: dict[str, str]) -> None:
        self.socket = socket.create_connection((address, web_port), timeout=10)
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

    def close(self) -> None:
        """Hang up."""
        self.stream.close()
        self.socket.close()


@pytest.fixture
def house() -> Iterator[House]:
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


def age(house: House, token: str, seconds: float) -> None:
    """Make a token older."""
    file = house.layout.consoles.token(digest_of(token))
    entry = json.loads(file.read_text())
    file.write_text(json.dumps(entry | {"grantedS": entry["grantedS"] - seconds}))
    used = house.layout.consoles.used(digest_of(token))
    if used.exists():
        used.write_text(repr(float(used.read_text()) - seconds))


# ---- consoles ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_token_opens_its_vms_console_at_both_loopbacks(house: House, address: str) -> None:
    if address == "::1" and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    with closing(house.open(house.consoles.grant("web"), address)) as visitor:
        assert visitor.status == 101
        assert visitor.read() == GREETING
        visitor.write(b"keys")
        assert visitor.read() == b"keys"


def test_a_token_may_be_used_again(house: House) -> None:
    token = house.consoles.grant("web")
    for _ in range(3):
        with closing(house.open(token)) as visitor:
            assert visitor.read() == GREETING


@pytest.mark.parametrize(
    "token",
    ["", "vm1", "web", "../lock", "..%2F..%2Fqmp.sock", "a" * 43, "%00" * 43, "a" * 60_000, "unix_socket:/x"],
)
def test_anything_else_opens_nothing(house: House, token: str) -> None:
    house.consoles.grant("web")
    with closing(house.open(token)) as visitor:
        assert visitor.status in {403, 414}


def test_the_digest_on_disk_opens_nothing(house: House) -> None:
    with closing(house.open(digest_of(house.consoles.grant("web")))) as visitor:
        assert visitor.status == 403


@pytest.mark.parametrize(("used", "seconds"), [(False, UNUSED_S), (True, USED_S)])
def test_an_expired_token_is_refused(house: House, used: bool, seconds: float) -> None:
    token = house.consoles.grant("web")
    if used:
        house.open(token).close()
    age(house, token, seconds)
    with closing(house.open(token)) as visitor:
        assert visitor.status == 403


def test_a_used_token_outlives_five_minutes(house: House) -> None:
    token = house.consoles.grant("web")
    house.open(token).close()
    age(house, token, UNUSED_S + 60)
    with closing(house.open(token)) as visitor:
        assert visitor.read() == GREETING


def test_a_wrong_origin_is_refused_and_spends_nothing(house: House) -> None:
    token = house.consoles.grant("web")
    for origin in ("http://evil.example", "null", f"http://localhost:{house.web_port + 1}"):
        with closing(house.open(token, Origin=origin)) as visitor:
            assert visitor.status == 403
    assert not house.layout.consoles.used(digest_of(token)).exists()
    with closing(house.open(token, Origin="https://panel.example")) as visitor:
        assert visitor.status == 101


def test_a_program_without_an_origin_may(house: House) -> None:
    with closing(house.open(house.consoles.grant("web"), Origin="")) as visitor:
        assert visitor.status == 101


def test_a_stop_revokes_the_token_and_cuts_the_line(house: House) -> None:
    token, others = house.consoles.grant("web"), house.consoles.grant("other")
    with closing(house.open(token)) as visitor, closing(house.open(others)) as neighbour:
        assert visitor.read() == neighbour.read() == GREETING
        house.stops("web")
        assert visitor.read() is None
        neighbour.write(b"still")
        assert neighbour.read() == b"still"
    with closing(house.open(token)) as visitor:
        assert visitor.status == 403


def test_a_line_is_cut_when_its_tokens_time_is_over(house: House) -> None:
    token = house.consoles.grant("web")
    with closing(house.open(token)) as visitor:
        assert visitor.read() == GREETING
        age(house, token, USED_S)
        assert visitor.read() is None


def test_a_stalled_visitor_is_cut_as_well(house: House) -> None:
    token = house.consoles.grant("web")
    with closing(house.open(token)) as visitor:
        visitor.socket.settimeout(0.2)
        with suppress(TimeoutError):  # it all comes back, and nobody reads it
            while True:
                visitor.write(b"x" * 60_000)
        house.stops("web")
        visitor.socket.settimeout(10)
        with suppress(ConnectionError):
            while visitor.socket.recv(65536):
                pass


def test_a_vm_that_moved_is_found_at_its_new_port(house: House) -> None:
    token = house.consoles.grant("web")
    with VncServer() as moved:
        house.runs("web", moved)
        with closing(house.open(token)) as visitor:
            assert visitor.read() == GREETING
            visitor.write(b"new")
            assert visitor.read() == b"new"


def test_between_two_runs_of_a_restart_the_token_waits(house: House) -> None:
    token = house.consoles.grant("web")
    house.consoles.hear(status_of(desired("web"), "web", VMState.STOPPED))
    assert house.get(f"/websockify/?token={token}")[0] == 503
    with closing(house.open(token)) as visitor:
        assert visitor.status == 503


def test_the_page_may_ask_what_became_of_its_token_without_using_it(house: House) -> None:
    token = house.consoles.grant("web")
    assert house.get(f"/websockify/?token={token}")[0] == 204
    assert not house.layout.consoles.used(digest_of(token)).exists()
    house.consoles.revoke("web")
    assert house.get(f"/websockify/?token={token}")[0] == 403


def test_a_guest_is_refused_at_the_door(house: House, tmp_path: Path) -> None:
    program = tmp_path / "qemu-system-guest"
    busybox = shutil.which("busybox")
    assert busybox
    shutil.copyfile(busybox, program)
    program.chmod(0o755)
    url = f"http://127.0.0.1:{house.web_port}/vnc.html"
    as_guest = subprocess.run(
        ["busybox", "wget", "-q", "-O", "-", url],
        executable=program,
        capture_output=True,
        timeout=20,
        check=False,
    )
    as_anybody = subprocess.run(
        ["busybox", "wget", "-q", "-O", "-", url], capture_output=True, timeout=20, check=False
    )
    assert as_guest.returncode != 0
    assert as_guest.stdout == b""
    assert b"vnc.js" in as_anybody.stdout


# ---- files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/vnc.html?host=localhost&port=6080&path=websockify/?token=x", "text/html; charset=utf-8"),
        ("/", "text/html; charset=utf-8"),
        ("/vnc.js", "text/javascript; charset=utf-8"),
        ("/page.css", "text/css; charset=utf-8"),
        ("/novnc/core/rfb.js", "text/javascript; charset=utf-8"),
        ("/novnc/vendor/pako/lib/zlib/inflate.js", "text/javascript; charset=utf-8"),
    ],
)
def test_the_pages_files_are_served_and_guarded(house: House, path: str, kind: str) -> None:
    status, headers, body = house.get(path)
    assert (status, headers["Content-Type"]) == (200, kind)
    assert len(body) > 100
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == ("no-store" if "token" in path else "no-cache")
    assert "ython" not in headers["Server"]


@pytest.mark.parametrize(
    "path",
    [
        "/novnc/core/",
        "/novnc/core",
        "/novnc",
        "/../console/tokens.py",
        "/novnc/core/../../../../console/tokens.py",
        "/..%2f..%2fconsole/tokens.py",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/etc/passwd",
        "/vnc.html/",
        "/vnc.html%00",
        "/consoles.html",
        "/tokens",
    ],
)
def test_nothing_else_is_and_no_directory_is_listed(house: House, path: str) -> None:
    status, headers, body = house.get(path)
    assert status == 404
    assert b"Directory listing" not in body
    assert "default-src 'none'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:6080", "", "localhost.evil.example"])
def test_under_a_name_that_is_not_ours_nothing_is_said(house: House, host: str) -> None:
    assert house.get("/vnc.html", Host=host)[0] == 403
    token = house.consoles.grant("web")
    with closing(house.open(token, Host=host, Origin="http://localhost")) as visitor:
        assert visitor.status == 403
    assert not house.layout.consoles.used(digest_of(token)).exists()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods_are_not_known(house: House, method: str) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", house.web_port, timeout=10)) as connection:
        connection.request(method, "/vnc.html")
        assert connection.getresponse().status == 501


# ---- the process -----------------------------------------------------------------------------------------


def test_no_token_stands_in_a_log_or_a_command_line(house: House) -> None:
    token = house.consoles.grant("web")
    with closing(house.open(token)) as visitor:
        visitor.read()
        house.get(f"/websockify/?token={token}")
        house.get(f"/nothing?token={token}")
        house.open(token, Origin="http://evil.example").close()
        log = house.layout.consoles.log(house.web_port)
        wait_for("the console is in the log", lambda: "web: a console was opened" in log.read_text())
        assert token not in log.read_text()
        assert token not in Path(f"/proc/{house.gateway.pid}/cmdline").read_text()
        assert token not in Path(f"/proc/{house.gateway.pid}/environ").read_text()


def test_there_is_one_service_for_a_port(house: House) -> None:
    assert house.services.serve(house.web_port) == house.gateway


def test_another_agent_takes_it_over_with_its_consoles(house: House) -> None:
    with closing(house.open(house.consoles.grant("web"))) as visitor:
        assert visitor.read() == GREETING
        assert Services(house.setup).serve(house.web_port) == house.gateway
        visitor.write(b"on")
        assert visitor.read() == b"on"


def test_with_other_settings_it_is_replaced(house: House) -> None:
    heir = Services(replace(house.setup, origins=frozenset({"https://other.example"})))
    found = heir.serve(house.web_port)
    assert found.pid != house.gateway.pid
    wait_for("the old one is gone", lambda: start_ticks(house.gateway.pid) is None)
    house.gateway = found
    with closing(house.open(house.consoles.grant("web"), Origin="https://other.example")) as visitor:
        assert visitor.status == 101


def test_one_that_was_killed_comes_back_while_a_token_lives(house: House) -> None:
    token = house.consoles.grant("web")
    house.consoles.resume()
    os.kill(house.gateway.pid, signal.SIGKILL)
    path = house.layout.consoles.lock(house.web_port)

    def heir() -> lock.Holder | None:
        found = lock.holder(path)
        return found if found and found.pid != house.gateway.pid else None

    found = wait_for("the service is back", heir)
    assert found
    house.gateway = Gateway(found.pid, house.web_port)
    with closing(house.open(token)) as visitor:
        assert visitor.read() == GREETING


def test_a_port_that_a_stranger_holds_is_named(house: House) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        with pytest.raises(ConsoleError, match=f"port {port} is taken"):
            house.services.serve(port)
    assert port not in house.layout.consoles.web_ports()


def test_more_than_eight_are_refused(house: House) -> None:
    for _ in range(SERVICES_MAX - 1):
        house.services.serve(free_port())
    with pytest.raises(ConsoleError, match="8 noVNC services"):
        house.services.serve(free_port())
    assert house.services.serve(house.web_port) == house.gateway


def test_it_ends_when_its_directory_goes(house: House) -> None:
    shutil.rmtree(house.layout.consoles.path)
    wait_for("it ended", lambda: start_ticks(house.gateway.pid) is None, 10)


def test_without_an_agent_and_a_visitor_it_ends_by_itself(house: House) -> None:
    short = Services(replace(house.setup, linger_s=2))
    with AgentLock(house.layout.lock):
        found = short.serve(house.web_port)
        # The agent is there for longer than it would linger without.
        deadline = time.monotonic() + 4
        wait_for("time passes", lambda: time.monotonic() > deadline)
        assert start_ticks(found.pid) is not None
        with closing(house.open(house.consoles.grant("web"))) as visitor:
            assert visitor.read() == GREETING
    wait_for("it ended", lambda: start_ticks(found.pid) is None, 15)
    assert house.layout.consoles.web_ports() == ()


def test_an_open_console_keeps_it_alive_without_an_agent(house: House) -> None:
    found = Services(replace(house.setup, linger_s=1)).serve(house.web_port)
    with closing(house.open(house.consoles.grant("web"))) as visitor:
        assert visitor.read() == GREETING
        deadline = time.monotonic() + 3
        wait_for("time passes", lambda: time.monotonic() > deadline)
        visitor.write(b"here")
        assert visitor.read() == b"here"
    wait_for("it ended", lambda: start_ticks(found.pid) is None, 15)
