"""Every JSON example of the documented page: its request, exactly, and an answer with all its names, types and formats.

The messages are the page's to the letter. What an answer has beyond the page is no concern here.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import tiny
from tests.e2e.calls import Reply, call
from tests.e2e.site import Agent, Site, free_port, wait_for

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
SMALL: dict[str, Any] = {"memory": 64, "shutdown": {"timeoutSeconds": 1}}
LAST_PID = '{"metadata": {"lastPid": 12345}}'
CONFIG = """{
  "memory": 2048,
  "cpuCores": 2,
  "diskSize": 20,
  "networkType": "user",
  "vncPort": 5900,
  "bootOrder": "cd,hd",
  "isoPath": "/path/to/image.iso"
}"""


def must_be_like(answer: Any, example: Any, where: str = "answer") -> None:
    """Every name of the example is in the answer, with a value of the same JSON type; of a list, in each item."""
    assert type(answer) is type(example), f"{where}: {answer!r} is not like {example!r}"
    if isinstance(example, dict):
        for name, value in example.items():
            assert name in answer, f"{where}.{name} is missing"
            must_be_like(answer[name], value, f"{where}.{name}")
    if isinstance(example, list):
        assert answer, f"{where} is empty"
        for item in answer:
            must_be_like(item, example[0], f"{where}[]")


def must_answer(reply: Reply, example: str, status: int = 200) -> None:
    """The status, the example's names and types, `success` and `message` as they stand there."""
    shown = json.loads(example)
    assert reply.status == status, reply.body
    assert reply.headers["content-type"].startswith("application/json")
    must_be_like(reply.body, shown)
    assert reply.body["success"] is True
    if "message" in shown:
        assert reply.body["message"] == shown["message"]


def must_be_now(text: str) -> None:
    """An ISO 8601 time in UTC with milliseconds, and not long ago."""
    assert TIME.fullmatch(text)
    assert abs(datetime.now(UTC) - datetime.fromisoformat(text)) < timedelta(minutes=2)


@pytest.fixture
def image(site: Site) -> Path:
    """The ISO of the examples, where such files are allowed to be: below one of `isoRoots`."""
    path = site.root / "path" / "to" / "image.iso"
    path.parent.mkdir(parents=True)
    tiny.path(site).rename(path)
    return path


def start_agent(site: Site) -> Agent:
    return site.agent(isoRoots=[str(site.root / "path")])


def runs(site: Site, agent: Agent, name: str = "test-vm", **spec: object) -> int:
    site.write(name, **{**SMALL, **spec})
    agent.wait_status(name, "running")
    return site.pid(name)


def test_get_vms(site: Site) -> None:
    agent = start_agent(site)
    pid = runs(site, agent, memory=64, cpuCores=2, diskSize=3)
    reply = call(agent, "GET", "/api/vms")
    must_answer(
        reply,
        """{"success": true, "vms": [{
          "name": "test-vm", "status": "running", "pid": 12345, "memory": 2048, "cpuCores": 2,
          "diskSize": 20, "vncPort": 5900, "startTime": "2023-07-15T10:30:00.000Z"}]}""",
    )
    (vm,) = reply.body["vms"]
    assert (vm["name"], vm["status"], vm["pid"]) == ("test-vm", "running", pid)
    assert (vm["memory"], vm["cpuCores"], vm["diskSize"]) == (64, 2, 3)
    must_be_now(vm["startTime"])


def test_post_vms(site: Site, image: Path) -> None:
    agent = start_agent(site)
    body = """{
      "name": "my-vm",
      "memory": 2048,
      "cpuCores": 2,
      "diskSize": 20,
      "networkType": "user",
      "vncPort": 5900,
      "bootOrder": "cd,hd",
      "isoPath": "/path/to/image.iso"
    }""".replace("/path/to/image.iso", str(image))
    reply = call(agent, "POST", "/api/vms", body)
    example = """{"success": true, "message": "虚拟机创建成功",
      "vm": {"name": "my-vm", "status": "stopped", "memory": 2048, "cpuCores": 2}}"""
    must_answer(reply, example, 201)
    expected = json.loads(example)["vm"]
    assert {name: reply.body["vm"][name] for name in expected} == expected
    assert reply.body["ignoredFields"] == []
    written = {name: agent.vm("my-vm")["config"][name] for name in json.loads(CONFIG)}
    assert written == {**json.loads(CONFIG), "isoPath": str(image)}


def test_post_vms_with_a_name_alone_takes_the_documented_defaults(site: Site) -> None:
    agent = start_agent(site)
    reply = call(agent, "POST", "/api/vms", {"name": "my-vm"})
    assert reply.status == 201
    config = agent.vm("my-vm")["config"]
    assert (config["memory"], config["cpuCores"], config["diskSize"]) == (2048, 2, 20)
    assert config["networkType"] == "user"
    assert config["vncPort"] >= 5900
    assert f"vncPort: {config['vncPort']}" in (site.manifests / "my-vm.yaml").read_text()


def test_start_stop_restart_and_delete(site: Site) -> None:
    agent = start_agent(site)
    site.write("test-vm", **SMALL, state="stopped")
    agent.wait_status("test-vm", "stopped")

    started = call(agent, "POST", "/api/vms/test-vm/start")
    must_answer(
        started,
        """{"success": true, "message": "虚拟机启动成功",
          "vm": {"name": "test-vm", "status": "running", "pid": 12345}}""",
    )
    first = site.pid("test-vm")
    assert started.body["vm"] == {"name": "test-vm", "status": "running", "pid": first}

    restarted = call(agent, "POST", "/api/vms/test-vm/restart", LAST_PID)
    must_answer(
        restarted,
        """{"success": true, "message": "虚拟机 test-vm 已成功重启", "vm": {
          "name": "test-vm", "status": "running", "pid": 12346, "startTime": "2023-07-15T10:30:00.000Z"}}""",
    )
    second = site.pid("test-vm")
    assert second != first
    assert restarted.body["vm"]["pid"] == second
    must_be_now(restarted.body["vm"]["startTime"])

    stopped = call(agent, "POST", "/api/vms/test-vm/stop")
    must_answer(stopped, '{"success": true, "message": "虚拟机停止成功"}')
    assert site.pids("test-vm") == []
    assert call(agent, "GET", "/api/vms/test-vm").body["vm"]["startTime"] is None

    deleted = call(agent, "DELETE", "/api/vms/test-vm", LAST_PID)
    must_answer(deleted, '{"success": true, "message": "虚拟机已成功删除"}')
    assert call(agent, "GET", "/api/vms").body["vms"] == []
    assert not (site.manifests / "test-vm.yaml").exists()


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_put_config(site: Site, image: Path, prefix: str) -> None:
    agent = start_agent(site)
    runs(site, agent, memory=64)
    reply = call(
        agent, "PUT", f"{prefix}/vms/test-vm/config", CONFIG.replace("/path/to/image.iso", str(image))
    )
    must_answer(
        reply,
        '{"success": true, "message": "虚拟机 test-vm 配置已更新", "requiresRestart": true, "config": '
        + CONFIG
        + "}",
    )
    assert reply.body["requiresRestart"] is True
    assert reply.body["config"] == {**json.loads(CONFIG), "isoPath": str(image)}


@pytest.mark.parametrize("is_running", [True, False])
def test_toggle_mount_iso(site: Site, image: Path, is_running: bool) -> None:
    agent = start_agent(site)
    site.write("test-vm", **SMALL, state="running" if is_running else "stopped", isoPath=str(image))
    agent.wait_status("test-vm", "running" if is_running else "stopped")
    example = """{"success": true, "message": "ISO successfully %s VM 'test-vm'",
      "vm": {"name": "test-vm", "isMountIso": true}}"""
    for status, words in ((False, "unmounted from"), (True, "mounted to")):
        body = '{"mountStatus": %s}' % json.dumps(status)  # noqa: UP031 - braces
        reply = call(agent, "POST", "/api/vms/test-vm/toggleMountIso", body)
        must_answer(reply, example % words)
        assert reply.body["vm"] == {"name": "test-vm", "isMountIso": status}
        assert agent.vm("test-vm")["isMountIso"] is status
        if is_running:
            assert _medium(site) == ({str(image)} if status else set())


def _medium(site: Site) -> set[str]:
    """The ISOs that QEMU has open."""
    files = Path(f"/proc/{site.pid('test-vm')}/fd").iterdir()
    return {str(target) for fd in files if (target := fd.readlink()).suffix == ".iso"}


@pytest.mark.parametrize("path", ["/api/novnc/test-vm", "/api/novnc"])
def test_post_novnc(site: Site, path: str) -> None:
    """The page's own ports, 5900 and 6080, are those of the page's client: see test_page_client."""
    agent = start_agent(site)
    runs(site, agent)
    vnc, web = agent.vm("test-vm")["vncPort"], free_port()
    host = agent.url.removeprefix("http://127.0.0.1")
    reply = call(agent, "POST", path, {"vncPort": vnc, "webPort": web}, {"Host": f"localhost{host}"})
    must_answer(
        reply,
        """{"success": true,
          "url": "http://localhost:6080/vnc.html?host=localhost&port=6080&path=websockify/?token=vm1",
          "vncPort": 5900, "webPort": 6080, "token": "vm1", "pid": 12345}""",
    )
    answer = reply.body
    assert (answer["vncPort"], answer["webPort"]) == (vnc, web)
    query = f"host=localhost&port={web}&path=websockify/?token={answer['token']}"
    assert answer["url"] == f"http://localhost:{web}/vnc.html?{query}"
    assert f"--port\0{web}\0" in Path(f"/proc/{answer['pid']}/cmdline").read_text()


def test_post_novnc_without_a_body_starts_the_service_alone(site: Site) -> None:
    agent = start_agent(site)
    reply = call(agent, "POST", "/api/novnc", {"webPort": free_port()})
    assert reply.status == 200
    assert isinstance(reply.body["pid"], int)
    assert reply.body["url"].startswith(agent.url)


def test_a_vm_that_is_off_has_no_pid_and_no_start_time(site: Site) -> None:
    agent = start_agent(site)
    site.write("test-vm", **SMALL, state="stopped")
    agent.wait_status("test-vm", "stopped")
    wait_for("it is listed", lambda: call(agent, "GET", "/api/vms").body["vms"])
    (vm,) = call(agent, "GET", "/api/vms").body["vms"]
    assert (vm["pid"], vm["startTime"], vm["status"]) == (None, None, "stopped")
