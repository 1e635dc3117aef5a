"""What decides when a VM runs, beside `state`: other VMs, and time."""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path
from typing import Any

from tests.e2e import tiny
from tests.e2e.site import Agent, Site, wait_for
from tests.e2e.test_host_shutdown import shut_down

HERE = Path(__file__).parent


def small(site: Site, name: str, **spec: object) -> None:
    """A manifest of a VM whose guest obeys the power button."""
    site.write(name, isoPath=tiny.iso(site), memory=64, **spec)


def ready(agent: Agent, name: str) -> dict[str, str]:
    """The condition Ready."""
    return agent.condition(name, "Ready")


def wait_stalled(agent: Agent, name: str) -> dict[str, str]:
    """Wait until something of the VM waits for an edit."""
    return wait_for(f"{name} waits for an edit", lambda: agent.condition(name, "Stalled"))


def lifecycle(site: Site, name: str) -> dict[str, Any]:
    """What the agent remembers of a VM."""
    return dict(json.loads((site.state / "vms" / name / "lifecycle.json").read_text()))


def test_a_vm_waits_until_those_it_depends_on_are_ready_and_says_for_whom(site: Site) -> None:
    agent = site.agent()
    small(site, "web", dependsOn=["db", "cache"])
    wait_for("web waits", lambda: ready(agent, "web").get("reason") == "WaitingForDependencies")
    assert ready(agent, "web")["status"] == "False"
    assert (
        "cache, which no manifest describes; db, which no manifest describes"
        in ready(agent, "web")["message"]
    )
    small(site, "cache")
    site.write("db", isoPath="not-there-yet.iso")
    agent.wait_status("cache", "running")
    wait_for("web waits for db alone", lambda: "db, which is failed" in ready(agent, "web")["message"], 5)
    assert "cache" not in ready(agent, "web")["message"]
    assert site.pids("web") == []
    tiny.iso(site, "not-there-yet.iso")
    site.edit("db", memory=64)
    agent.wait_status("db", "running", 10)
    agent.wait_status("web", "running", 3)
    pid = site.pid("web")
    site.edit("db", state="stopped")
    agent.wait_status("db", "stopped")
    assert site.pid("web") == pid
    assert ready(agent, "web")["status"] == "True"


def test_a_cycle_is_a_problem_of_the_manifests_and_changes_nothing(site: Site) -> None:
    agent = site.agent()
    small(site, "db")
    small(site, "web", dependsOn=["db"])
    agent.wait_status("web", "running", 10)
    before = site.pid("db")
    site.edit("db", dependsOn=["web"], memory=96)
    for name, around in (("db", "db → web → db"), ("web", "web → db → web")):
        stalled = wait_stalled(agent, name)
        assert stalled["reason"] == "ManifestInvalid"
        assert around in stalled["message"]
        assert ready(agent, name)["status"] == "True"
    assert agent.condition("db", "RestartRequired") == {}
    assert site.pid("db") == before
    site.edit("db", dependsOn=None)
    wait_for("the edit counts", lambda: agent.condition("db", "RestartRequired"))
    wait_for("nothing is wrong", lambda: not any(agent.condition(name, "Stalled") for name in ("db", "web")))


def test_when_the_host_goes_down_each_vm_is_stopped_before_those_it_depends_on(site: Site) -> None:
    agent = site.agent()
    small(site, "db")
    small(site, "web", dependsOn=["db"])
    small(site, "page", dependsOn=["web", "db"])
    for name in ("db", "web", "page"):
        agent.wait_status(name, "running", 20)
        tiny.wait_up(site, name)
    done = shut_down(site, 60)
    assert done.returncode == 0, done.stderr
    ends = [lifecycle(site, name)["last_exit"] for name in ("page", "web", "db")]
    assert [end["kind"] for end in ends] == ["Stopped"] * 3
    assert sorted(end["at_s"] for end in ends) == [end["at_s"] for end in ends]


def test_a_vm_whose_time_to_live_is_over_is_switched_off_and_stays_so(site: Site) -> None:
    agent = site.agent()
    small(site, "web", ttl="4s")
    agent.wait_status("web", "running")
    wait_for("nothing is left to do until then", lambda: agent.vm("web")["settled"], 3)
    assert ready(agent, "web")["status"] == "True"
    agent.wait_status("web", "stopped", 15)
    wait_for("it says so", lambda: ready(agent, "web").get("reason") == "Expired")
    assert agent.vm("web")["lastExit"]["kind"] == "Stopped"
    assert "time to live" in agent.vm("web")["lastExit"]["message"]
    status, answer = agent.post("/api/vms/web/start")
    assert (status, answer["code"]) == (400, "VM_START_FAILED")
    assert "make spec.ttl longer" in str(answer)
    agent.kill()
    heir = site.agent()
    assert ready(heir, "web")["reason"] == "Expired"
    assert site.pids("web") == []
    site.edit("web", ttl=None)
    heir.wait_status("web", "running")


def test_a_vm_that_an_agent_of_before_started_is_not_given_its_time_again(site: Site) -> None:
    agent = site.agent()
    small(site, "web")
    agent.wait_status("web", "running")
    agent.kill()
    path = site.state / "vms" / "web" / "identity.json"
    path.write_text(json.dumps({**site.identity("web"), "started_at": None}))
    heir = site.agent()
    heir.wait_status("web", "running")
    site.edit("web", ttl="1s", shutdown={"timeoutSeconds": 5})
    wait_for("its time is over", lambda: ready(heir, "web").get("reason") == "Expired")
    assert heir.post("/api/vms/web/start")[1]["code"] == "VM_START_FAILED"
    assert site.pids("web") == []


def wait_answer(agent: Agent, path: str) -> dict[str, Any]:
    """A write that comes to what was asked for."""
    status, answer = agent.post(path)
    assert status == 200, answer
    return dict(answer)


def test_recreate_gives_a_running_vm_a_blank_disk_and_keeps_the_old_one(site: Site) -> None:
    agent = site.agent()
    small(site, "web")
    agent.wait_status("web", "running")
    tiny.wait_up(site, "web")
    home, pid, identity = site.state / "vms" / "web", site.pid("web"), site.identity("web")
    old = (home / "root.qcow2").stat().st_ino
    answer = wait_answer(agent, "/api/vms/web/recreate")
    assert (answer["vm"]["status"], len(site.pids("web"))) == ("running", 1)
    assert site.pid("web") != pid
    (kept,) = home.glob("replaced/*/root.qcow2")
    assert kept.stat().st_ino == old
    assert (home / "root.qcow2").stat().st_ino != old
    assert site.identity("web") == identity
    assert agent.vm("web")["lastExit"]["kind"] == "Stopped"


def test_recreate_goes_on_with_another_agent_and_leaves_a_vm_off_that_is_off(site: Site) -> None:
    agent = site.agent()
    site.write("deaf", shutdown={"timeoutSeconds": 4})
    agent.wait_status("deaf", "running")
    home = site.state / "vms" / "deaf"
    old = (home / "root.qcow2").stat().st_ino
    threading.Thread(target=_ask, args=(agent, "/api/vms/deaf/recreate")).start()
    agent.wait_status("deaf", "stopping")
    agent.kill()
    heir = site.agent()
    wait_for("the old disk is aside", lambda: list(home.glob("replaced/*/root.qcow2")), 15)
    heir.wait_status("deaf", "running")
    assert (home / "root.qcow2").stat().st_ino != old
    site.edit("deaf", state="stopped")
    heir.wait_status("deaf", "stopped")
    assert wait_answer(heir, "/api/vms/deaf/recreate")["vm"]["status"] == "stopped"
    assert len(list(home.glob("replaced/*/root.qcow2"))) == 2
    assert (home / "root.qcow2").exists()
    site.edit("deaf", protect=True)
    wait_for("it is read", lambda: heir.post("/api/vms/deaf/recreate")[1].get("code") == "VM_PROTECTED", 5)


def test_a_vm_that_is_deleted_while_it_waits_for_its_new_disk_is_restored_with_the_old_one(
    site: Site,
) -> None:
    agent = site.agent()
    site.write("deaf", shutdown={"timeoutSeconds": 4})
    agent.wait_status("deaf", "running")
    home = site.state / "vms" / "deaf"
    old = (home / "root.qcow2").stat().st_ino
    asking = threading.Thread(target=_ask, args=(agent, "/api/vms/deaf/recreate"))
    asking.start()
    agent.wait_status("deaf", "stopping")
    assert agent.request("DELETE", "/api/vms/deaf")[0] == 200
    asking.join()
    wait_for("it is set aside", lambda: not home.exists(), 15)
    wait_answer(agent, "/api/vms/deaf/restore")
    agent.wait_status("deaf", "running")
    assert (home / "root.qcow2").stat().st_ino == old
    assert not list(home.glob("replaced/*"))


def test_recreate_of_a_vm_that_cannot_start_says_so_and_has_made_its_disk(site: Site) -> None:
    agent = site.agent(qemuBinary=str(HERE / "qemu_without_firmware.sh"))
    site.write("web")
    agent.wait_status("web", "failed")
    status, answer = agent.post("/api/vms/web/recreate")
    assert (status, answer["code"]) == (400, "VM_RECREATE_FAILED")
    assert "firmware.bin" in str(answer)
    assert len(list((site.state / "vms" / "web").glob("replaced/*/root.qcow2"))) == 1


def _ask(agent: Agent, path: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # the agent dies over it
        agent.post(path)
