"""The rules in a real kernel: what QEMU's user reaches, who else does, and that they come back and go away."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from reconciler.model.errors import FirewallError
from reconciler.network import nft
from reconciler.network.firewall import Firewall

NOBODY = 65534
PATIENCE_S = 10.0


def may_set_rules() -> bool:
    try:
        nft.listing("reconciler_probe")
    except FirewallError:
        return False
    return os.geteuid() == 0


pytestmark = pytest.mark.skipif(not may_set_rules(), reason="only root may set nftables rules")


def as_user(uid: int | None, words: str) -> list[str]:
    """A Python that becomes another user before it does anything: that one may not be able to start it."""
    become = (
        f"import os, socket, encodings.idna; os.setgroups([]); os.setresuid({uid}, {uid}, {uid}); "
        if uid is not None
        else ""
    )
    return [sys.executable, "-c", become + words]


def reaches(port: int, uid: int | None = NOBODY) -> bool:
    """Whether a process of this user can connect, or of ours."""
    words = f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)"
    done = subprocess.run(as_user(uid, words), capture_output=True, text=True, check=False)
    assert done.returncode == 0 or "ConnectionRefusedError" in done.stderr, done.stderr
    return done.returncode == 0


@dataclass
class Bench:
    """A firewall over ports that somebody listens on."""

    state_dir: Path
    stack: ExitStack
    closed: set[int] = field(default_factory=set)

    @property
    def table(self) -> str:
        return nft.table_name(self.state_dir)

    def port(self) -> int:
        listener = self.stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        return int(listener.getsockname()[1])

    def made(self) -> Firewall:
        return Firewall(nft.VncRules(self.table, NOBODY), lambda: frozenset(self.closed))

    def firewall(self) -> Firewall:
        firewall = self.made()
        self.stack.callback(firewall.close)
        firewall.start()
        return firewall

    def rules(self) -> str:
        return nft.listing(self.table)

    def wait_rules(self, rules: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self.rules() != rules:
            assert time.monotonic() < deadline, f"still {self.rules()!r}"
            time.sleep(0.01)


@contextmanager
def bench_in(state_dir: Path) -> Iterator[Bench]:
    """A bench of which nothing is left in the kernel."""
    with ExitStack() as stack:
        bench = Bench(state_dir, stack)
        stack.callback(nft.apply, f"table inet {bench.table}\ndelete table inet {bench.table}\n")
        yield bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with bench_in(tmp_path) as bench:
        yield bench


def test_qemus_user_is_kept_from_these_ports_and_nobody_else_and_from_no_others(bench: Bench) -> None:
    vnc, web = bench.port(), bench.port()
    bench.closed = {vnc}
    assert bench.firewall().gap() is None
    assert not reaches(vnc)
    assert reaches(web)
    assert reaches(vnc, uid=None)
    assert reaches(vnc, uid=NOBODY - 1)


def test_a_server_of_qemus_user_still_answers_on_a_closed_port(bench: Bench) -> None:
    """As QEMU does: VNC is its own listener."""
    words = (
        "import socket; l = socket.create_server(('127.0.0.1', 0)); print(l.getsockname()[1], flush=True);"
        "c, _ = l.accept(); c.sendall(b'RFB 003.008')"
    )
    with subprocess.Popen(as_user(NOBODY, words), stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        port = int(server.stdout.readline())
        bench.closed = {port}
        bench.firewall()
        with socket.create_connection(("127.0.0.1", port), 10) as client:
            assert client.recv(64) == b"RFB 003.008"


def test_ports_are_closed_before_keep_returns_and_opened_again(bench: Bench) -> None:
    first, second = bench.port(), bench.port()
    bench.closed = {first}
    firewall = bench.firewall()
    bench.closed = {first, second}
    firewall.keep()
    assert not reaches(second)
    bench.closed = {second}
    firewall.keep()
    assert (reaches(first), reaches(second)) == (True, False)


def test_with_no_port_to_close_there_is_no_table(bench: Bench) -> None:
    firewall = bench.firewall()
    assert bench.rules() == ""
    bench.closed = {bench.port()}
    firewall.keep()
    assert bench.rules() != ""
    bench.closed = set()
    firewall.keep()
    assert bench.rules() == ""


def test_the_rules_outlive_the_agent_and_the_next_puts_them_right(bench: Bench) -> None:
    vnc = bench.port()
    bench.closed = {vnc, 9}
    dead = bench.made()
    dead.start()
    dead.close()
    assert not reaches(vnc)
    bench.closed = {vnc}
    bench.firewall()
    assert not reaches(vnc)
    assert f"elements = {{ {vnc} }}" in bench.rules()
    bench.closed = set()
    bench.firewall()
    assert bench.rules() == "", "what a dead agent left for VMs that are no more"


@pytest.mark.parametrize(
    "harm",
    [
        "delete table inet {0}",
        "flush chain inet {0} output",
        "flush set inet {0} vnc_ports",
        "flush table inet {0}",
    ],
)
def test_what_somebody_does_to_the_rules_is_mended_unasked(bench: Bench, harm: str) -> None:
    vnc = bench.port()
    bench.closed = {vnc}
    bench.firewall()
    whole = bench.rules()
    nft.apply(harm.format(bench.table))
    bench.wait_rules(whole)
    assert not reaches(vnc)


def test_rules_that_went_just_before_a_change_are_no_obstacle(bench: Bench) -> None:
    first, second = bench.port(), bench.port()
    bench.closed = {first}
    firewall = bench.firewall()
    nft.apply(f"delete table inet {bench.table}")
    bench.closed = {first, second}
    firewall.keep()
    assert not reaches(first)
    assert not reaches(second)


def test_two_agents_close_their_ports_each(bench: Bench, tmp_path: Path) -> None:
    mine, yours = bench.port(), bench.port()
    bench.closed = {mine}
    firewall = bench.firewall()
    with bench_in(tmp_path / "other") as other:
        other.closed = {yours}
        neighbour = other.firewall()
        assert not reaches(mine)
        assert not reaches(yours)
        bench.closed = set()
        firewall.keep()
        assert (reaches(mine), reaches(yours)) == (True, False)
        other.closed = set()
        neighbour.keep()
        assert other.rules() == ""


def test_without_the_right_to_it_the_gap_is_said_and_nothing_is_in_the_way(bench: Bench) -> None:
    words = (
        "from reconciler.network import nft; from reconciler.network.firewall import Firewall;"
        f"f = Firewall(nft.VncRules('{bench.table}', 1), lambda: frozenset((5900,))); f.start(); f.keep();"
        "print(f.gap().reason, f.gap().message); f.close()"
    )
    bounded = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", sys.executable, "-c", words]
    done = subprocess.run(bounded, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("FirewallFailed a guest reaches the screens (VNC ports) of all VMs")
    assert "Operation not permitted" in done.stdout
    assert bench.rules() == ""


def test_without_nftables_the_gap_says_what_to_install(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft, "PROGRAM", "nft-that-is-not-there")
    bench.closed = {9}
    gap = bench.firewall().gap()
    assert gap
    assert gap.reason == "NoNftables"
    assert "install nftables" in gap.message
    monkeypatch.undo()


def test_where_qemu_has_no_user_of_its_own_no_rule_is_tried(bench: Bench) -> None:
    firewall = Firewall(None, lambda: frozenset({9}))
    bench.stack.callback(firewall.close)
    firewall.start()
    firewall.keep()
    gap = firewall.gap()
    assert gap
    assert gap.reason == "SameUser"
