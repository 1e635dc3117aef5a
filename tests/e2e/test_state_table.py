"""What start, stop, restart and delete do in each state: every cell of the contract's table, on a real QEMU.

The table stands here a second time, on purpose: it is written from the contract, and knows nothing of the product's.
Each row is a state, and a way to get a real VM there; its cells share one agent, and each has a VM of its own.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

import pytest
import yaml

from tests.e2e import tiny
from tests.e2e.calls import Pending, Reply, call
from tests.e2e.site import Agent, Site, free_port, wait_for

STARTED, STOPPED, DELETED = "虚拟机启动成功", "虚拟机停止成功", "虚拟机已成功删除"
ERRORS = {
    "VM_ALREADY_RUNNING": "虚拟机已在运行",
    "VM_ALREADY_STOPPED": "虚拟机已停止",
    "VM_NOT_RUNNING": "虚拟机未运行",
    "VM_START_FAILED": "虚拟机启动失败",
    "VM_STOP_FAILED": "虚拟机停止失败",
    "MANIFEST_INVALID": "虚拟机的清单文件无效",
}
LONG = {"timeoutSeconds": 600}
SHORT = {"timeoutSeconds": 1}
SMALL = {"memory": 32, "shutdown": SHORT}


class Qemu(Enum):
    """What becomes of QEMU, as /proc shows it."""

    SAME = auto()
    """The process that there was before, and no other."""
    OTHER = auto()
    """One process, and not the one before."""
    NONE = auto()


@dataclass(frozen=True)
class Cell:
    """What an operation comes to.

    `says` is the message where it succeeds, the code where it is refused; `{name}` is the VM's name. `manifest` is
    the `state` that the manifest asks for then, None where there is none. `reason` stands in the refusal.
    """

    status: int
    says: str
    manifest: str | None
    qemu: Qemu
    reason: str = ""
    set_aside: bool = False


def start(says: str = STARTED, qemu: Qemu = Qemu.OTHER, status: int = 200) -> Cell:
    return Cell(status, says, "running", qemu)


def refused(code: str, manifest: str | None, qemu: Qemu, reason: str = "") -> Cell:
    return Cell(400, code, manifest, qemu, reason)


STOPS = Cell(200, STOPPED, "stopped", Qemu.NONE)
STARTS = Cell(200, STARTED, "running", Qemu.OTHER)
RESTARTS = Cell(200, "虚拟机 {name} 已成功重启", "running", Qemu.OTHER)
DELETES = Cell(200, DELETED, None, Qemu.NONE, set_aside=True)

Row = Mapping[str, Cell]


def row(start: Cell, stop: Cell, restart: Cell, delete: Cell, force: Cell | None = None) -> Row:
    """A row of the table; a forced stop comes to the same as a stop."""
    return {"start": start, "stop": stop, "force": force or stop, "restart": restart, "delete": delete}


def untouched(manifest: str, qemu: Qemu, reason: str) -> Row:
    """The row of a VM that must be left alone."""
    no_start = refused("VM_START_FAILED", manifest, qemu, reason)
    no_stop = refused("VM_STOP_FAILED", manifest, qemu, reason)
    return row(no_start, no_stop, no_start, no_stop)


NOT_RUNNING = refused("VM_NOT_RUNNING", "running", Qemu.NONE)
ALREADY_RUNNING = refused("VM_ALREADY_RUNNING", "running", Qemu.SAME)
OWED = row(STARTS, STOPS, NOT_RUNNING, DELETES)

TABLE: Mapping[str, Row] = {
    "stopped": row(
        STARTS,
        refused("VM_ALREADY_STOPPED", "stopped", Qemu.NONE),
        refused("VM_NOT_RUNNING", "stopped", Qemu.NONE),
        DELETES,
    ),
    "running": row(ALREADY_RUNNING, STOPS, RESTARTS, DELETES),
    "backing-off": OWED,
    "guest-powered-off": OWED,
    "start-failed": OWED,
    "stopping": row(STARTS, STOPS, refused("VM_NOT_RUNNING", "stopped", Qemu.SAME), DELETES),
    "paused": row(ALREADY_RUNNING, STOPS, RESTARTS, DELETES),
    "unknown": untouched("running", Qemu.SAME, "QEMU"),
    "suspended-running": untouched("running", Qemu.SAME, "spec.suspend"),
    "suspended-off": untouched("stopped", Qemu.NONE, "spec.suspend"),
    "without-manifest": row(
        refused("VM_ALREADY_RUNNING", None, Qemu.SAME),
        Cell(200, STOPPED, None, Qemu.NONE),
        refused("MANIFEST_INVALID", None, Qemu.SAME),
        DELETES,
    ),
}
OPERATIONS = ("start", "stop", "force", "restart", "delete")


# ---- how each state is reached -------------------------------------------------------------------


@dataclass
class Stage:
    """One agent with the VMs of one row. `hindrances` keep them from starting, until they are closed."""

    state: str
    site: Site
    agent: Agent
    hindrances: dict[str, socket.socket] = field(default_factory=dict)

    def run(self, name: str, **spec: object) -> int:
        """Have a VM run; returns QEMU's pid."""
        self.site.write(name, **{**SMALL, **spec})
        self.agent.wait_status(name, "running")
        return self.site.pid(name)

    def crash(self, name: str) -> None:
        """Kill QEMU, and wait until the agent has noticed."""
        pid = self.site.pid(name)
        os.kill(pid, signal.SIGKILL)
        wait_for("the crash is noticed", lambda: self.agent.vm(name)["pid"] != pid)


def reach_stopped(stage: Stage, name: str) -> None:
    """With a disk, as after any run."""
    stage.run(name)
    stage.site.edit(name, state="stopped")
    stage.agent.wait_status(name, "stopped")


def reach_running(stage: Stage, name: str) -> None:
    stage.run(name)


def reach_backing_off(stage: Stage, name: str) -> None:
    stage.run(name)
    stage.crash(name)
    stage.agent.wait_status(name, "running")
    stage.crash(name)
    stage.agent.wait_status(name, "failed")
    assert stage.agent.condition(name, "Ready")["reason"] == "Crashed"


def reach_guest_powered_off(stage: Stage, name: str) -> None:
    stage.run(name, isoPath=tiny.iso(stage.site))
    tiny.wait_up(stage.site, name)
    tiny.power_off(stage.site, name)
    stage.agent.wait_status(name, "stopped")
    assert stage.agent.condition(name, "Ready")["reason"] == "GuestShutdown"


def reach_start_failed(stage: Stage, name: str) -> None:
    """QEMU itself refuses: the port that it shall forward is somebody else's."""
    taken = stage.hindrances[name] = _listener()
    forward = {"hostPort": taken.getsockname()[1], "guestPort": 22}
    stage.site.write(name, **SMALL, portForwards=[forward])
    stage.agent.wait_status(name, "failed")
    wait_for("it backs off", lambda: (stage.agent.vm(name)["nextTryInSeconds"] or 0) > 1)


def reach_stopping(stage: Stage, name: str) -> None:
    """A guest that is deaf to the power button: there is none inside."""
    stage.run(name, shutdown=LONG)
    stage.site.edit(name, state="stopped")
    stage.agent.wait_status(name, "stopping")


def reach_paused(stage: Stage, name: str) -> None:
    stage.run(name)
    stage.site.qmp(name, {"execute": "stop"})
    stage.agent.wait_status(name, "paused")


def reach_unknown(stage: Stage, name: str) -> None:
    os.kill(stage.run(name), signal.SIGSTOP)
    stage.agent.wait_status(name, "unknown")


def reach_suspended_running(stage: Stage, name: str) -> None:
    stage.run(name)
    stage.site.edit(name, suspend=True)
    wait_for("it is suspended", lambda: stage.agent.condition(name, "Suspended"))


def reach_suspended_off(stage: Stage, name: str) -> None:
    stage.site.write(name, **SMALL, state="stopped", suspend=True)
    wait_for("it is suspended", lambda: stage.agent.condition(name, "Suspended"))


def reach_without_manifest(stage: Stage, name: str) -> None:
    """The agent lost what it knew of the manifests, and the manifest is gone."""
    stage.run(name)
    stage.agent.kill()
    (stage.site.state / "catalog.json").unlink()
    (stage.site.manifests / f"{name}.yaml").unlink()
    stage.agent = stage.site.agent()
    assert stage.agent.vm(name)["status"] == "running"
    assert stage.agent.vm(name)["desiredState"] is None


REACH: Mapping[str, Callable[[Stage, str], None]] = {
    "stopped": reach_stopped,
    "running": reach_running,
    "backing-off": reach_backing_off,
    "guest-powered-off": reach_guest_powered_off,
    "start-failed": reach_start_failed,
    "stopping": reach_stopping,
    "paused": reach_paused,
    "unknown": reach_unknown,
    "suspended-running": reach_suspended_running,
    "suspended-off": reach_suspended_off,
    "without-manifest": reach_without_manifest,
}


@pytest.fixture(scope="module")
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    site = Site(tmp_path_factory.mktemp("table"))
    stage = Stage(request.param, site, site.agent())
    yield stage
    site.close()
    for taken in stage.hindrances.values():
        taken.close()


def _listener() -> socket.socket:
    taken = socket.socket()
    taken.bind(("127.0.0.1", free_port()))
    taken.listen()
    return taken


# ---- every cell ----------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    "stage",
    [pytest.param(state, marks=pytest.mark.xdist_group(f"state-table-{state}")) for state in TABLE],
    indirect=True,
)
def test_each_operation_does_in_each_state_what_the_table_says(stage: Stage, operation: str) -> None:
    state, cell = stage.state, TABLE[stage.state][operation]
    name = f"vm-{operation}"
    REACH[state](stage, name)
    before = stage.site.pids(name)
    if state == "start-failed" and cell is STARTS:
        stage.hindrances[name].close()
    if state == "stopping" and operation in {"start", "stop", "delete"}:
        reply = _joined(stage, name, operation, before)
    else:
        reply = call(stage.agent, *_request(operation, name))
    _must_answer(reply, cell, name)
    _must_be_so(stage.site, cell, name, before)


def _request(operation: str, name: str) -> tuple[str, str, object]:
    match operation:
        case "delete":
            return "DELETE", f"/api/vms/{name}", None
        case "force":
            return "POST", f"/api/vms/{name}/stop", {"force": True}
        case _:
            return "POST", f"/api/vms/{name}/{operation}", None


def _joined(stage: Stage, name: str, operation: str, before: list[int]) -> Reply:
    """Ask while it stops: the wish is written at once, and answered when the stop has come to its end."""
    asked = Pending(stage.agent, *_request(operation, name))
    states = {"start": "running", "stop": "stopped", "delete": None}
    wait_for("it is written", lambda: _manifest(stage.site, name) == states[operation])
    wait_for("it goes on", lambda: stage.agent.vm(name).get("status") == "stopping")
    assert stage.site.pids(name) == before
    assert not asked.is_answered
    stage.site.qmp(name, {"execute": "quit"})
    return asked.reply()


def _must_answer(reply: Reply, cell: Cell, name: str) -> None:
    assert reply.status == cell.status, reply.body
    assert reply.body["success"] is (cell.status == 200)
    if cell.status == 200:
        assert reply.body["message"] == cell.says.format(name=name)
        return
    assert reply.code == cell.says
    text = ERRORS[cell.says]
    if cell.reason or cell.says == "MANIFEST_INVALID":
        assert reply.body["error"].startswith(text)
        assert cell.reason in reply.body["error"]
    else:
        assert reply.body["error"] == text


def _must_be_so(site: Site, cell: Cell, name: str, before: list[int]) -> None:
    now = site.pids(name)
    match cell.qemu:
        case Qemu.SAME:
            assert len(now) == 1
            assert now == before
        case Qemu.OTHER:
            assert len(now) == 1
            assert now != before
        case Qemu.NONE:
            assert now == []
    assert _manifest(site, name) == cell.manifest
    disk = site.state / "vms" / name / "root.qcow2"
    aside = list((site.state / "trash").glob(f"{name}-*"))
    assert len(aside) == cell.set_aside
    if cell.set_aside:
        assert not disk.parent.exists()
        assert (aside[0] / "manifest.yaml").exists()
        assert (aside[0] / "root.qcow2").exists()


def _manifest(site: Site, name: str) -> str | None:
    """What `state` the manifest asks for; None where there is no manifest."""
    try:
        text = (site.manifests / f"{name}.yaml").read_text()
    except FileNotFoundError:
        return None
    return str(yaml.safe_load(text)["spec"].get("state", "running"))
