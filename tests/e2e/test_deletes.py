"""DELETE over HTTP: the VM is shut down and set aside, and its name is taken until it is gone; `restore` undoes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e import tiny
from tests.e2e.calls import Pending, call
from tests.e2e.site import Agent, Site, free_port, wait_for

SMALL: dict[str, object] = {"memory": 32, "shutdown": {"timeoutSeconds": 1}}


def running(site: Site, **spec: object) -> Agent:
    """An agent, and a VM called web that runs."""
    agent = site.agent()
    site.write("web", **{**SMALL, **spec})
    agent.wait_status("web", "running")
    return agent


def set_aside(site: Site) -> list[Path]:
    return sorted((site.state / "trash").glob("web-*"))


@pytest.mark.parametrize("body", [None, {}, {"metadata": {"lastPid": 1}}, {"metadata": None, "extra": 1}])
def test_with_and_without_a_body(site: Site, body: object) -> None:
    """`lastPid` is nobody's to signal: the process of that number (init) lives on, whoever's it is."""
    agent = running(site)
    assert call(agent, "DELETE", "/api/vms/web", body).status == 200
    assert site.pids("web") == []
    assert Path("/proc/1").exists()
    assert call(agent, "GET", "/api/vms/web").code == "VM_NOT_FOUND"
    assert list(site.manifests.iterdir()) == []
    (entry,) = set_aside(site)
    assert (entry / "root.qcow2").exists()


def test_the_guest_is_shut_down_properly(site: Site) -> None:
    agent = running(site, isoPath=tiny.iso(site), shutdown={"timeoutSeconds": 60})
    tiny.wait_up(site, "web")
    reply = call(agent, "DELETE", "/api/vms/web")
    assert (reply.status, reply.body["message"]) == (200, "虚拟机已成功删除")
    assert "in time" not in agent.log.read_text()


def test_purge_deletes_the_disks(site: Site) -> None:
    agent = running(site)
    assert call(agent, "DELETE", "/api/vms/web?purge=true").status == 200
    assert set_aside(site) == []
    assert not (site.state / "vms" / "web").exists()
    assert call(agent, "POST", "/api/vms/web/restore").code == "VM_RESTORE_FAILED"


def test_a_protected_vm_is_left_alone(site: Site) -> None:
    agent = running(site, protect=True)
    pid = site.pid("web")
    for query in ("", "?purge=true"):
        reply = call(agent, "DELETE", f"/api/vms/web{query}")
        assert (reply.status, reply.code) == (400, "VM_PROTECTED")
    assert site.pid("web") == pid
    assert (site.manifests / "web.yaml").exists()
    site.edit("web", protect=None)
    assert call(agent, "DELETE", "/api/vms/web").status == 200


def test_the_name_is_taken_until_the_vm_is_gone_and_free_then(site: Site) -> None:
    """Meanwhile the VM is shown, is not started, restarted or changed, and a second DELETE joins."""
    agent = running(site, shutdown={"timeoutSeconds": 600})
    pid, disk = site.pid("web"), site.state / "vms" / "web" / "root.qcow2"
    inode = disk.stat().st_ino
    first = Pending(agent, "DELETE", "/api/vms/web")
    wait_for("its manifest is gone", lambda: not (site.manifests / "web.yaml").exists())
    agent.wait_status("web", "stopping")
    created = call(agent, "POST", "/api/vms", {"name": "web", "memory": 32})
    assert (created.status, created.code, created.fields) == (400, "INVALID_REQUEST_PARAMS", {"name"})
    for method, path, code in (
        ("POST", "/api/vms/web/start", "VM_START_FAILED"),
        ("POST", "/api/vms/web/restart", "VM_START_FAILED"),
        ("PUT", "/vms/web/config", "MANIFEST_INVALID"),
    ):
        assert call(agent, method, path, {}).code == code
    assert call(agent, "POST", "/api/vms/web/restore").code == "VM_RESTORE_FAILED"
    assert site.pid("web") == pid
    second = Pending(agent, "DELETE", "/api/vms/web")
    assert not first.is_answered
    assert call(agent, "POST", "/api/vms/web/stop", {"force": True}).status == 200
    assert (first.reply().status, second.reply().status) == (200, 200)
    (entry,) = set_aside(site)
    assert (entry / "root.qcow2").stat().st_ino == inode
    new = {"name": "web", "memory": 32, "vncPort": free_port(), "start": True}
    assert call(agent, "POST", "/api/vms", new).status == 201
    assert site.pid("web") != pid
    assert disk.stat().st_ino != inode


def test_restore_brings_back_manifest_identity_and_disk(site: Site) -> None:
    agent = running(site)
    path = site.manifests / "web.yaml"
    text, uuid = path.read_text(), site.identity("web")["uuid"]
    inode = (site.state / "vms" / "web" / "root.qcow2").stat().st_ino
    assert call(agent, "DELETE", "/api/vms/web").status == 200
    assert call(agent, "POST", "/api/vms/web/restore").status == 200
    agent.wait_status("web", "running")
    assert path.read_text() == text
    assert site.identity("web")["uuid"] == uuid
    assert (site.state / "vms" / "web" / "root.qcow2").stat().st_ino == inode
    assert set_aside(site) == []


def test_deletes_are_no_business_of_the_brake(site: Site) -> None:
    agent = site.agent()
    names = [f"vm{n}" for n in range(5)]
    for name in names:
        site.write(name, **SMALL, state="stopped")
    for name in names:
        agent.wait_status(name, "stopped")
    for name in names:
        assert call(agent, "DELETE", f"/api/vms/{name}").status == 200
    answer = call(agent, "GET", "/api/vms").body
    assert (answer["vms"], answer["held"]) == ([], [])


def test_a_vm_without_a_manifest_that_was_stopped_can_still_be_deleted(site: Site) -> None:
    """Its disk is there, and holds the name: whoever is told to delete it first can do so."""
    agent = running(site)
    agent.kill()
    (site.state / "catalog.json").unlink()
    (site.manifests / "web.yaml").unlink()
    heir = site.agent()
    assert call(heir, "POST", "/api/vms/web/stop").status == 200
    created = call(heir, "POST", "/api/vms", {"name": "web", "memory": 32})
    assert (created.status, created.fields) == (400, {"name"})
    assert call(heir, "DELETE", "/api/vms/web").status == 200
    assert list((site.state / "trash").glob("web-*/root.qcow2"))
    assert call(heir, "POST", "/api/vms", {"name": "web", "memory": 32}).status == 201
