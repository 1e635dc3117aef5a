"""The agent under a service manager: what it tells it, and that the unit's system call filter lets it and QEMU work."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler.cli.units import AGENT, Place, units
from tests.e2e.site import Agent, Site, wait_for

WATCHDOG_S = 1.5

PROBES = {"set_mempolicy"}
"""Forbidden, tried all the same (by libnuma, when QEMU is loaded), and done without: refused here, as by the unit."""
REFUSING = [word for call in PROBES for word in ("-e", f"inject={call}:error=EPERM")]


@pytest.fixture
def manager(site: Site) -> Iterator[socket.socket]:
    """The socket that systemd would listen on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(site.run.with_suffix(".notify")))
        listener.settimeout(60)
        yield listener
    site.run.with_suffix(".notify").unlink()


def test_the_service_manager_hears_ready_life_and_the_end(site: Site, manager: socket.socket) -> None:
    environment = [f"NOTIFY_SOCKET={manager.getsockname()}", f"WATCHDOG_USEC={int(WATCHDOG_S * 1e6)}"]
    agent = site.start(["env", *environment, *site.command()])
    assert manager.recv(4096) == b"READY=1"
    assert agent.get("/healthz")[0] == 200
    manager.settimeout(30)
    assert [manager.recv(4096) for _ in range(3)] == [b"WATCHDOG=1"] * 3
    agent.process.terminate()
    while (heard := manager.recv(4096)) == b"WATCHDOG=1":
        pass
    assert heard == b"STOPPING=1"
    assert agent.process.wait(30) == 0


def allowed_calls() -> set[str]:
    """The system calls that the agent's unit allows, as systemd resolves its groups."""
    place = Place(("/usr/bin/reconciler",), Path("/m"), Path("/s"), Path("/r"), flags=(), uses=())
    allowed: set[str] = set()
    for line in units(place)[AGENT].splitlines():
        if line.startswith("SystemCallFilter="):
            words = line.removeprefix("SystemCallFilter=")
            named = {call for word in words.removeprefix("~").split() for call in members(word)}
            allowed = allowed - named if words.startswith("~") else allowed | named
    return allowed | members("@default")  # always allowed


def members(word: str) -> set[str]:
    """The calls of a group, and of the groups in it; a call is itself."""
    if not word.startswith("@"):
        return {word}
    command = ["systemd-analyze", "syscall-filter", "--no-pager", word]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    lines = [line.strip() for line in done.stdout.splitlines()[1:]]
    return {call for line in lines if line and not line.startswith("#") for call in members(line)}


@contextmanager
def ended(tracer: Agent) -> Iterator[None]:
    """End the agent behind strace with the block, however that ends: strace alone would leave it running."""
    try:
        yield
    finally:
        pid = tracer.process.pid
        agents = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in agents:
            os.kill(int(each), signal.SIGTERM)
        wait_for("the agent ended", lambda: not any(Path("/proc", each).exists() for each in agents))


def test_the_agent_and_its_qemu_make_no_system_call_that_the_unit_forbids(site: Site) -> None:
    site.write("web", isoPath=site.iso("demo"), shutdown={"timeoutSeconds": 1})
    counts = site.root / "calls"
    strace = ["strace", "-f", "-qq", "-c", "-U", "name", "-o", str(counts), *REFUSING]
    agent = site.start([*strace, *site.command()])
    with ended(agent):
        agent.wait_ready().wait_status("web", "running", 90)
        for path, body in (("toggleMountIso", {"mountStatus": False}), ("stop", {"force": True})):
            status, answer = agent.post(f"/api/vms/web/{path}", body)
            assert status == 200, answer
    agent.process.wait(60)
    made = {line.strip() for line in counts.read_text().splitlines()[2:-2]}
    assert made >= {"execve", "seccomp", "setresuid", "memfd_create"}
    assert made - allowed_calls() == PROBES
