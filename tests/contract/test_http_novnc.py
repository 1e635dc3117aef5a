"""`/api/novnc` to the letter of the documented page, and the page of consoles."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from reconciler.api.server import build
from reconciler.model.errors import ConsoleError
from reconciler.model.status import VMState
from tests.contract.http_support import SETTINGS, Http, backend_of
from tests.contract.memory_consoles import MemoryConsoles
from tests.contract.memory_controller import MemoryController


@dataclass(frozen=True)
class Api:
    """An API with consoles in memory."""

    http: Http
    controller: MemoryController
    consoles: MemoryConsoles

    def has(self, name: str, state: VMState, vnc_port: int) -> None:
        status = self.controller.has(name, state)
        self.controller.board.publish(replace(status, vnc_port=vnc_port))


@pytest.fixture(params=["open"])
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Api]:
    token = tmp_path / "token"
    token.write_text("s3cret")
    controller, consoles = MemoryController(), MemoryConsoles()
    settings = replace(SETTINGS, token_file=token if request.param == "guarded" else None)
    server = build(backend_of(controller, consoles=consoles), settings)
    server.start()
    api = Api(Http(server.address), controller, consoles)
    api.has("web", VMState.RUNNING, 5901)
    api.has("off", VMState.STOPPED, 5902)
    try:
        yield api
    finally:
        server.close()


def test_the_documented_request_gets_the_documented_answer(api: Api) -> None:
    reply = api.http.ask("POST", "/api/novnc/web", {"vncPort": 5901, "webPort": 6081}, {"Host": "localhost"})
    assert reply.status == 200
    assert reply.body == {
        "success": True,
        "url": "http://localhost:6081/vnc.html?host=localhost&port=6081&path=websockify/?token=token1",
        "vncPort": 5901,
        "webPort": 6081,
        "token": "token1",
        "pid": 4711,
    }
    assert api.consoles.granted == ["web"]


@pytest.mark.parametrize("body", [None, {}, {"vncPort": None, "webPort": ""}, {"vncPort": 0, "webPort": 0}])
def test_both_ports_may_be_left_out(api: Api, body: object) -> None:
    for path in ("/api/novnc/web", "/api/novnc/web/"):
        reply = api.http.ask("POST", path, body)
        assert (reply.status, reply.body["vncPort"], reply.body["webPort"]) == (200, 5901, 6080)


@pytest.mark.parametrize(
    ("host", "written"),
    [
        ("localhost:3000", "localhost"),
        ("127.0.0.1:3000", "127.0.0.1"),
        ("[::1]:3000", "[::1]"),
        ("LocalHost", "localhost"),
    ],
)
def test_the_url_has_the_host_by_which_the_request_came(api: Api, host: str, written: str) -> None:
    url = api.http.ask("POST", "/api/novnc/web", {}, {"Host": host}).body["url"]
    assert url.startswith(f"http://{written}:6080/vnc.html?host={written}&port=6080&path=websockify/?token=")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"vncPort": 5902}, "vncPort"),
        ({"vncPort": "5901"}, "vncPort"),
        ({"vncPort": True}, "vncPort"),
        ({"vncPort": False}, "vncPort"),
        ({"vncPort": -1}, "vncPort"),
        ({"vncPort": 65536}, "vncPort"),
        ({"vncPort": 5901.5}, "vncPort"),
        ({"webPort": 80}, "webPort"),
        ({"webPort": 1023}, "webPort"),
        ({"webPort": 65536}, "webPort"),
        ({"webPort": "6080"}, "webPort"),
        ({"webPort": [6080]}, "webPort"),
    ],
)
def test_a_wrong_port_is_named(api: Api, body: dict[str, object], field: str) -> None:
    for path in ("/api/novnc/web", "/api/novnc"):
        if path == "/api/novnc" and body == {"vncPort": 5902}:
            continue
        reply = api.http.ask("POST", path, body)
        assert (reply.status, reply.body["code"]) == (400, "INVALID_REQUEST_PARAMS")
        assert reply.body["details"][0]["field"] == field
    assert api.consoles.granted == []


@pytest.mark.parametrize("name", ["nobody", "..", "a%00b", "-x"])
def test_a_vm_that_is_none_is_not_found(api: Api, name: str) -> None:
    reply = api.http.ask("POST", f"/api/novnc/{name}", {"vncPort": 5900, "webPort": 6080})
    assert (reply.status, reply.body["code"], reply.body["error"]) == (404, "VM_NOT_FOUND", "虚拟机不存在")


def test_a_vm_that_does_not_run_has_no_console(api: Api) -> None:
    for path, body in (("/api/novnc/off", {}), ("/api/novnc", {"vncPort": 5902})):
        reply = api.http.ask("POST", path, body)
        assert (reply.status, reply.body["code"], reply.body["error"]) == (
            400,
            "VM_NOT_RUNNING",
            "虚拟机未运行",
        )


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (VMState.PAUSED, 200),
        (VMState.STOPPING, 200),
        (VMState.UNKNOWN, 400),
        (VMState.STARTING, 400),
        (VMState.FAILED, 400),
    ],
)
def test_a_console_needs_a_qemu_that_was_seen(api: Api, state: VMState, status: int) -> None:
    api.has("vm", state, 5910)
    assert api.http.ask("POST", "/api/novnc/vm").status == status


def test_a_service_that_cannot_start_is_told_with_its_reason(api: Api) -> None:
    api.consoles.broken = ConsoleError("port 6080 is taken by another program")
    for path in ("/api/novnc/web", "/api/novnc"):
        reply = api.http.ask("POST", path)
        assert (reply.status, reply.body["code"]) == (400, "NOVNC_START_FAILED")
        assert reply.body["error"] == "NoVNC 启动失败: port 6080 is taken by another program"


def test_without_a_vm_it_leads_to_the_page_of_consoles(api: Api) -> None:
    reply = api.http.ask("POST", "/api/novnc", {"webPort": 6090}, {"Host": f"localhost:{api.http.port}"})
    assert reply.body == {
        "success": True,
        "url": f"http://localhost:{api.http.port}/consoles?webPort=6090",
        "vncPort": None,
        "webPort": 6090,
        "token": None,
        "pid": 4711,
    }


def test_with_a_vms_port_it_answers_as_for_that_vm(api: Api) -> None:
    reply = api.http.ask("POST", "/api/novnc", {"vncPort": 5901})
    assert (reply.body["vncPort"], reply.body["token"]) == (5901, "token1")
    assert api.consoles.granted == ["web"]
    unknown = api.http.ask("POST", "/api/novnc", {"vncPort": 5999})
    assert (unknown.status, unknown.body["details"][0]["field"]) == (400, "vncPort")


@pytest.mark.parametrize("api", ["open", "guarded"], indirect=True)
def test_the_page_of_consoles_is_whole_and_needs_no_token_itself(api: Api) -> None:
    files = {"/consoles": "text/html"}
    for _ in range(2):
        for path, kind in list(files.items()):
            with closing(http.client.HTTPConnection("127.0.0.1", api.http.port, timeout=30)) as connection:
                connection.request("GET", path)
                answer = connection.getresponse()
                text = answer.read().decode()
            assert answer.status == 200, path
            assert (answer.getheader("Content-Type") or "").startswith(kind)
            policy = answer.getheader("Content-Security-Policy") or ""
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            named = re.findall(r"(?:src|href)=\"(/[^\"]+)\"|from \"\./([^\"]+)\"", text)
            files |= {each or f"/consoles/{file}": "" for each, file in named}
    assert {"/consoles/consoles.js", "/consoles/words.js", "/consoles/page.css"} <= set(files)


@pytest.mark.parametrize("api", ["guarded"], indirect=True)
def test_a_console_needs_the_apis_token(api: Api) -> None:
    assert api.http.ask("POST", "/api/novnc/web").status == 401
    assert api.http.ask("POST", "/api/novnc/web", headers={"Authorization": "Bearer s3cret"}).status == 200


def test_who_types_the_address_alone_finds_the_page_of_consoles(api: Api) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", api.http.port, timeout=30)) as connection:
        connection.request("GET", "/")
        answer = connection.getresponse()
    assert (answer.status, answer.headers["Location"]) == (302, "/consoles")
