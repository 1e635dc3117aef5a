"""A manifest becomes a running VM and stays one, whatever is killed. How VMs end: tests/e2e/test_ends.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e import tiny
from tests.e2e.site import Site, wait_for

CRASHING_AGENT = Path(__file__).with_name("crashing_agent.py")


def test_a_manifest_that_is_written_runs(site: Site) -> None:
    """How soon, is measured by `bench.start`: a test shares its cores with others."""
    agent = site.agent()
    site.write("web", isoPath=site.iso("demo"))
    agent.wait_status("web", "running")
    site.wait_serial("web", "GUEST-READY")
    assert agent.condition("web", "Ready")["status"] == "True"


def test_state_stopped_lets_the_guest_power_off(site: Site) -> None:
    agent = site.agent()
    site.write("web", isoPath=tiny.iso(site))
    tiny.wait_up(site, "web")
    site.edit("web", state="stopped")
    agent.wait_status("web", "stopped")
    assert site.pids("web") == []
    last = agent.vm("web")["lastExit"]
    assert last["kind"] == "Stopped"
    assert "in time" not in last["message"]


@pytest.mark.parametrize("step", ["intent-written", "spawned", "recorded"])
def test_an_agent_killed_between_intent_and_cont_leaves_one_qemu(site: Site, step: str) -> None:
    command = site.command()
    site.write("web", isoPath=tiny.iso(site))
    dying = site.start([sys.executable, str(CRASHING_AGENT), step, *command[3:]])
    dying.process.wait(60)
    assert dying.process.returncode == -signal.SIGKILL, dying.log.read_text()
    left_behind = site.pids("web")
    assert len(left_behind) == (0 if step == "intent-written" else 1)
    agent = site.agent()
    agent.wait_status("web", "running")
    tiny.wait_up(site, "web")
    assert len(site.pids("web")) == 1
    assert left_behind in ([], site.pids("web"))


def test_an_agent_that_was_killed_finds_its_vms_again_with_the_same_pids(site: Site) -> None:
    agent = site.agent()
    names = [f"vm{n}" for n in range(5)]
    for name in names:
        site.write(name)
    for name in names:
        agent.wait_status(name, "running")
    before = {name: site.pid(name) for name in names}
    agent.kill()
    heir = site.agent()
    for name in names:
        assert heir.wait_status(name, "running")["pid"] == before[name]
    assert {name: site.pid(name) for name in names} == before


def test_a_guest_that_powered_off_while_no_agent_was_there_is_found_out(site: Site) -> None:
    agent = site.agent()
    site.write("web", isoPath=tiny.iso(site))
    tiny.wait_up(site, "web")
    agent.kill()
    site.qmp("web", {"execute": "system_powerdown"})

    def powered_off() -> bool:
        (answer,) = site.qmp("web", {"execute": "query-status"})
        return bool(answer["return"]["status"] == "shutdown")

    wait_for("the guest is off", powered_off)
    heir = site.agent()
    heir.wait_status("web", "stopped")
    assert heir.condition("web", "Ready")["reason"] == "GuestShutdown"
    assert site.pids("web") == []
    status, answer = heir.post("/api/vms/web/start")
    assert (status, answer["vm"]["status"]) == (200, "running")


def test_a_second_agent_on_one_state_directory_gives_up_and_says_why(site: Site) -> None:
    """How quickly, is measured by `bench.second`: a test shares its cores with others."""
    agent = site.agent()
    second = subprocess.run(site.command(), capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 1
    assert f"another agent (pid {agent.process.pid})" in second.stderr


def test_ending_the_agent_leaves_the_vms_running(site: Site) -> None:
    agent = site.agent()
    site.write("web")
    agent.wait_status("web", "running")
    before = site.pid("web")
    assert agent.stop() == 0
    assert site.pid("web") == before


def test_sixteen_deaf_guests_delay_nobody(site: Site) -> None:
    """While sixteen guests that ignore the power button are being stopped, another VM is mended at once."""
    agent = site.agent()
    deaf = [f"deaf{n}" for n in range(16)]
    for name in deaf:
        site.write(name, shutdown={"timeoutSeconds": 600}, memory=64)
    site.write("web", memory=64)
    for name in [*deaf, "web"]:
        agent.wait_status(name, "running", timeout_s=60)
    for name in deaf:
        site.edit(name, state="stopped")
    for name in deaf:
        agent.wait_status(name, "stopping")
    before = site.pid("web")
    os.kill(before, signal.SIGKILL)
    wait_for("another QEMU", lambda: site.pids("web") not in ([], [before]), timeout_s=20)
    assert all(agent.vm(name)["status"] == "stopping" for name in deaf)
    status, _ = agent.post("/api/vms/deaf0/stop", {"force": True})
    assert status == 200
    assert site.pids("deaf0") == []


def test_a_qemu_that_hangs_while_it_is_being_stopped_is_killed_in_the_end(site: Site) -> None:
    """The one case in which a QEMU that does not answer is killed: a stop had begun, and its process is known."""
    agent = site.agent()
    site.write("web", shutdown={"timeoutSeconds": 13})
    agent.wait_status("web", "running")
    site.edit("web", state="stopped")
    agent.wait_status("web", "stopping")
    os.kill(site.pid("web"), signal.SIGSTOP)
    agent.wait_status("web", "stopped", timeout_s=60)
    assert site.pids("web") == []
    assert "in time" in agent.vm("web")["lastExit"]["message"]


def test_a_hung_qemu_is_unknown_delays_no_other_and_is_well_again_on_sigcont(site: Site) -> None:
    agent = site.agent()
    site.write("hung")
    site.write("web")
    agent.wait_status("hung", "running")
    agent.wait_status("web", "running")
    hung, web = site.pid("hung"), site.pid("web")
    os.kill(hung, signal.SIGSTOP)
    try:
        agent.wait_status("hung", "unknown")
        assert agent.condition("hung", "Ready")["status"] == "Unknown"
        os.kill(web, signal.SIGKILL)
        wait_for("another QEMU", lambda: site.pids("web") not in ([], [web]), timeout_s=20)
        status, answer = agent.post("/api/vms/hung/stop")
        assert (status, answer["code"]) == (400, "VM_STOP_FAILED")
    finally:
        os.kill(hung, signal.SIGCONT)
    agent.wait_status("hung", "running")
    assert site.pid("hung") == hung
