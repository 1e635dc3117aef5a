"""Every way in which a VM comes to its end, made for real: what is said of it, what follows, and what is kept."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import tiny
from tests.e2e.site import Agent, Site, wait_for

HERE = Path(__file__).parent
POLICIES = ("never", "on-failure", "always")


def quit_by_qmp(site: Site, name: str) -> None:
    """Somebody at the second QMP socket ends QEMU."""
    with contextlib.suppress(ValueError):  # the connection ends with QEMU
        site.qmp(name, {"execute": "quit"})


def by_signal(number: signal.Signals) -> Callable[[Site, str], None]:
    """Somebody sends QEMU a signal."""
    return lambda site, name: os.kill(site.pid(name), number)


def type_in(site: Site, name: str, line: str) -> None:
    """Type a line into the guest's shell on its serial console, and stay until it was taken: the port holds little."""
    with socket.socket(socket.AF_UNIX) as serial:
        serial.settimeout(60)
        serial.connect(str(site.run / "by-name" / name / "serial.sock"))
        serial.sendall(f"{line}\n".encode())
        echoed = b""
        while f"{line}\r\n".encode() not in echoed:
            echoed += serial.recv(4096)


def last_exit(agent: Agent, name: str) -> dict[str, Any]:
    """How the VM last came to its end; empty before that was noticed."""
    return agent.vm(name).get("lastExit") or {}


def wait_end(agent: Agent, name: str, timeout_s: float = 30.0) -> dict[str, Any]:
    """Wait until an end of the VM was noticed."""
    return wait_for(f"the end of {name} is noticed", lambda: last_exit(agent, name), timeout_s)


def wait_for_another(site: Site, name: str, before: int) -> None:
    """Wait until another QEMU than the one before runs."""
    wait_for("another QEMU", lambda: site.pids(name) not in ([], [before]))


def wait_settled(agent: Agent, name: str) -> None:
    """Wait until the agent has written down all that it saw: that the guest ran, above all."""
    wait_for(f"{name} is settled", lambda: agent.vm(name)["settled"])


def reasons(site: Site, name: str) -> list[dict[str, Any]]:
    """What was kept of the VM's bad ends, oldest first."""
    found = sorted((site.state / "vms" / name / "crashes").glob("*/reason.json"))
    return [json.loads(path.read_text()) for path in found]


@pytest.mark.parametrize(
    ("end", "kind", "words", "restarting"),
    [
        (tiny.power_off, "GuestShutdown", "powered itself off", {"always"}),
        (quit_by_qmp, "HostQuit", "QMP command", {"on-failure", "always"}),
        (by_signal(signal.SIGTERM), "HostQuit", "signal 15", {"on-failure", "always"}),
        (by_signal(signal.SIGKILL), "Crashed", "signal 9", {"on-failure", "always"}),
        (by_signal(signal.SIGSEGV), "Crashed", "signal 11", {"on-failure", "always"}),
    ],
    ids=["poweroff", "qmp-quit", "sigterm", "sigkill", "sigsegv"],
)
def test_each_end_has_its_name_and_each_policy_its_answer(
    site: Site, end: Callable[[Site, str], None], kind: str, words: str, restarting: set[str]
) -> None:
    agent = site.agent()
    for policy in POLICIES:
        site.write(policy, isoPath=tiny.iso(site), restartPolicy=policy, memory=64)
    before = {}
    for policy in POLICIES:
        agent.wait_status(policy, "running")
        tiny.wait_up(site, policy)
        before[policy] = site.pid(policy)
        end(site, policy)
    for policy in POLICIES:
        found = wait_end(agent, policy)
        assert found["kind"] == kind
        assert words in found["message"]
    for policy in restarting:
        wait_for_another(site, policy, before[policy])
        agent.wait_status(policy, "running")
        assert agent.condition(policy, "Ready")["status"] == "True"
    for policy in set(POLICIES) - restarting:
        ready = agent.condition(policy, "Ready")
        assert (ready["status"], ready["reason"]) == ("False", kind)
        assert f"restartPolicy is {policy}" in ready["message"]
        assert site.pids(policy) == []
        assert agent.vm(policy)["status"] == ("failed" if kind == "Crashed" else "stopped")
        kept = reasons(site, policy)
        assert [k["kind"] for k in kept] == (["Crashed"] if kind == "Crashed" else [])


def test_a_crash_leaves_what_explains_it_and_the_last_exit_names_the_place(site: Site) -> None:
    agent = site.agent()
    site.write("web", isoPath=tiny.iso(site), restartPolicy="never")
    tiny.wait_up(site, "web")
    agent.wait_status("web", "running")
    pid = site.pid("web")
    os.kill(pid, signal.SIGSEGV)
    end = wait_end(agent, "web")
    kept = site.state / "vms" / "web" / end["crashBundle"]
    report = json.loads((kept / "reason.json").read_text())
    assert (report["pid"], report["signal"], report["exit_status"]) == (pid, 11, None)
    assert report["message"] == end["message"]
    assert (kept / "serial.log").read_text().startswith("U")
    assert (kept / "qemu.log").exists()
    assert not (kept / "screen.png").exists()


def test_a_qemu_that_was_ended_while_no_agent_was_there_is_told_from_a_crash(site: Site) -> None:
    agent = site.agent()
    for name in ("asked", "killed"):
        site.write(name)
        agent.wait_status(name, "running")
        wait_settled(agent, name)
    agent.kill()
    os.kill(site.pid("asked"), signal.SIGTERM)
    os.kill(site.pid("killed"), signal.SIGKILL)
    wait_for("both are gone", lambda: site.pids("asked") == site.pids("killed") == [])
    heir = site.agent()
    for name in ("asked", "killed"):
        heir.wait_status(name, "running")
    assert last_exit(heir, "asked")["kind"] == "HostQuit"
    assert last_exit(heir, "killed")["kind"] == "Crashed"
    assert last_exit(heir, "killed")["message"].startswith("QEMU vanished")


def test_a_guest_that_reboots_goes_on_and_one_that_panics_is_started_again(site: Site) -> None:
    agent = site.agent()
    site.write("web", isoPath=site.iso("demo"))
    site.wait_serial("web", "GUEST-READY")
    pid = site.pid("web")
    type_in(site, "web", "reboot")
    site.wait_serial("web", "GUEST-READY", times=2)
    assert site.pid("web") == pid
    assert agent.vm("web")["lastExit"] is None
    assert agent.condition("web", "Ready")["status"] == "True"
    type_in(site, "web", "echo c > /proc/sysrq-trigger")
    end = wait_end(agent, "web", 60)
    assert end["kind"] == "GuestPanicked"
    agent.wait_status("web", "running")
    assert site.pid("web") != pid
    kept = site.state / "vms" / "web" / end["crashBundle"]
    assert "Kernel panic" in (kept / "serial.log").read_text(errors="replace")
    assert (kept / "screen.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((kept / "reason.json").read_text())["exit_status"] == 0


@pytest.mark.soak
def test_a_guest_that_panics_while_it_boots_is_not_started_again_under_never(site: Site) -> None:
    agent = site.agent()
    site.write("web", isoPath=site.iso("panic"), restartPolicy="never")
    wait_end(agent, "web", 60)
    ready = agent.condition("web", "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "GuestPanicked")
    assert site.pids("web") == []
    agent.wait_status("web", "failed")


def test_a_qemu_that_cannot_start_is_tried_at_once_then_after_ten_seconds(site: Site) -> None:
    agent = site.agent(qemuBinary=str(HERE / "qemu_without_firmware.sh"))
    site.write("web")
    wait_for("three starts", lambda: len(reasons(site, "web")) == 3, 40)
    first, second, third = reasons(site, "web")
    assert {r["kind"] for r in (first, second, third)} == {"StartFailed"}
    assert (first["exit_status"], first["signal"]) == (1, None)
    assert "/nowhere/firmware.bin" in first["message"]
    assert _seconds(first, second) < 5
    assert 9.5 < _seconds(second, third) < 20
    seen = agent.wait_status("web", "failed")
    ready = agent.condition("web", "Ready")
    assert ready["reason"] == "StartFailed"
    assert "3 failures in a row" in ready["message"]
    assert 10 < seen["nextTryInSeconds"] <= 20
    site.edit("web", restartPolicy="never")
    wait_for("an edit tries at once", lambda: len(reasons(site, "web")) == 4, 5)
    wait_for("and that is all", lambda: "stays off" in agent.condition("web", "Ready")["message"], 5)


def _seconds(before: dict[str, Any], after: dict[str, Any]) -> float:
    """From the end of one run to the start of the next."""
    ended, started = (datetime.fromisoformat(r[k]) for r, k in ((before, "ended_at"), (after, "started_at")))
    return (started - ended).total_seconds()


def test_a_second_crash_waits_for_the_back_off_also_of_another_agent(site: Site) -> None:
    agent = site.agent()
    site.write("web")
    for _ in range(2):
        agent.wait_status("web", "running")
        os.kill(site.pid("web"), signal.SIGKILL)
        wait_for("the end is noticed", lambda: "Crashed" in str(agent.vm("web").get("lastExit")))
    seen = agent.wait_status("web", "failed")
    assert 0 < seen["nextTryInSeconds"] <= 10
    assert "2 failures in a row" in agent.condition("web", "Ready")["message"]
    agent.kill()
    heir = site.agent()
    assert 0 < heir.wait_status("web", "failed")["nextTryInSeconds"] <= 10
    status, answer = heir.post("/api/vms/web/start")
    assert (status, answer["vm"]["status"]) == (200, "running")


def test_an_edit_starts_a_guest_that_powered_itself_off(site: Site) -> None:
    agent = site.agent()
    site.write("web", isoPath=tiny.iso(site))
    tiny.wait_up(site, "web")
    tiny.power_off(site, "web")
    wait_for("GuestShutdown", lambda: agent.condition("web", "Ready").get("reason") == "GuestShutdown")
    assert agent.vm("web")["status"] == "stopped"
    site.edit("web", memory=96)
    agent.wait_status("web", "running")


def test_what_cannot_be_kept_of_a_crash_hinders_no_start(site: Site) -> None:
    agent = site.agent()
    site.write("web")
    agent.wait_status("web", "running")
    before = site.pid("web")
    (site.state / "vms" / "web" / "crashes").write_text("in the way")
    os.kill(before, signal.SIGKILL)
    wait_for_another(site, "web", before)
    agent.wait_status("web", "running")
    assert "could not be kept" in agent.log.read_text()
