"""The CD drive: what the manifest says is what the guest finds, live; what must not be opened is not."""

from __future__ import annotations

import pytest

from tests.e2e import tiny
from tests.e2e.site import Site, wait_for


def test_an_iso_toggled_in_the_manifest_is_seen_by_the_guest(site: Site) -> None:
    agent = site.agent()
    site.write("web", isoPath=site.iso("demo"))
    site.wait_serial("web", "GUEST-READY")
    before = site.pid("web")
    site.edit("web", mountIso=False)
    site.wait_serial("web", "GUEST-CDROM none")
    assert agent.vm("web")["isMountIso"] is False
    site.edit("web", mountIso=True, isoPath=site.iso("data"))
    site.wait_serial("web", "GUEST-CDROM DATADISC")
    assert site.pid("web") == before
    assert not agent.vm("web")["requiresRestart"]


@pytest.mark.parametrize("name", ["with, comma.iso", "with space.iso", "snapshot=on,file=x.iso"])
def test_odd_names_of_iso_files_work(site: Site, name: str) -> None:
    agent = site.agent()
    site.write("web", isoPath=tiny.iso(site, name))
    agent.wait_status("web", "running")
    tiny.wait_up(site, "web")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ('json:{"driver":"file","filename":"/etc/passwd"}', "IsoNotFound"),
        ("nbd:127.0.0.1:1", "IsoNotFound"),
        ("../agent.lock", "IsoNotAllowed"),
        ("/etc/passwd", "IsoNotAllowed"),
        ("missing.iso", "IsoNotFound"),
    ],
)
def test_a_path_that_must_not_be_opened_is_not_and_the_status_says_so(
    site: Site, path: str, reason: str
) -> None:
    agent = site.agent()
    site.write("web", isoPath=path)
    wait_for("it is stalled", lambda: agent.condition("web", "Stalled").get("reason") == reason)
    assert agent.vm("web")["status"] == "failed"
    assert site.pids("web") == []
    status, answer = agent.post("/api/vms/web/start")
    assert (status, answer["code"]) == (400, "VM_START_FAILED")
    assert path.split(":", maxsplit=1)[0] in answer["error"]


def test_a_newline_in_a_path_is_a_problem_of_the_manifest(site: Site) -> None:
    agent = site.agent()
    site.write("web", isoPath="a.iso\nsnapshot: on")
    wait_for("the problem is reported", lambda: agent.get("/api/vms")[1]["problems"])
    (problem,) = agent.get("/api/vms")[1]["problems"]
    assert problem["field"] == "spec.isoPath"


def test_an_iso_that_comes_later_starts_the_vm_when_it_is_asked_for(site: Site) -> None:
    agent = site.agent()
    site.write("web", isoPath="demo.iso")
    wait_for("it is stalled", lambda: agent.condition("web", "Stalled").get("reason") == "IsoNotFound")
    site.iso("demo")
    assert agent.post("/api/vms/web/start")[0] == 200
    assert agent.vm("web")["status"] == "running"


def test_a_running_vm_whose_new_iso_is_missing_goes_on_and_says_so(site: Site) -> None:
    agent = site.agent()
    site.write("web")
    agent.wait_status("web", "running")
    site.edit("web", isoPath="missing.iso")
    wait_for("it is degraded", lambda: agent.condition("web", "Degraded").get("reason") == "IsoNotFound")
    assert agent.vm("web")["status"] == "running"
