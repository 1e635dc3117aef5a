"""`reconciler rename`: the same machine under another name, whole or not at all."""

from __future__ import annotations

import json

import pytest

from reconciler.layout import Layout
from reconciler.manifest.store import ManifestStore
from reconciler.model.vm import ManifestRef
from reconciler.storage.records import Records
from tests.e2e import tiny
from tests.e2e.site import Agent, Site, wait_for


@pytest.fixture
def agent(site: Site) -> Agent:
    """An agent with a VM `web` that ran, and is off."""
    agent = site.agent()
    site.write("web", isoPath=tiny.iso(site), memory=64)
    agent.wait_status("web", "running")
    tiny.wait_up(site, "web")
    site.edit("web", state="stopped")
    agent.wait_status("web", "stopped")
    return agent


def rename(agent: Agent, name: str, new: str, query: str = "") -> tuple[int, dict[str, object]]:
    """Ask for it."""
    return agent.post(f"/api/vms/{name}/rename{query}", {"newName": new})


def test_disk_identity_and_manifest_go_with_the_name(site: Site, agent: Agent) -> None:
    identity, disk = site.identity("web"), (site.state / "vms/web/root.qcow2").stat().st_ino
    before = (site.manifests / "web.yaml").read_text()
    status, answer = rename(agent, "web", "shop")
    assert (status, answer["name"]) == (200, "shop"), answer
    assert (site.manifests / "shop.yaml").read_text() == before.replace("name: web", "name: shop")
    assert [path.name for path in site.manifests.iterdir()] == ["shop.yaml"]
    assert site.identity("shop") == identity
    assert (site.state / "vms/shop/root.qcow2").stat().st_ino == disk
    assert sorted(path.name for path in (site.state / "vms").iterdir()) == ["shop"]
    wait_for("the old name is gone", lambda: agent.get("/api/vms/web")[0] == 404, 5)
    assert agent.vm("shop")["status"] == "stopped"
    assert agent.get("/api/vms")[1]["held"] == []
    status, answer = agent.post("/api/vms/shop/start")
    assert status == 200, answer
    assert list((site.state / "trash").iterdir()) == []


def test_what_cannot_be_renamed_says_why_and_stays(site: Site, agent: Agent) -> None:
    site.write("db", memory=64)
    agent.wait_status("db", "running")
    site.write("page", state="stopped", dependsOn=["web"])
    agent.wait_status("page", "stopped")
    for name, new, words in (
        ("db", "other", "reconciler stop db"),
        ("page", "db", "describes a VM of this name"),
        ("web", "shop", "dependsOn of page"),
    ):
        status, answer = rename(agent, name, new)
        assert (status, answer["code"]) == (400, "VM_RENAME_FAILED")
        assert words in str(answer)
    assert rename(agent, "nobody", "shop")[1]["code"] == "VM_NOT_FOUND"
    assert rename(agent, "page", "../x")[1]["code"] == "INVALID_REQUEST_PARAMS"
    assert rename(agent, "page", "leaf", "?dryRun=true")[0] == 200
    assert sorted(path.name for path in site.manifests.iterdir()) == ["db.yaml", "page.yaml", "web.yaml"]
    assert (site.state / "vms/web/root.qcow2").exists()


@pytest.mark.parametrize("step", ["noted", "moved", "edited"])
def test_an_agent_that_died_over_it_leaves_one_that_finishes_or_takes_it_back(
    site: Site, agent: Agent, step: str
) -> None:
    identity = site.identity("web")
    agent.kill()
    records = Records(Layout(site.state, site.run))
    records.note_renaming("web", "shop")
    if step != "noted":
        records.move("web", "shop")
    if step == "edited":
        ManifestStore(site.manifests).rename(ManifestRef("web.yaml"), "web", "shop")
    heir = site.agent()
    name, other = ("web", "shop") if step == "noted" else ("shop", "web")
    heir.wait_status(name, "stopped")
    assert site.identity(name) == identity
    assert heir.get(f"/api/vms/{other}")[0] == 404
    assert [path.name for path in site.manifests.iterdir()] == [f"{name}.yaml"]
    assert not (site.state / "vms" / name / "renaming.json").exists()
    assert [path.name for path in (site.state / "vms").iterdir()] == [name]
    assert json.loads((site.state / "catalog.json").read_text())["entries"].keys() == {name}
