"""Every row of the page's table of errors, produced for real: the code, its status, its message."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.calls import Reply, call
from tests.e2e.site import Agent, Site, free_port, wait_for

SMALL: dict[str, object] = {"memory": 32, "shutdown": {"timeoutSeconds": 1}}


def must_be_refused(reply: Reply, status: int, code: str, text: str) -> None:
    """The documented shape; the documented message comes first, a reason may follow."""
    assert reply.status == status, reply.body
    assert reply.headers["content-type"].startswith("application/json")
    assert reply.body["success"] is False
    assert reply.code == code
    assert reply.body["error"].startswith(text)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/vms/nobody/start"),
        ("POST", "/api/vms/nobody/stop"),
        ("POST", "/api/vms/nobody/restart"),
        ("DELETE", "/api/vms/nobody"),
        ("PUT", "/vms/nobody/config"),
        ("PUT", "/api/vms/nobody/config"),
        ("POST", "/api/vms/nobody/toggleMountIso"),
        ("POST", "/api/novnc/nobody"),
    ],
)
@pytest.mark.xdist_group("page-errors")
def test_vm_not_found(idle: Agent, method: str, path: str) -> None:
    body = {"mountStatus": True} if path.endswith("Iso") else {}
    must_be_refused(call(idle, method, path, body), 404, "VM_NOT_FOUND", "虚拟机不存在")


def test_vm_already_running(site: Site) -> None:
    agent = site.agent()
    site.write("web", **SMALL)
    agent.wait_status("web", "running")
    must_be_refused(call(agent, "POST", "/api/vms/web/start"), 400, "VM_ALREADY_RUNNING", "虚拟机已在运行")


@pytest.mark.xdist_group("page-errors")
def test_vm_already_stopped(idle: Agent) -> None:
    must_be_refused(call(idle, "POST", "/api/vms/off/stop"), 400, "VM_ALREADY_STOPPED", "虚拟机已停止")


@pytest.mark.parametrize("path", ["/api/vms/off/restart", "/api/novnc/off"])
@pytest.mark.xdist_group("page-errors")
def test_vm_not_running(idle: Agent, path: str) -> None:
    must_be_refused(call(idle, "POST", path), 400, "VM_NOT_RUNNING", "虚拟机未运行")


@pytest.mark.parametrize(
    ("method", "path", "body", "fields"),
    [
        ("POST", "/api/vms", {}, {"name"}),
        ("POST", "/api/vms", {"name": "../x"}, {"name"}),
        ("POST", "/api/vms", {"name": "off"}, {"name"}),
        ("POST", "/api/vms", {"name": "new", "memory": "2048"}, {"memory"}),
        ("POST", "/api/vms", {"name": "new", "memory": -1, "cpuCores": 0}, {"memory", "cpuCores"}),
        ("POST", "/api/vms", {"name": "new", "networkType": "wifi"}, {"networkType"}),
        ("POST", "/api/vms", {"name": "new", "vncPort": 80}, {"vncPort"}),
        ("POST", "/api/vms", {"name": "new", "bootOrder": "tape"}, {"bootOrder"}),
        ("POST", "/api/vms", {"name": "new", "isoPath": "/etc/passwd"}, {"isoPath"}),
        ("POST", "/api/vms", {"name": "new", "isoPath": "missing.iso"}, {"isoPath"}),
        ("POST", "/api/vms", {"name": "new", "start": "yes"}, {"start"}),
        ("POST", "/api/vms", "{", {""}),
        ("POST", "/api/vms", "[]", {""}),
        ("POST", "/api/vms/off/stop", {"force": 1}, {"force"}),
        ("POST", "/api/vms/off/restart", {"metadata": {"lastPid": "1"}}, {"metadata.lastPid"}),
        ("DELETE", "/api/vms/off", {"metadata": 1}, {"metadata"}),
        ("PUT", "/vms/off/config", {"memory": True}, {"memory"}),
        ("PUT", "/vms/off/config", {"name": "other"}, {"name"}),
        ("PUT", "/vms/off/config", {"isoPath": "/etc/passwd"}, {"isoPath"}),
        ("POST", "/api/vms/off/toggleMountIso", {}, {"mountStatus"}),
        ("POST", "/api/vms/off/toggleMountIso", {"mountStatus": "true"}, {"mountStatus"}),
        ("POST", "/api/vms/off/toggleMountIso", {"mountStatus": True}, {"isoPath"}),
        ("POST", "/api/novnc", {"webPort": 80}, {"webPort"}),
        ("POST", "/api/novnc", {"vncPort": "5900"}, {"vncPort"}),
        ("POST", "/api/novnc/off", {"vncPort": 5899}, {"vncPort"}),
    ],
)
@pytest.mark.xdist_group("page-errors")
def test_invalid_request_params(idle: Agent, method: str, path: str, body: object, fields: set[str]) -> None:
    """Each answer names the field; nothing is written."""
    reply = call(idle, method, path, body)
    must_be_refused(reply, 400, "INVALID_REQUEST_PARAMS", "无效的请求参数")
    assert reply.fields == fields
    assert all(detail["message"] for detail in reply.body["details"])
    assert [vm["name"] for vm in call(idle, "GET", "/api/vms").body["vms"]] == ["off"]


def test_a_vnc_port_that_another_vm_claims_is_an_invalid_parameter(site: Site) -> None:
    claimed = free_port()
    site.write("off", state="stopped", vncPort=claimed)
    agent = site.agent()
    reply = call(agent, "POST", "/api/vms", {"name": "new", "vncPort": claimed})
    must_be_refused(reply, 400, "INVALID_REQUEST_PARAMS", "无效的请求参数")
    assert reply.fields == {"vncPort"}
    assert "off" in str(reply.body["details"])


def test_novnc_start_failed(site: Site) -> None:
    """A stranger has the web port."""
    agent = site.agent()
    site.write("web", **SMALL)
    agent.wait_status("web", "running")
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", free_port()))
        stranger.listen()
        port = stranger.getsockname()[1]
        for path in ("/api/novnc/web", "/api/novnc"):
            reply = call(agent, "POST", path, {"webPort": port})
            must_be_refused(reply, 400, "NOVNC_START_FAILED", "NoVNC 启动失败")
            assert str(port) in reply.body["error"]
    assert call(agent, "POST", "/api/novnc/web", {"webPort": port}).status == 200


def _full(directory: Path) -> None:
    """Fill a file system to its last byte."""
    with (directory / ".filler").open("wb", buffering=0) as filler:
        for size in (4096, 512, 1):
            try:
                while True:
                    filler.write(b"\0" * size)
            except OSError:
                continue


@pytest.fixture
def full_site(site: Site) -> Iterator[Site]:
    """A site whose manifests lie on a file system of their own, small enough to be filled."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs", str(site.manifests)]
    made = subprocess.run(mount, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    yield site
    subprocess.run(["umount", "--lazy", str(site.manifests)], check=True)


def _create(agent: Agent) -> Reply:
    return call(agent, "POST", "/api/vms", {"name": "new", "memory": 32})


def _start(agent: Agent) -> Reply:
    return call(agent, "POST", "/api/vms/web/start")


def _configure(agent: Agent) -> Reply:
    return call(agent, "PUT", "/vms/web/config", {"memory": 48})


@pytest.mark.parametrize("write", [_create, _start, _configure])
def test_internal_server_error(full_site: Site, write: Callable[[Agent], Reply]) -> None:
    """The manifests' file system is full: nothing is changed or started, the answer says what is wrong, and no more."""
    path = full_site.manifests / "web.yaml"
    text = full_site.text("web", **SMALL, state="stopped")
    path.write_text(text)
    agent = full_site.agent()
    agent.wait_status("web", "stopped")
    _full(full_site.manifests)
    reply = write(agent)
    must_be_refused(reply, 500, "INTERNAL_SERVER_ERROR", "服务器内部错误")
    assert "No space left" in str(reply.body["details"])
    assert "Traceback" not in str(reply.body)
    assert path.read_text() == text
    assert [p.name for p in full_site.manifests.iterdir() if p.suffix == ".yaml"] == ["web.yaml"]
    assert agent.vm("web")["status"] == "stopped"
    (full_site.manifests / ".filler").unlink()
    wait_for("all goes on", lambda: write(agent).status in {200, 201})


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """An agent with one VM, `off`, that nothing here starts or changes."""
    site = Site(tmp_path_factory.mktemp("idle"))
    site.write("off", **SMALL, state="stopped")
    agent = site.agent()
    yield agent
    site.close()
