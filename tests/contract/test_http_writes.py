"""Create, restart and delete: to the letter of the page, and honest about what was seen."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest

from reconciler.api import operations
from reconciler.model.errors import ManifestError, PortConflictError, StateError
from reconciler.model.status import ConditionType, Truth, VMState
from reconciler.model.vm import PowerState, Problem, Removal, VMSpec
from tests.contract.http_support import Http, refusal, serving
from tests.contract.memory_controller import Guest, MemoryController, condition, desired

OFF = VMSpec(state=PowerState.STOPPED)
WITH_ISO = VMSpec(iso_path="a.iso", mount_iso=True)


@pytest.fixture
def controller() -> MemoryController:
    return MemoryController(isos={"a.iso", "b.iso"})


@pytest.fixture
def http(controller: MemoryController) -> Iterator[Http]:
    with serving(controller) as client:
        yield client


# ---- create --------------------------------------------------------------------------------------------


def test_a_vm_is_made_as_documented_stopped_and_with_the_documented_defaults(
    controller: MemoryController, http: Http
) -> None:
    reply = http.ask("POST", "/api/vms", {"name": "my-vm", "isoPath": "a.iso", "bootOrder": "cd,hd"})
    assert (reply.status, reply.body["success"], reply.body["message"]) == (201, True, "虚拟机创建成功")
    documented = {"name": "my-vm", "status": "stopped", "memory": 2048, "cpuCores": 2}
    assert reply.body["vm"].items() >= documented.items()
    assert controller.wanted("my-vm") == desired(
        "my-vm", VMSpec(PowerState.STOPPED, vnc_port=5900, iso_path="a.iso", mount_iso=True)
    )


@pytest.mark.parametrize("more", [{"start": True}, {"state": "running"}])
def test_a_vm_may_be_started_with_its_making(http: Http, more: dict[str, object]) -> None:
    reply = http.ask("POST", "/api/vms", {"name": "a", **more})
    assert (reply.status, reply.body["vm"]["status"]) == (201, "running")


def test_a_vm_that_is_made_and_does_not_start_is_no_success(controller: MemoryController, http: Http) -> None:
    controller.guests["a"] = Guest.CANNOT_START
    reply = http.ask("POST", "/api/vms", {"name": "a", "start": True})
    assert refusal(reply) == (400, "VM_START_FAILED", [])
    assert "Could not open 'x.iso'" in reply.body["error"]


def test_what_is_ignored_is_listed(http: Http) -> None:
    reply = http.ask("POST", "/api/vms", {"name": "a", "pid": None, "color": "red", "protect": True})
    assert reply.body["ignoredFields"] == ["pid", "color"]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (None, ["name"]),
        ({}, ["name"]),
        ({"name": "../x"}, ["name"]),
        ({"name": "taken"}, ["name"]),
        ({"name": "a", "isoPath": "missing.iso"}, ["isoPath"]),
        ({"name": "a", "memory": -1, "diskSize": "20"}, ["memory", "diskSize"]),
        ({"name": "a", "start": 1}, ["start"]),
    ],
)
def test_a_vm_that_cannot_be_made_is_refused_with_the_fields(
    controller: MemoryController, http: Http, body: object, fields: list[str]
) -> None:
    controller.has("taken", VMState.STOPPED, OFF)
    assert refusal(http.ask("POST", "/api/vms", body)) == (400, "INVALID_REQUEST_PARAMS", fields)
    assert controller.wanted("a") is None


def test_a_port_that_another_manifest_claims_is_refused(controller: MemoryController, http: Http) -> None:
    controller.edit_errors = [PortConflictError("5900 is named by the manifest of b")]
    reply = http.ask("POST", "/api/vms", {"name": "a", "vncPort": 5900})
    assert refusal(reply) == (400, "INVALID_REQUEST_PARAMS", ["vncPort"])


def test_what_the_manifest_as_a_whole_would_not_allow_is_the_requests_fault(
    controller: MemoryController, http: Http
) -> None:
    controller.edit_errors = [ManifestError((Problem("a.yaml", 9, 3, "spec.mountIso", "found true"),))]
    reply = http.ask("POST", "/api/vms", {"name": "a", "mountIso": True})
    assert refusal(reply) == (400, "INVALID_REQUEST_PARAMS", ["mountIso"])


@pytest.mark.parametrize("path", ["/api/vms", "/api/vms/a", "/api/vms/a/config", "/api/vms/a/restart"])
def test_manifests_on_a_full_file_system_are_the_documented_internal_error(
    controller: MemoryController, http: Http, path: str
) -> None:
    controller.has("a", VMState.RUNNING)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/manifests/a.yaml")
    wrapped = StateError("/state/catalog.json: cannot be written")
    wrapped.__cause__ = full
    method = {"/api/vms/a": "DELETE", "/api/vms/a/config": "PUT"}.get(path, "POST")
    for error in (full, wrapped):
        controller.edit_errors = [error]
        reply = http.ask(method, path, {"name": "b" if path == "/api/vms" else "a", "memory": 64})
        assert refusal(reply) == (500, "INTERNAL_SERVER_ERROR", ["/manifests/a.yaml"])
        assert reply.body["error"] == "服务器内部错误"


# ---- restart -------------------------------------------------------------------------------------------


def test_a_restart_answers_as_documented(controller: MemoryController, http: Http) -> None:
    controller.has("test-vm", VMState.RUNNING)
    reply = http.ask("POST", "/api/vms/test-vm/restart", {"metadata": {"lastPid": 12345}})
    assert reply.status == 200
    assert reply.body == {
        "success": True,
        "message": "虚拟机 test-vm 已成功重启",
        "vm": {
            "name": "test-vm",
            "status": "running",
            "pid": 12346,
            "startTime": "2023-07-15T10:30:00.000Z",
        },
    }
    [(_, changes)] = controller.edits
    assert list(changes) == [("spec", "restartedAt")]


@pytest.mark.parametrize(
    ("state", "spec", "code"),
    [
        (VMState.STOPPED, OFF, "VM_NOT_RUNNING"),
        (VMState.FAILED, VMSpec(), "VM_NOT_RUNNING"),
        (VMState.STOPPING, OFF, "VM_NOT_RUNNING"),
        (VMState.UNKNOWN, VMSpec(), "VM_START_FAILED"),
    ],
)
def test_what_does_not_run_is_not_restarted(
    controller: MemoryController, http: Http, state: VMState, spec: VMSpec, code: str
) -> None:
    controller.has("a", state, spec)
    assert refusal(http.ask("POST", "/api/vms/a/restart")) == (400, code, [])
    assert not controller.edits


def test_a_restart_comes_later_than_one_that_a_clock_ahead_of_ours_asked_for(
    controller: MemoryController, http: Http
) -> None:
    ahead = "2999-01-01T00:00:00.000500Z"
    controller.has("a", VMState.RUNNING, VMSpec(restarted_at=ahead))
    assert http.ask("POST", "/api/vms/a/restart").status == 200
    [(_, changes)] = controller.edits
    assert changes["spec", "restartedAt"] == "2999-01-01T00:00:00.001Z"


def test_a_restart_after_the_end_of_time_is_refused(controller: MemoryController, http: Http) -> None:
    controller.has("a", VMState.RUNNING, VMSpec(restarted_at="9999-12-31T23:59:59.999999Z"))
    reply = http.ask("POST", "/api/vms/a/restart")
    assert refusal(reply) == (400, "INVALID_REQUEST_PARAMS", ["restartedAt"])


@pytest.mark.parametrize("last_pid", ["12345", True, 1.5, []])
@pytest.mark.parametrize(("method", "path"), [("POST", "/api/vms/a/restart"), ("DELETE", "/api/vms/a")])
def test_a_last_pid_of_the_wrong_type_is_refused(
    controller: MemoryController, http: Http, method: str, path: str, last_pid: object
) -> None:
    controller.has("a", VMState.RUNNING)
    reply = http.ask(method, path, {"metadata": {"lastPid": last_pid}})
    assert refusal(reply) == (400, "INVALID_REQUEST_PARAMS", ["metadata.lastPid"])


@pytest.mark.usefixtures("impatient")
def test_a_restart_whose_old_process_stays_is_no_success(controller: MemoryController, http: Http) -> None:
    controller.has("a", VMState.RUNNING)
    controller.guests["a"] = Guest.IGNORES
    reply = http.ask("POST", "/api/vms/a/restart")
    assert refusal(reply) == (400, "VM_START_FAILED", [])
    assert reply.body["settled"] is False


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines of a moment, for VMs that never do what they are told."""
    for name in ("START_TIMEOUT_S", "STOP_GRACE_S", "LIVE_TIMEOUT_S"):
        monkeypatch.setattr(operations, name, 0.3)
    monkeypatch.setattr(operations, "_stop_s", lambda _: 0.3)


# ---- delete --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [None, {}, {"metadata": {"lastPid": 12345}}])
@pytest.mark.parametrize("state", [VMState.RUNNING, VMState.STOPPED, VMState.FAILED, VMState.STOPPING])
def test_a_delete_with_or_without_a_body_answers_as_documented(
    controller: MemoryController, http: Http, body: object, state: VMState
) -> None:
    controller.has("a", state)
    reply = http.ask("DELETE", "/api/vms/a", body)
    assert (reply.status, reply.body) == (200, {"success": True, "message": "虚拟机已成功删除"})
    del controller.manifests["a"]  # the removal that was carried out, which a real catalog forgets
    assert http.ask("GET", "/api/vms/a").body["code"] == "VM_NOT_FOUND"


@pytest.mark.parametrize(("query", "discard"), [("", False), ("?purge=false", False), ("?purge=true", True)])
def test_the_disks_are_deleted_only_where_that_is_asked_for(
    controller: MemoryController, http: Http, query: str, discard: bool
) -> None:
    controller.has("a", VMState.STOPPED, OFF)
    assert http.ask("DELETE", f"/api/vms/a{query}").status == 200
    assert controller.wanted("a") == Removal(desired("a", OFF), discard)


def test_purge_must_be_true_or_false(controller: MemoryController, http: Http) -> None:
    controller.has("a", VMState.STOPPED, OFF)
    reply = http.ask("DELETE", "/api/vms/a?purge=yes")
    assert refusal(reply) == (400, "INVALID_REQUEST_PARAMS", ["purge"])


def test_a_protected_vm_is_not_deleted(controller: MemoryController, http: Http) -> None:
    controller.has("a", VMState.RUNNING, VMSpec(protect=True))
    assert refusal(http.ask("DELETE", "/api/vms/a?purge=true")) == (400, "VM_PROTECTED", [])


def test_a_suspended_vm_is_not_deleted_and_the_reason_is_said(
    controller: MemoryController, http: Http
) -> None:
    controller.has("a", VMState.RUNNING)
    controller.states("a", condition(ConditionType.SUSPENDED, Truth.TRUE, "Suspended", "…"))
    reply = http.ask("DELETE", "/api/vms/a?lang=en")
    assert refusal(reply) == (400, "VM_STOP_FAILED", [])
    assert "spec.suspend" in reply.body["error"]
