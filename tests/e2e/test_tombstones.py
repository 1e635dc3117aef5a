"""An agent that is killed in the middle of a DELETE leaves one that finishes it, or gives it up; nothing is lost.

The answer never came, so that either is right; what must not be is a VM half deleted, a disk gone that nobody wanted
gone, or a name that stays taken.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from pathlib import Path

import pytest

from tests.e2e.calls import Pending, call
from tests.e2e.site import Agent, Site, free_port, wait_for

CRASHING_AGENT = Path(__file__).with_name("crashing_agent.py")
SMALL: dict[str, object] = {"memory": 32, "shutdown": {"timeoutSeconds": 1}}


def killed_in_a_delete(site: Site, step: str, *, purge: bool = False) -> tuple[int, int]:
    """Have an agent die at this step of the deletion of `web`; returns the pid of its QEMU and its disk's inode."""
    words = site.command()
    agent = site.start([sys.executable, str(CRASHING_AGENT), step, *words[3:]]).wait_ready()
    site.write("web", **SMALL)
    agent.wait_status("web", "running")
    pid, inode = site.pid("web"), _disk(site).stat().st_ino
    with contextlib.suppress(OSError):
        answer = call(agent, "DELETE", f"/api/vms/web{'?purge=true' if purge else ''}")
        raise AssertionError(f"an agent that should be dead has answered: {answer}")
    assert agent.process.wait(30) == -signal.SIGKILL
    return pid, inode


def must_be_deleted(site: Site, agent: Agent, inode: int, *, purge: bool = False) -> None:
    """Nothing runs, the manifest is gone, the disk is where it was wanted, and the name can be used."""
    wait_for("it is gone", lambda: call(agent, "GET", "/api/vms/web").status == 404)
    wait_for("its directory is gone", lambda: not (site.state / "vms" / "web").exists())
    assert site.pids("web") == []
    assert not (site.manifests / "web.yaml").exists()
    disks = [path.stat().st_ino for path in (site.state / "trash").glob("web-*/root.qcow2")]
    assert disks == ([] if purge else [inode])
    answer = wait_for("the name is free", lambda: _created(agent))
    assert answer
    assert purge or _disk(site).stat().st_ino != inode  # the file system may give a number again
    agent.kill()
    heir = site.agent()
    assert heir.vm("web")["status"] == "running"  # no tombstone is left that would take the new one


def _created(agent: Agent) -> bool:
    new = {"name": "web", "memory": 32, "vncPort": free_port(), "start": True}
    return call(agent, "POST", "/api/vms", new).status == 201


def _disk(site: Site) -> Path:
    return site.state / "vms" / "web" / "root.qcow2"


@pytest.mark.parametrize(
    "purge", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["set-aside", "purged"]
)
@pytest.mark.parametrize("step", ["entombed", "manifest-removed", "buried", "done"])
def test_a_deletion_is_finished_by_the_next_agent(site: Site, step: str, purge: bool) -> None:
    step = {False: "set-aside", True: "discarded"}[purge] if step == "done" else step
    _, inode = killed_in_a_delete(site, step, purge=purge)
    assert (site.manifests / "web.yaml").exists() is (step == "entombed")
    must_be_deleted(site, site.agent(), inode, purge=purge)


def test_a_deletion_goes_on_when_the_agent_dies_while_the_guest_is_shutting_down(site: Site) -> None:
    agent = site.agent()
    site.write("web", memory=32, shutdown={"timeoutSeconds": 600})
    agent.wait_status("web", "running")
    pid, inode = site.pid("web"), _disk(site).stat().st_ino
    Pending(agent, "DELETE", "/api/vms/web")
    agent.wait_status("web", "stopping")
    agent.kill()
    assert site.pids("web") == [pid]
    heir = site.agent()
    assert heir.vm("web")["status"] == "stopping"
    assert call(heir, "POST", "/api/vms", {"name": "web"}).fields == {"name"}
    assert site.pids("web") == [pid]
    site.qmp("web", {"execute": "quit"})
    must_be_deleted(site, heir, inode)


def test_a_deletion_is_given_up_where_the_manifest_was_changed_meanwhile(site: Site) -> None:
    pid, _ = killed_in_a_delete(site, "entombed")
    site.edit("web", cpuCores=2)
    text = (site.manifests / "web.yaml").read_text()
    heir = site.agent()
    assert heir.wait_status("web", "running")["cpuCores"] == 2
    assert "is given up" in heir.log.read_text()
    heir.kill()
    last = site.agent()
    assert last.wait_status("web", "running")["pid"] == pid == site.pid("web")
    assert (site.manifests / "web.yaml").read_text() == text
    assert not list((site.state / "trash").glob("*"))
    assert call(last, "DELETE", "/api/vms/web").status == 200


def test_a_deletion_is_finished_where_somebody_else_took_the_manifest_away(site: Site) -> None:
    """It is no loss of the directory, and waits for nobody: the deletion was asked for."""
    _, inode = killed_in_a_delete(site, "entombed")
    (site.manifests / "web.yaml").unlink()
    must_be_deleted(site, site.agent(), inode)


def test_a_manifest_put_in_the_place_of_a_deleted_one_is_a_new_vm(site: Site) -> None:
    """The old one is set aside first, whatever the new one says."""
    _, inode = killed_in_a_delete(site, "buried")
    site.write("web", **SMALL, cpuCores=2)
    heir = site.agent()
    wait_for("the new one runs", lambda: heir.vm("web").get("cpuCores") == 2 and site.pids("web"))
    heir.wait_status("web", "running")
    (aside,) = (site.state / "trash").glob("web-*/root.qcow2")
    assert aside.stat().st_ino == inode != _disk(site).stat().st_ino
