"""What happens to the files, and what that may and may not do to the VMs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e import tiny
from tests.e2e.site import Agent, Site, wait_for


def test_one_broken_file_of_ten_disturbs_none_and_is_reported_with_its_place(site: Site) -> None:
    for n in range(10):
        site.write(f"vm{n}", state="running" if n in (3, 4) else "stopped", shutdown={"timeoutSeconds": 1})
    agent = site.agent()
    agent.wait_status("vm3", "running")
    before = site.pid("vm3")
    broken = site.manifests / "vm3.yaml"
    broken.write_text(broken.read_text().replace("memory: 128", "memory: lots"))
    wait_for("the problem is reported", lambda: agent.get("/api/vms")[1]["problems"])
    (problem,) = agent.get("/api/vms")[1]["problems"]
    line = broken.read_text().splitlines().index("  memory: lots") + 1
    assert (problem["file"], problem["line"], problem["column"]) == ("vm3.yaml", line, 3)
    assert "spec.memory" in problem["field"]
    assert site.pid("vm3") == before
    wait_for("vm3 says so", lambda: agent.condition("vm3", "Stalled").get("reason") == "ManifestInvalid")
    site.edit("vm5", state="running")
    agent.wait_status("vm5", "running")
    site.write("vm3", state="stopped", shutdown={"timeoutSeconds": 1})
    agent.wait_status("vm3", "stopped")
    assert agent.get("/api/vms")[1]["problems"] == []


def test_a_broken_manifest_goes_on_in_its_last_good_version_over_a_restart_of_the_agent(site: Site) -> None:
    path = site.write("web", state="stopped")
    agent = site.agent()
    agent.wait_status("web", "stopped")
    path.write_text("apiVersion: reconciler/v1\nkind: [")
    wait_for("the problem is reported", lambda: agent.get("/api/vms")[1]["problems"])
    agent.kill()
    heir = site.agent()
    assert heir.vm("web")["memory"] == 128


def _removed(site: Site) -> None:
    shutil.rmtree(site.manifests)


def _emptied(site: Site) -> None:
    for path in site.manifests.iterdir():
        path.unlink()


def _renamed(site: Site) -> None:
    site.manifests.rename(site.root / "elsewhere")


def _swapped(site: Site) -> None:
    """By a symlink to an empty directory, as a half-done git-sync would."""
    (site.root / "empty").mkdir()
    site.manifests.rename(site.root / "elsewhere")
    site.manifests.symlink_to(site.root / "empty")


@pytest.mark.parametrize("happening", [_removed, _emptied, _renamed, _swapped])
def test_whatever_happens_to_the_directory_nothing_stops(
    site: Site, happening: Callable[[Site], None]
) -> None:
    agent = site.agent()
    site.write("a")
    site.write("b")
    agent.wait_status("a", "running")
    agent.wait_status("b", "running")
    before = site.pid("a"), site.pid("b")
    happening(site)
    wait_for("it is held", lambda: agent.condition("a", "PruneHeld"))
    assert "reconciler prune --confirm" in agent.condition("a", "PruneHeld")["message"]
    _two_rescans(agent)
    assert (site.pid("a"), site.pid("b")) == before
    assert {agent.vm(n)["status"] for n in "ab"} == {"running"}


def _two_rescans(agent: Agent) -> None:
    """Let the agent look at the manifests twice more; each `start` that is refused makes it look."""
    for _ in range(2):
        assert agent.post("/api/vms/a/start")[0] == 400


def test_a_symlink_swap_to_another_revision_is_followed(site: Site) -> None:
    agent = site.agent()
    site.write("a", state="stopped")
    agent.wait_status("a", "stopped")
    revision = site.root / "revision-2"
    shutil.copytree(site.manifests, revision)
    text = (revision / "a.yaml").read_text()
    (revision / "a.yaml").write_text(text.replace("memory: 128", "memory: 192"))
    site.manifests.rename(site.root / "revision-1")
    site.manifests.symlink_to(revision)
    wait_for("the new revision counts", lambda: agent.vm("a")["memory"] == 192)


def test_a_checkout_changes_what_runs_and_stops_nothing_on_the_way(site: Site) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"]
        subprocess.run(["git", *identity, *words], cwd=site.manifests, check=True, capture_output=True)

    git("init", "-q", "-b", "one")
    for n in range(5):
        site.write(f"vm{n}", state="running" if n == 0 else "stopped")
    git("add", ".")
    git("commit", "-qm", "one")
    git("checkout", "-qb", "two")
    for n in range(5):
        site.edit(f"vm{n}", cpuCores=2)
    git("commit", "-qam", "two")
    agent = site.agent()
    agent.wait_status("vm0", "running")
    before = site.pid("vm0")
    for branch, cores in [("one", 1), ("two", 2)] * 5:
        git("checkout", "-q", branch)
        wait_for(
            f"branch {branch} counts",
            lambda cores=cores: all(agent.vm(f"vm{n}").get("cpuCores") == cores for n in range(5)),  # type: ignore[misc]
        )
    assert site.pid("vm0") == before
    assert agent.get("/api/vms")[1]["problems"] == []


def test_a_manifest_that_is_removed_is_held_confirmed_set_aside_and_restored(site: Site) -> None:
    """The whole way of `rm`, with a disk whose content comes back."""
    agent = site.agent()
    path = site.write("web", isoPath=tiny.iso(site))
    tiny.wait_up(site, "web")
    text, uuid = path.read_text(), site.identity("web")["uuid"]
    path.unlink()
    wait_for("it is held", lambda: agent.condition("web", "PruneHeld"))
    assert site.pids("web")
    status, answer = agent.post("/api/prune", {"names": ["web"]})
    assert (status, answer["released"]) == (200, ["web"])
    wait_for("it is gone", lambda: agent.get("/api/vms/web")[0] == 404)
    wait_for("it is set aside", lambda: list((site.state / "trash").glob("web-*/root.qcow2")))
    assert "in time" not in agent.log.read_text()
    assert not (site.state / "vms" / "web").exists()
    assert agent.post("/api/vms/web/restore")[0] == 200
    agent.wait_status("web", "running")
    assert path.read_text() == text
    assert site.identity("web")["uuid"] == uuid


def test_one_of_many_manifests_that_is_removed_is_set_aside_after_two_scans(site: Site) -> None:
    for n in range(6):
        site.write(f"vm{n}", state="stopped")
    agent = site.agent()
    (site.manifests / "vm3.yaml").unlink()
    wait_for("it is gone", lambda: agent.get("/api/vms/vm3")[0] == 404, timeout_s=60)
    assert agent.get("/api/vms")[1]["held"] == []
    assert len(agent.get("/api/vms")[1]["vms"]) == 5


@pytest.mark.parametrize("style", ["in-place", "rename", "unlink-and-create"])
def test_a_write_of_any_style_is_seen_at_once(site: Site, style: str) -> None:
    agent = site.agent(rescanSeconds=3600)
    path = site.write("web", state="stopped")
    agent.wait_status("web", "stopped")
    text = path.read_text().replace("memory: 128", "memory: 192")
    _write(path, text, style)
    wait_for("the new version counts", lambda: agent.vm("web")["memory"] == 192)


def _write(path: Path, text: str, style: str) -> None:
    match style:
        case "in-place":
            path.write_text(text)
        case "rename":
            aside = path.with_suffix(".swp")
            aside.write_text(text)
            aside.replace(path)
        case _:
            path.unlink()
            path.write_text(text)
