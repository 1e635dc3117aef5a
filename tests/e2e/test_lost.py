"""What the agent kept was lost, or could not be kept: nothing is concluded from that, and nothing is made worse."""

from __future__ import annotations

import resource
import subprocess

from tests.e2e.site import Site, wait_for


def test_beside_a_qemu_whose_record_was_lost_no_other_is_started(site: Site) -> None:
    agent = site.agent()
    path = site.write("web", shutdown={"timeoutSeconds": 1})
    agent.wait_status("web", "running")
    before = site.pid("web")
    agent.kill()
    record = site.state / "vms" / "web" / "lifecycle.json"
    aside = record.rename(site.root / "aside.json")
    heir = site.agent()
    heir.wait_status("web", "unknown")
    ready = heir.condition("web", "Ready")
    assert ready["reason"] == "NoRecord"
    assert f"kill {before}" in ready["message"]
    path.unlink()
    wait_for("it is held", lambda: heir.condition("web", "PruneHeld"))
    assert heir.post("/api/prune", {"names": ["web"]})[0] == 200
    assert site.pids("web") == [before]
    assert (site.state / "vms" / "web" / "root.qcow2").exists()
    heir.kill()
    aside.rename(record)
    last = site.agent()
    wait_for("it is set aside", lambda: last.get("/api/vms/web")[0] == 404, timeout_s=90)
    assert site.pids("web") == []


def test_a_damaged_record_is_reported_and_its_vm_left_alone(site: Site) -> None:
    agent = site.agent()
    site.write("web")
    agent.wait_status("web", "running")
    before = site.pid("web")
    agent.kill()
    (site.state / "vms" / "web" / "lifecycle.json").write_text("{")
    heir = site.agent()
    heir.wait_status("web", "unknown")
    assert "lifecycle.json: is damaged" in heir.condition("web", "Ready")["message"]
    assert site.pid("web") == before


def test_a_disk_that_vanished_is_not_replaced_by_a_blank_one(site: Site) -> None:
    agent = site.agent()
    site.write("web", shutdown={"timeoutSeconds": 1})
    agent.wait_status("web", "running")
    assert agent.post("/api/vms/web/stop", {"force": True})[0] == 200
    disk = site.state / "vms" / "web" / "root.qcow2"
    aside = disk.rename(site.root / "aside.qcow2")
    status, answer = agent.post("/api/vms/web/start")
    assert (status, answer["code"]) == (400, "VM_START_FAILED")
    assert agent.condition("web", "Stalled")["reason"] == "DiskMissing"
    assert not disk.exists()
    aside.rename(disk)
    assert agent.post("/api/vms/web/start")[0] == 200


def test_a_disk_that_leads_to_another_file_is_not_used(site: Site) -> None:
    agent = site.agent()
    site.write("web")
    agent.wait_status("web", "running")
    assert agent.post("/api/vms/web/stop", {"force": True})[0] == 200
    disk = site.state / "vms" / "web" / "root.qcow2"
    disk.unlink()
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "/etc/hostname", "-F", "raw", str(disk), "1G"]
    subprocess.run(command, check=True)
    assert agent.post("/api/vms/web/start")[0] == 400
    assert "backing file" in agent.condition("web", "Stalled")["message"]
    assert site.pids("web") == []


def test_where_nothing_can_be_written_down_nothing_is_started_and_then_all_goes_on(site: Site) -> None:
    """A file-size limit of nothing stands for a full disk: every record fails with an error of its own."""
    agent = site.agent()
    site.write("web", state="stopped")
    agent.wait_status("web", "stopped")
    _, hard = resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (0, hard))
    status, answer = agent.post("/api/vms/web/start")
    assert status == 500, answer
    assert answer["code"] == "INTERNAL_SERVER_ERROR"
    assert "state: stopped" in (site.manifests / "web.yaml").read_text()
    resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    status, answer = agent.post("/api/vms/web/start")
    assert (status, answer["vm"]["status"]) == (200, "running")


def test_a_qemu_that_cannot_be_started_is_said_so_with_its_own_words(site: Site) -> None:
    agent = site.agent()
    site.write("first")
    agent.wait_status("first", "running")
    taken = agent.vm("first")["vncPort"]
    forward = [{"hostPort": taken, "guestPort": 22}]
    site.write("web", portForwards=forward)
    wait_for("it failed", lambda: agent.vm("web").get("status") == "failed")
    wait_for("its words", lambda: "Could not set up host forwarding rule" in str(agent.vm("web")["lastExit"]))
    wait_for("the next try is named", lambda: (agent.vm("web")["nextTryInSeconds"] or 0) > 1)


def test_a_guest_that_is_still_booting_is_shut_down_all_the_same(site: Site) -> None:
    """It does not hear the first press of the power button; it is asked again."""
    agent = site.agent()
    site.write("web", isoPath=site.iso("demo"), shutdown={"timeoutSeconds": 80})
    agent.wait_status("web", "running")
    site.edit("web", state="stopped")
    agent.wait_status("web", "stopped", timeout_s=90)
    assert "GUEST-POWERDOWN" in site.serial("web")
    assert "in time" not in agent.vm("web")["lastExit"]["message"]
