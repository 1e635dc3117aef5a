"""Changes of a configuration over HTTP: the smallest edit of the file, and an answer that is true of the running VM."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.e2e import tiny
from tests.e2e.calls import Reply, call
from tests.e2e.site import Agent, Site, free_port, wait_for

SMALL: dict[str, object] = {"memory": 64, "shutdown": {"timeoutSeconds": 1}}

ODD = """\
# Two machines of one service. Edited by hand.
# (this comment stays)

apiVersion: reconciler/v1   # version of the format
kind: VirtualMachine
metadata:
    name: web               # what it is called
    labels: {tier: front}   # flow style
spec:
    state: stopped          # not yet
    # How much it needs was measured in March.
    memory: 64              # MiB
    cpuCores:   1           # enough
    diskSize: 1


    networkType: "user"     # quoted
    vncPort: %(web)d
    bootOrder: hd,cd        # from disk
    shutdown:
          timeoutSeconds: 1 # odd indentation
# the end of web
---
# The other one.
apiVersion: reconciler/v1
kind: VirtualMachine
metadata: {name: db}
spec: {state: stopped, memory: 64, cpuCores: 1, diskSize: 1, vncPort: %(db)d} # flow
"""


def configure(
    agent: Agent, body: object, name: str = "web", headers: Mapping[str, str] | None = None, query: str = ""
) -> Reply:
    return call(agent, "PUT", f"/vms/{name}/config{query}", body, headers)


def running(site: Site, **spec: object) -> Agent:
    """An agent, and a VM called web that runs."""
    agent = site.agent()
    site.write("web", **{**SMALL, **spec})
    agent.wait_status("web", "running")
    return agent


@pytest.fixture
def odd(site: Site) -> Path:
    """A file as people write them."""
    path = site.manifests / "service.yaml"
    path.write_text(ODD % {"web": free_port(), "db": free_port()})
    return path


def changed_lines(before: str, after: str) -> list[str]:
    """The lines of a diff that were taken away or put in."""
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    return [line for line in lines if line[0] in "+-"]


def test_the_diff_of_the_file_is_the_changed_lines_and_comments_stay(site: Site, odd: Path) -> None:
    agent = site.agent()
    before = odd.read_text()
    assert configure(agent, {"memory": 96, "bootOrder": "cd,hd", "cpuCores": 1}).status == 200
    assert changed_lines(before, odd.read_text()) == [
        "-     memory: 64              # MiB",
        "+     memory: 96              # MiB",
        "-     bootOrder: hd,cd        # from disk",
        "+     bootOrder: cd,hd        # from disk",
    ]
    assert agent.vm("web")["memory"] == 96


def test_a_field_that_was_not_there_is_one_more_line_and_none_takes_it_away(site: Site, odd: Path) -> None:
    agent = site.agent()
    before = odd.read_text()
    iso = str(tiny.path(site))
    assert configure(agent, {"isoPath": iso}).status == 200
    assert changed_lines(before, odd.read_text()) == [f"+     isoPath: {iso}"]
    assert configure(agent, {"isoPath": ""}).status == 200
    assert odd.read_text() == before


def test_an_edit_in_one_of_two_documents_leaves_the_other_as_it_is(site: Site, odd: Path) -> None:
    agent = site.agent()
    before = odd.read_text()
    assert configure(agent, {"memory": 96}, name="db").status == 200
    assert odd.read_text() == before.replace("{state: stopped, memory: 64,", "{state: stopped, memory: 96,")


def test_the_operations_edit_their_own_line_only(site: Site, odd: Path) -> None:
    agent = site.agent()
    before = odd.read_text()
    assert call(agent, "POST", "/api/vms/web/start").status == 200
    assert changed_lines(before, odd.read_text()) == [
        "-     state: stopped          # not yet",
        "+     state: running          # not yet",
    ]
    assert call(agent, "POST", "/api/vms/web/stop").status == 200
    assert odd.read_text() == before
    assert call(agent, "DELETE", "/api/vms/db").status == 200
    left = odd.read_text()
    assert left.startswith(before[: before.index("---")])
    assert "name: db" not in left
    assert [vm["name"] for vm in call(agent, "GET", "/api/vms").body["vms"]] == ["web"]


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_a_whole_vm_object_sent_back_changes_nothing(site: Site, odd: Path, state: str) -> None:
    agent = site.agent()
    if state == "running":
        assert call(agent, "POST", "/api/vms/web/start").status == 200
    before, stamp = odd.read_bytes(), odd.stat()
    seen = next(vm for vm in call(agent, "GET", "/api/vms").body["vms"] if vm["name"] == "web")
    reply = configure(agent, seen)
    assert reply.status == 200
    assert odd.read_bytes() == before
    assert (odd.stat().st_ino, odd.stat().st_mtime_ns) == (stamp.st_ino, stamp.st_mtime_ns)
    assert reply.body["requiresRestart"] is False
    assert {"status", "pid", "conditions", "metadata", "config"} <= set(reply.body["ignoredFields"])
    assert not {"memory", "vncPort", "bootOrder", "name"} & set(reply.body["ignoredFields"])


def test_what_is_no_field_is_ignored_and_listed_and_the_rest_counts(site: Site) -> None:
    agent = running(site)
    reply = configure(agent, {"cores": 8, "memory": 80, "cpuCores": None, "color": "red"})
    assert reply.status == 200
    assert reply.body["ignoredFields"] == ["cores", "color"]
    assert reply.body["config"]["memory"] == 80
    assert "cores" not in (site.manifests / "web.yaml").read_text()


def test_a_smaller_disk_is_refused_and_nothing_is_changed(site: Site) -> None:
    agent = running(site, diskSize=2)
    path = site.manifests / "web.yaml"
    before, pid = path.read_bytes(), site.pid("web")
    reply = configure(agent, {"memory": 96, "diskSize": 1})
    assert (reply.status, reply.code, reply.fields) == (400, "INVALID_REQUEST_PARAMS", {"diskSize"})
    assert path.read_bytes() == before
    assert site.pid("web") == pid
    assert agent.vm("web")["requiresRestart"] is False


def test_requires_restart_is_true_exactly_while_the_running_vm_differs(site: Site) -> None:
    agent = running(site, isoPath=tiny.iso(site))

    def required(body: object) -> bool:
        reply = configure(agent, body)
        assert reply.status == 200, reply.body
        return bool(reply.body["requiresRestart"])

    assert not required({"memory": 64})
    assert not required({"isoPath": ""})  # ejected live
    assert not required({"retainDays": 5})  # the agent's own
    assert required({"memory": 96})
    assert agent.vm("web")["requiresRestart"] is True
    assert [p["field"] for p in call(agent, "GET", "/api/vms/web/pending").body["pending"]] == ["memory"]
    assert required({"profile": "compatible"})
    assert required({"memory": 64})  # the profile waits still
    assert not required({"profile": "default"})
    assert agent.vm("web")["requiresRestart"] is False
    assert not required({"diskSize": 2})  # grown live
    assert required({"maxMemory": 128})
    assert call(agent, "POST", "/api/vms/web/restart").status == 200
    assert agent.vm("web")["requiresRestart"] is False
    assert call(agent, "POST", "/api/vms/web/stop").status == 200
    assert not required({"memory": 96})  # the next start has it anyway


def test_if_match_refuses_a_write_after_somebody_elses_edit(site: Site) -> None:
    agent = running(site)
    path = site.manifests / "web.yaml"
    tag = call(agent, "GET", "/api/vms/web").headers["etag"]
    site.edit("web", memory=96)  # somebody else's
    before = path.read_bytes()
    writes = (
        ("PUT", "/vms/web/config", {"cpuCores": 2}),
        ("POST", "/api/vms/web/stop", None),
        ("POST", "/api/vms/web/restart", None),
        ("DELETE", "/api/vms/web", None),
    )
    for method, where, body in writes:
        reply = call(agent, method, where, body, {"If-Match": tag})
        assert (reply.status, reply.code) == (412, "PRECONDITION_FAILED"), (method, where)
    assert path.read_bytes() == before
    assert agent.vm("web")["status"] == "running"
    wait_for("the edit is shown", lambda: call(agent, "GET", "/api/vms/web").headers["etag"] != tag)
    now = call(agent, "GET", "/api/vms/web").headers["etag"]
    written = configure(agent, {"cpuCores": 2}, headers={"If-Match": now})
    assert written.status == 200
    then = call(agent, "GET", "/api/vms/web").headers["etag"]
    assert written.headers["etag"] == then != now
    assert configure(agent, {"cpuCores": 1}, headers={"If-Match": f'"other", {then}'}).status == 200
    assert configure(agent, {"cpuCores": 2}, headers={"If-Match": "*"}).status == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "plans"),
    [
        ("POST", "/api/vms", {"name": "new", "memory": 64, "start": True}, "Launch"),
        ("POST", "/api/vms/off/start", None, "Launch"),
        ("POST", "/api/vms/web/stop", None, "PowerDown"),
        ("POST", "/api/vms/web/stop", {"force": True}, "Quit"),
        ("POST", "/api/vms/web/restart", None, "PowerDown"),
        ("DELETE", "/api/vms/web", None, "PowerDown"),
        ("DELETE", "/api/vms/off", None, "SetAside"),
        ("DELETE", "/api/vms/off?purge=true", None, "Discard"),
        ("PUT", "/api/vms/web/config", {"isoPath": "tiny.iso"}, "ChangeMedium"),
        ("POST", "/api/vms/disc/toggleMountIso", {"mountStatus": False}, "ChangeMedium"),
    ],
)
@pytest.mark.xdist_group("rehearsal")
def test_a_rehearsal_writes_nothing_and_says_what_would_be_done(
    rehearsal: tuple[Site, Agent], method: str, path: str, body: object, plans: str
) -> None:
    site, agent = rehearsal
    files = {path: path.read_bytes() for path in site.manifests.iterdir()}
    pids = {name: site.pids(name) for name in ("web", "disc")}
    join = "&" if "?" in path else "?"
    reply = call(agent, method, f"{path}{join}dryRun=true", body)
    assert reply.status == 200, reply.body
    assert (reply.body["success"], reply.body["dryRun"]) == (True, True)
    assert plans in {action["action"] for action in reply.body["actions"]}
    assert {path: path.read_bytes() for path in site.manifests.iterdir()} == files
    seen = {vm["name"]: vm["status"] for vm in call(agent, "GET", "/api/vms").body["vms"]}
    assert seen == {"web": "running", "disc": "running", "off": "stopped"}
    assert {name: site.pids(name) for name in ("web", "disc")} == pids
    assert not list(site.state.glob("trash/*"))


@pytest.mark.xdist_group("rehearsal")
def test_a_rehearsal_of_a_configuration_says_whether_it_would_wait_for_a_restart(
    rehearsal: tuple[Site, Agent],
) -> None:
    _, agent = rehearsal
    wanted = configure(agent, {"memory": 96}, query="?dryRun=true").body
    assert (wanted["requiresRestart"], wanted["config"]["memory"]) == (True, 96)
    assert [change["field"] for change in wanted["pending"]] == ["memory"]
    assert "memory: 96" in wanted["manifest"]
    assert configure(agent, {"retainDays": 3}, query="?dryRun=true").body["requiresRestart"] is False
    assert agent.vm("web")["memory"] == 64


@pytest.mark.xdist_group("rehearsal")
def test_a_rehearsal_refuses_what_the_write_would_refuse(rehearsal: tuple[Site, Agent]) -> None:
    _, agent = rehearsal
    for method, path, body, code in (
        ("POST", "/api/vms", {"name": "web"}, "INVALID_REQUEST_PARAMS"),
        ("PUT", "/vms/web/config", {"memory": -1}, "INVALID_REQUEST_PARAMS"),
        ("POST", "/api/vms/web/start", None, "VM_ALREADY_RUNNING"),
        ("POST", "/api/vms/off/stop", None, "VM_ALREADY_STOPPED"),
        ("DELETE", "/api/vms/nobody", None, "VM_NOT_FOUND"),
    ):
        assert call(agent, method, f"{path}?dryRun=true", body).code == code
    stale = call(agent, "PUT", "/vms/web/config?dryRun=true", {"memory": 96}, {"If-Match": '"stale"'})
    assert (stale.status, stale.code) == (412, "PRECONDITION_FAILED")


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Agent]]:
    """Two VMs that run, one with an ISO in its drive, and one that is off; nothing here changes any of them."""
    site = Site(tmp_path_factory.mktemp("rehearsal"))
    agent = site.agent()
    site.write("web", **SMALL)
    site.write("disc", **SMALL, isoPath=tiny.iso(site))
    site.write("off", **SMALL, state="stopped")
    for name in ("web", "disc"):
        agent.wait_status(name, "running")
    agent.wait_status("off", "stopped")
    yield site, agent
    site.close()
