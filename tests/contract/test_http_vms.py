"""What the API shows of VMs, field by field as documented."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from reconciler.model.observed import Exit, ExitKind
from reconciler.model.plan import PendingChange
from reconciler.model.status import ConditionType, Truth, VMState
from reconciler.model.vm import PortForward, Problem, VMSpec
from tests.contract.http_support import Http, serving
from tests.contract.memory_controller import UTC, MemoryController, condition

DOCUMENTED = {"name", "status", "pid", "memory", "cpuCores", "diskSize", "vncPort", "startTime"}
CONFIG = {"memory", "cpuCores", "diskSize", "networkType", "vncPort", "bootOrder", "isoPath"}


@pytest.fixture
def controller() -> MemoryController:
    return MemoryController()


@pytest.fixture
def http(controller: MemoryController) -> Iterator[Http]:
    with serving(controller) as client:
        yield client


def test_a_running_vm_has_the_documented_fields_flat(controller: MemoryController, http: Http) -> None:
    controller.has("test-vm", VMState.RUNNING, VMSpec(iso_path="d.iso", mount_iso=True), tier="web")
    reply = http.ask("GET", "/api/vms")
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/json"
    (vm,) = reply.body["vms"]
    assert {key: vm[key] for key in DOCUMENTED} == {
        "name": "test-vm",
        "status": "running",
        "pid": 12345,
        "memory": 2048,
        "cpuCores": 2,
        "diskSize": 20,
        "vncPort": 5900,
        "startTime": "2023-07-15T10:30:00.000Z",
    }
    assert vm["desiredState"] == "running"
    assert vm["networkType"] == "user"
    assert vm["bootOrder"] == "cd,hd"
    assert vm["isoPath"] == "d.iso"
    assert vm["labels"] == {"tier": "web"}
    assert vm["config"].keys() == CONFIG
    assert vm["metadata"] == {"lastPid": 12345, "isMountIso": False}
    assert vm["requiresRestart"] is False


def test_a_stopped_vm_has_no_pid_and_no_start_time(controller: MemoryController, http: Http) -> None:
    controller.has("off", VMState.STOPPED, VMSpec(iso_path="d.iso", mount_iso=True))
    (vm,) = http.ask("GET", "/api/vms").body["vms"]
    assert vm["pid"] is None
    assert vm["startTime"] is None
    assert vm["isMountIso"] is True, "what the next start will do"


def test_a_vm_that_runs_without_a_manifest_is_shown_with_what_is_known(
    controller: MemoryController, http: Http
) -> None:
    controller.shows("stray", VMState.RUNNING)
    (vm,) = http.ask("GET", "/api/vms").body["vms"]
    assert (vm["name"], vm["status"], vm["pid"]) == ("stray", "running", 12345)
    assert vm["memory"] is None
    assert vm["desiredState"] is None
    assert http.ask("GET", "/api/vms/stray").body["vm"]["source"] is None


def test_what_neither_runs_nor_has_a_manifest_is_not_shown(controller: MemoryController, http: Http) -> None:
    controller.shows("gone", VMState.STOPPED)
    assert http.ask("GET", "/api/vms").body["vms"] == []
    assert http.ask("GET", "/api/vms/gone").status == 404


def test_a_change_shows_in_the_next_list(controller: MemoryController, http: Http) -> None:
    status = controller.has("a", VMState.RUNNING)
    assert http.ask("GET", "/api/vms").body["vms"][0]["requiresRestart"] is False
    controller.board.publish(replace(status, pending=(PendingChange("memory", "2048", "4096"),)))
    assert http.ask("GET", "/api/vms").body["vms"][0]["requiresRestart"] is True


def test_problems_and_held_removals_stand_on_the_top_level(controller: MemoryController, http: Http) -> None:
    controller.found = (Problem("web.yaml", 7, 3, "spec.memory", "found x"),)
    controller.waiting = {"b", "a"}
    body = http.ask("GET", "/api/vms").body
    assert body["success"] is True
    assert body["held"] == ["a", "b"]
    assert body["problems"] == [
        {"file": "web.yaml", "line": 7, "column": 3, "field": "spec.memory", "message": "found x"}
    ]


def test_one_vm_comes_with_the_facts_behind_it(controller: MemoryController, http: Http) -> None:
    status = controller.has("a", VMState.FAILED)
    end = Exit(ExitKind.CRASHED, "g1", "signal 11", UTC, 1.0, "boot", "20260101T000000.000Z")
    ready = condition(ConditionType.READY, Truth.FALSE, "Crashed", "signal 11")
    controller.board.publish(
        replace(
            status,
            last_exit=end,
            failures=3,
            next_try_in_s=20.0,
            pending=(PendingChange("memory", "2048", "4096"),),
            conditions=(ready,),
            plan="Launch(g1) because …",
        )
    )
    vm = http.ask("GET", "/api/vms/a").body["vm"]
    assert vm["lastExit"] == {
        "kind": "Crashed",
        "message": "signal 11",
        "time": UTC,
        "generation": "g1",
        "crashBundle": "crashes/20260101T000000.000Z",
    }
    assert vm["pending"] == [{"field": "memory", "running": "2048", "wanted": "4096", "why": None}]
    assert (vm["failures"], vm["nextTryInSeconds"], vm["plan"]) == (3, 20.0, "Launch(g1) because …")
    assert vm["source"] == {"file": "/manifests/a.yaml", "line": 3, "column": 1}
    assert (vm["uuid"], vm["generation"], vm["observedGeneration"]) == ("6f0e", "g1", "g1")
    assert vm["conditions"] == [
        {
            "type": "Ready",
            "status": "False",
            "reason": "Crashed",
            "message": "signal 11",
            "lastTransitionTime": UTC,
        }
    ]


@pytest.mark.parametrize("name", ["nope", "..", "%2e%2e", "a%00b", "-x", "x" * 64, "%E8%99%9A", "a%0Ab"])
@pytest.mark.parametrize(("method", "operation"), [("GET", ""), ("POST", "/start"), ("POST", "/stop")])
def test_a_name_that_no_vm_has_or_could_have_is_not_found(
    http: Http, method: str, operation: str, name: str
) -> None:
    reply = http.ask(method, f"/api/vms/{name}{operation}")
    assert reply.status == 404
    assert reply.body == {"success": False, "error": "虚拟机不存在", "code": "VM_NOT_FOUND"}


def test_a_vm_whose_only_file_is_broken_is_answered_with_the_place(
    controller: MemoryController, http: Http
) -> None:
    controller.found = (Problem("sub/web.yaml", 7, 3, "spec.memory", "found x, expected y"),)
    reply = http.ask("POST", "/api/vms/web/start")
    assert (reply.status, reply.body["code"]) == (400, "MANIFEST_INVALID")
    assert reply.body["error"] == "虚拟机的清单文件无效: sub/web.yaml:7:3: spec.memory: found x, expected y"
    assert reply.body["details"][0]["field"] == "spec.memory"


def test_unknown_paths_and_methods_answer_in_the_same_shape(http: Http) -> None:
    nowhere = http.ask("GET", "/api/nowhere")
    assert (nowhere.status, nowhere.body["success"], nowhere.body["code"]) == (404, False, "NOT_FOUND")
    wrong = http.ask("DELETE", "/api/vms")
    assert (wrong.status, wrong.body["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert "GET" in wrong.headers["Allow"]


def test_what_was_not_foreseen_is_a_500_without_a_traceback_and_logged_with_its_id(
    controller: MemoryController, http: Http, caplog: pytest.LogCaptureFixture
) -> None:
    controller.broken = RuntimeError("the secret inside")
    reply = http.ask("GET", "/api/vms", headers={"X-Request-Id": "from-me.1"})
    assert reply.status == 500
    assert reply.body == {"success": False, "error": "服务器内部错误", "code": "INTERNAL_SERVER_ERROR"}
    assert reply.headers["X-Request-Id"] == "from-me.1"
    record = next(r for r in caplog.records if r.exc_info)
    assert "from-me.1" in record.getMessage()


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "-x", "ü"])
def test_a_request_id_that_may_not_stand_in_a_log_is_replaced(http: Http, given: str) -> None:
    sent = given.encode("latin-1").decode("latin-1")
    answered = http.ask("GET", "/healthz", headers={"X-Request-Id": sent}).headers["X-Request-Id"]
    assert answered != given
    assert len(answered) == 16


def test_health_and_readiness(controller: MemoryController, http: Http) -> None:
    assert http.ask("GET", "/healthz").status == 200
    assert http.ask("GET", "/readyz").status == 200
    controller.is_ready = False
    assert http.ask("GET", "/healthz").status == 200
    reply = http.ask("GET", "/readyz")
    assert (reply.status, reply.body["code"]) == (503, "NOT_READY")


@pytest.mark.parametrize(
    ("path", "headers", "message"),
    [
        ("/api/vms/x", {}, "虚拟机不存在"),
        ("/api/vms/x?lang=en", {}, "There is no VM of this name"),
        ("/api/vms/x", {"X-Language": "en"}, "There is no VM of this name"),
        ("/api/vms/x", {"Accept-Language": "en"}, "虚拟机不存在"),
        ("/api/vms/x?lang=tlh", {}, "虚拟机不存在"),
    ],
)
def test_the_language_is_asked_for_explicitly(
    http: Http, path: str, headers: dict[str, str], message: str
) -> None:
    reply = http.ask("GET", path, headers=headers)
    assert (reply.body["error"], reply.body["code"]) == (message, "VM_NOT_FOUND")


def test_the_setting_makes_english_the_default_and_a_request_can_ask_for_chinese() -> None:
    with serving(MemoryController(), language="en") as http:
        assert http.ask("GET", "/api/vms/x").body["error"] == "There is no VM of this name"
        assert http.ask("GET", "/api/vms/x?lang=zh").body["error"] == "虚拟机不存在"


def test_pages_of_a_guest_behind_a_port_forward_are_refused_as_soon_as_the_forward_exists(
    controller: MemoryController, http: Http
) -> None:
    origin = {"Origin": "http://localhost:8080"}
    assert http.ask("GET", "/api/vms", headers=origin).status == 200
    controller.has("web", VMState.RUNNING, VMSpec(port_forwards=(PortForward(8080, 80),)))
    assert http.ask("GET", "/api/vms", headers=origin).status == 403
