"""Who is on the other end of a connection: asked of the kernel, for real sockets of real processes."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reconciler.peers import LOG_EVERY_S, Doorkeeper, GuestPeers
from reconciler.settings import QemuUser
from tests.contract.http_support import serving
from tests.contract.memory_controller import MemoryController

NOBODY = 65534
STRANGER = 65533
BUSYBOX = shutil.which("busybox") or "busybox"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")


@dataclass
class Line:
    """Connections to one listener, whoever makes them; all is ended with the test."""

    listener: socket.socket
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def accept(self) -> socket.socket:
        self.listener.settimeout(30)
        accepted, _ = self.listener.accept()
        return self.stack.enter_context(accepted)

    def of_ours(self, host: str = "127.0.0.1") -> tuple[socket.socket, socket.socket]:
        """A connection of this process: its own end, and the accepted one."""
        own = self.stack.enter_context(socket.create_connection((host, self.port), timeout=30))
        return own, self.accept()

    def of_process(
        self, program: str = BUSYBOX, host: str = "127.0.0.1", uid: int | None = None
    ) -> socket.socket:
        """A connection of another process: busybox, whose executable may have another name."""
        nc = subprocess.Popen(
            ["nc", host, str(self.port)], executable=program, stdin=subprocess.PIPE, user=uid
        )
        self.stack.callback(nc.wait)
        self.stack.callback(nc.kill)
        assert nc.stdin
        self.stack.callback(nc.stdin.close)
        return self.accept()


@pytest.fixture
def line() -> Iterator[Line]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Line(listener)
        with made.stack:
            yield made


def refusal(peers: GuestPeers, accepted: socket.socket) -> str | None:
    return peers.refusal(accepted.getpeername()[:2], accepted.getsockname()[:2])


@pytest.fixture
def qemu(tmp_path: Path) -> str:
    """A program that has a QEMU's name."""
    return shutil.copy(BUSYBOX, str(tmp_path / "qemu-system-x86_64"))


def test_a_program_of_our_own_user_is_no_guest(line: Line) -> None:
    assert refusal(GuestPeers(None), line.of_ours()[1]) is None
    assert refusal(GuestPeers(None), line.of_process()) is None


def test_a_qemu_of_our_own_user_is_found_by_its_executable(line: Line, qemu: str) -> None:
    accepted = line.of_process(program=qemu)
    assert "belongs to a QEMU" in str(refusal(GuestPeers(None), accepted))


def test_a_qemu_that_was_upgraded_under_its_feet_is_found_still(line: Line, qemu: str) -> None:
    accepted = line.of_process(program=qemu)
    os.unlink(qemu)
    assert "belongs to a QEMU" in str(refusal(GuestPeers(None), accepted))


def test_a_qemu_of_another_name_is_found_by_the_setting(line: Line, tmp_path: Path) -> None:
    shutil.copy(BUSYBOX, tmp_path / "emulator-9")
    (tmp_path / "vmm").symlink_to("emulator-9")
    accepted = line.of_process(program=str(tmp_path / "emulator-9"))
    assert refusal(GuestPeers(None), accepted) is None
    assert "belongs to a QEMU" in str(refusal(GuestPeers(None, str(tmp_path / "vmm")), accepted))


@as_root
def test_a_socket_of_qemus_user_is_a_guests_and_no_other(line: Line) -> None:
    accepted = line.of_process(uid=NOBODY)
    assert "belongs to a QEMU" in str(refusal(GuestPeers(NOBODY), accepted))
    assert refusal(GuestPeers(STRANGER), accepted) is None
    assert refusal(GuestPeers(NOBODY), line.of_ours()[1]) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_both_families_are_known_also_on_one_socket_for_both(qemu: str, host: str) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        line = Line(listener)
        with line.stack:
            guests = line.of_process(program=qemu, host=host)
            assert "belongs to a QEMU" in str(refusal(GuestPeers(None), guests))
            assert refusal(GuestPeers(None), line.of_ours(host)[1]) is None


def test_a_client_that_speaks_ipv4_through_an_ipv6_socket_is_known(line: Line) -> None:
    with socket.socket(socket.AF_INET6) as own:
        own.connect(("::ffff:127.0.0.1", line.port))
        assert refusal(GuestPeers(os.geteuid()), line.accept()) is not None


@pytest.mark.parametrize("reset", [False, True])
def test_one_that_sent_and_hung_up_is_refused_since_it_may_be_a_guest(line: Line, *, reset: bool) -> None:
    own, accepted = line.of_ours()
    peer, local = accepted.getpeername()[:2], accepted.getsockname()[:2]
    own.sendall(b"POST / HTTP/1.1\r\n\r\n")
    if reset:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    own.close()
    assert "hung up" in str(GuestPeers(STRANGER).refusal(peer, local))
    assert not Doorkeeper(GuestPeers(STRANGER), "x").admits(accepted)


def test_one_that_has_said_all_and_listens_still_is_let_in(line: Line) -> None:
    own, accepted = line.of_ours()
    own.shutdown(socket.SHUT_WR)
    assert refusal(GuestPeers(None), accepted) is None


def test_another_machine_has_no_socket_here_and_is_no_guest_and_this_one_must_have_one() -> None:
    peers = GuestPeers(NOBODY)
    assert peers.refusal(("192.0.2.1", 40000), ("192.0.2.2", 3000)) is None
    assert peers.refusal(("2001:db8::1", 40000), ("2001:db8::2", 3000)) is None
    assert peers.refusal(("192.0.2.2", 40000), ("192.0.2.2", 3000)), (
        "a guest that used the host's own address"
    )
    assert peers.refusal(("127.0.0.1", 1), ("127.0.0.1", 2))
    assert peers.refusal(("::ffff:127.0.0.9", 1), ("::ffff:127.0.0.1", 2))


def test_a_listener_on_the_ports_is_not_taken_for_the_client(line: Line) -> None:
    assert GuestPeers(STRANGER).refusal(("127.0.0.1", line.port), ("127.0.0.1", 9)) is not None


def test_where_the_kernel_does_not_tell_this_host_is_refused_and_others_are_not(line: Line) -> None:
    """A process that may have no descriptor more cannot ask."""
    peers = (
        "import resource, sys; from reconciler.peers import GuestPeers; g = GuestPeers(1);"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3));"
        "print(g.refusal(('127.0.0.1', 1), ('127.0.0.1', 2)));"
        "print(g.refusal(('192.0.2.1', 1), ('127.0.0.1', 2)))"
    )
    done = subprocess.run([sys.executable, "-c", peers], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert "the kernel does not tell" in first
    assert second == "None"


def test_nobody_comes_through_a_unix_socket_but_by_its_file() -> None:
    left, right = socket.socketpair()
    with left, right:
        assert Doorkeeper(GuestPeers(os.geteuid()), "x").admits(left)


def test_the_log_is_not_flooded(line: Line, caplog: pytest.LogCaptureFixture) -> None:
    now_s = 0.0
    door = Doorkeeper(GuestPeers(os.geteuid()), "the API", lambda: now_s)
    accepted = line.of_ours()[1]
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            assert not door.admits(accepted)
        (said,) = caplog.messages
        assert said.startswith(
            f"the API: refused a connection from 127.0.0.1 port {accepted.getpeername()[1]}: "
        )
        now_s += LOG_EVERY_S
        assert not door.admits(accepted)
        assert caplog.messages[1].endswith("(4 more since the last such line)")


@as_root
def test_the_api_hangs_up_on_a_guest_before_it_says_a_word(caplog: pytest.LogCaptureFixture) -> None:
    user = QemuUser("nobody", NOBODY, NOBODY)
    with serving(MemoryController(), qemu_user=user) as http, caplog.at_level(logging.WARNING):
        assert [get_as(NOBODY, http.port) for _ in range(3)] == [b"", b"", b""]
        assert b"alive" in get_as(STRANGER, http.port)
        assert http.ask("GET", "/healthz").status == 200
    assert len([said for said in caplog.messages if "refused a connection" in said]) == 1


def get_as(uid: int, port: int) -> bytes:
    """What a process of this user is answered."""
    request = r"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n"
    words = f"exec 3<>/dev/tcp/127.0.0.1/{port}; printf '{request}' >&3; cat <&3"
    return subprocess.run(
        ["bash", "-c", words], capture_output=True, check=False, timeout=30, user=uid
    ).stdout
