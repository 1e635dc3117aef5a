"""Start and stop in every state, to the letter of the documented answers; only what was seen is claimed."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from reconciler.api import operations, writing
from reconciler.model.errors import ConflictError, ManifestError, StateError
from reconciler.model.plan import Wish
from reconciler.model.status import ConditionType, Truth, VMState
from reconciler.model.vm import PowerState, Problem, Removal, Shutdown, VMSpec
from tests.contract.http_support import Http, serving
from tests.contract.memory_controller import Guest, MemoryController, condition, desired

OFF = VMSpec(state=PowerState.STOPPED)
STATE = ("spec", "state")


@pytest.fixture
def controller() -> MemoryController:
    return MemoryController()


@pytest.fixture
def http(controller: MemoryController) -> Iterator[Http]:
    with serving(controller) as client:
        yield client


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines of a moment, for VMs that never do what they are told."""
    monkeypatch.setattr(operations, "START_TIMEOUT_S", 0.3)
    monkeypatch.setattr(operations, "STOP_GRACE_S", 0.3)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little patience with manifests that are not read."""
    monkeypatch.setattr(writing, "READ_ATTEMPTS", 10)
    monkeypatch.setattr(writing, "READ_PAUSE_S", 0.01)


def test_a_start_without_body_and_content_type_answers_as_documented(
    controller: MemoryController, http: Http
) -> None:
    controller.has("test-vm", VMState.STOPPED, OFF)
    reply = http.ask("POST", "/api/vms/test-vm/start")
    assert reply.status == 200
    assert reply.body == {
        "success": True,
        "message": "虚拟机启动成功",
        "vm": {"name": "test-vm", "status": "running", "pid": 12346},
    }
    assert controller.edits == [("test-vm", {STATE: "running"})]


def test_a_stop_answers_as_documented(controller: MemoryController, http: Http) -> None:
    controller.has("test-vm", VMState.RUNNING)
    reply = http.ask("POST", "/api/vms/test-vm/stop")
    assert reply.status == 200
    assert reply.body == {"success": True, "message": "虚拟机停止成功"}
    assert controller.edits == [("test-vm", {STATE: "stopped"})]


def test_english_answers_name_the_same_codes(controller: MemoryController, http: Http) -> None:
    controller.has("a", VMState.STOPPED, OFF)
    assert http.ask("POST", "/api/vms/a/start?lang=en").body["message"] == "The VM was started"


@pytest.mark.parametrize(
    ("state", "spec", "operation", "code", "message"),
    [
        (VMState.STOPPED, OFF, "stop", "VM_ALREADY_STOPPED", "虚拟机已停止"),
        (VMState.RUNNING, VMSpec(), "start", "VM_ALREADY_RUNNING", "虚拟机已在运行"),
        (VMState.PAUSED, VMSpec(), "start", "VM_ALREADY_RUNNING", "虚拟机已在运行"),
    ],
)
def test_what_is_so_already_is_refused_with_the_documented_code(
    controller: MemoryController,
    http: Http,
    state: VMState,
    spec: VMSpec,
    operation: str,
    code: str,
    message: str,
) -> None:
    controller.has("a", state, spec)
    reply = http.ask("POST", f"/api/vms/a/{operation}")
    assert reply.status == 400
    assert reply.body == {"success": False, "error": message, "code": code}
    assert not controller.edits
    assert not controller.wishes


@pytest.mark.parametrize("state", [VMState.STOPPED, VMState.FAILED, VMState.STARTING])
def test_a_vm_that_owes_to_run_is_started_at_once_without_an_edit(
    controller: MemoryController, http: Http, state: VMState
) -> None:
    controller.has("a", state)
    assert http.ask("POST", "/api/vms/a/start").status == 200
    assert not controller.edits
    assert controller.wishes == [("a", Wish.START)]


@pytest.mark.parametrize("state", [VMState.STOPPED, VMState.FAILED, VMState.STARTING])
def test_a_vm_that_owes_to_run_is_stopped_by_its_manifest(
    controller: MemoryController, http: Http, state: VMState
) -> None:
    controller.has("a", state)
    assert http.ask("POST", "/api/vms/a/stop").status == 200
    assert controller.edits == [("a", {STATE: "stopped"})]


def test_a_start_while_it_stops_is_written_and_seen_through(controller: MemoryController, http: Http) -> None:
    controller.has("a", VMState.STOPPING, OFF)
    assert http.ask("POST", "/api/vms/a/start").body["vm"]["status"] == "running"
    assert controller.edits == [("a", {STATE: "running"})]


def test_a_stop_while_it_stops_joins(controller: MemoryController, http: Http) -> None:
    controller.has("a", VMState.RUNNING, OFF)  # the manifest says so, the guest has not obeyed yet
    assert http.ask("POST", "/api/vms/a/stop").status == 200
    assert not controller.edits


def test_force_is_the_power_cut(controller: MemoryController, http: Http) -> None:
    controller.has("a", VMState.RUNNING)
    controller.guests["a"] = Guest.IGNORES
    assert http.ask("POST", "/api/vms/a/stop", {"force": True}).status == 200
    assert controller.wishes == [("a", Wish.FORCE_STOP)]


@pytest.mark.usefixtures("impatient", "hasty")
def test_force_is_the_power_cut_also_while_git_is_at_work(controller: MemoryController, http: Http) -> None:
    """What is asked for together with an edit is lost on a round that has not read the edit."""
    controller.has("a", VMState.RUNNING, VMSpec(shutdown=Shutdown(0)))
    controller.guests["a"] = Guest.IGNORES
    controller.git_looks = 3
    assert http.ask("POST", "/api/vms/a/stop", {"force": True}).status == 200
    assert controller.edits == [("a", {STATE: "stopped"})]


@pytest.mark.usefixtures("impatient", "hasty")
def test_a_start_is_seen_through_also_while_git_is_at_work(controller: MemoryController, http: Http) -> None:
    controller.has("a", VMState.STOPPED, OFF)
    controller.git_looks = 3
    assert http.ask("POST", "/api/vms/a/start").body["vm"]["status"] == "running"


@pytest.mark.usefixtures("impatient", "hasty")
@pytest.mark.parametrize(
    ("operation", "state", "spec"),
    [("start", VMState.STOPPED, OFF), ("stop", VMState.RUNNING, VMSpec(shutdown=Shutdown(0)))],
)
def test_an_edit_that_is_not_read_in_time_is_neither_success_nor_the_vms_failure(
    controller: MemoryController, http: Http, operation: str, state: VMState, spec: VMSpec
) -> None:
    controller.has("a", state, spec)
    controller.git_looks = 1000
    reply = http.ask("POST", f"/api/vms/a/{operation}?lang=en")
    assert (reply.status, reply.body["settled"]) == (400, False)
    assert "the manifest is written and not read yet" in reply.body["error"]


def test_force_must_be_a_boolean(controller: MemoryController, http: Http) -> None:
    controller.has("a", VMState.RUNNING)
    reply = http.ask("POST", "/api/vms/a/stop", {"force": "yes"})
    assert (reply.status, reply.body["code"]) == (400, "INVALID_REQUEST_PARAMS")
    assert reply.body["details"] == [{"field": "force", "message": "必须是布尔值"}]
    assert not controller.edits


def test_whole_vm_objects_may_be_sent_back(controller: MemoryController, http: Http) -> None:
    controller.has("a", VMState.STOPPED, OFF)
    vm = http.ask("GET", "/api/vms/a").body["vm"]
    assert http.ask("POST", "/api/vms/a/start", vm).status == 200
    assert http.ask("POST", "/api/vms/a/stop", vm).status == 200


@pytest.mark.parametrize(("operation", "code"), [("start", "VM_START_FAILED"), ("stop", "VM_STOP_FAILED")])
def test_an_unknown_vm_is_left_alone_with_the_reason(
    controller: MemoryController, http: Http, operation: str, code: str
) -> None:
    controller.has("a", VMState.UNKNOWN)
    controller.states("a", condition(ConditionType.READY, Truth.UNKNOWN, "Silent", "QMP does not answer"))
    reply = http.ask("POST", f"/api/vms/a/{operation}")
    assert (reply.status, reply.body["code"]) == (400, code)
    assert "QMP does not answer" in reply.body["error"]
    assert not controller.wishes


@pytest.mark.parametrize(("operation", "code"), [("start", "VM_START_FAILED"), ("stop", "VM_STOP_FAILED")])
def test_a_suspended_vm_is_left_alone_with_the_reason(
    controller: MemoryController, http: Http, operation: str, code: str
) -> None:
    controller.has("a", VMState.RUNNING)
    controller.states("a", condition(ConditionType.SUSPENDED, Truth.TRUE, "Suspended", "…"))
    reply = http.ask("POST", f"/api/vms/a/{operation}?lang=en")
    assert (reply.status, reply.body["code"]) == (400, code)
    assert "spec.suspend" in reply.body["error"]


def test_a_vm_without_a_manifest_is_stopped_directly_and_not_started(
    controller: MemoryController, http: Http
) -> None:
    controller.shows("stray", VMState.RUNNING)
    assert http.ask("POST", "/api/vms/stray/start").body["code"] == "VM_ALREADY_RUNNING"
    assert http.ask("POST", "/api/vms/stray/stop").status == 200
    assert not controller.edits
    assert controller.wishes == [("stray", Wish.STOP)]


def test_a_vm_that_is_being_removed_is_not_started_and_its_stop_is_joined(
    controller: MemoryController, http: Http
) -> None:
    controller.manifests["a"] = Removal(desired("a"))
    controller.shows("a", VMState.STOPPING)
    assert http.ask("POST", "/api/vms/a/start").body["code"] == "VM_START_FAILED"
    assert http.ask("POST", "/api/vms/a/stop").status == 200


def test_a_held_vm_has_no_manifest_to_write_to(controller: MemoryController, http: Http) -> None:
    controller.has("a", VMState.RUNNING)
    controller.waiting = {"a"}
    reply = http.ask("POST", "/api/vms/a/stop?lang=en")
    assert (reply.status, reply.body["code"]) == (400, "MANIFEST_INVALID")
    assert "prune --confirm" in reply.body["error"]


def test_a_manifest_that_was_not_looked_at_yet_is_looked_at(controller: MemoryController, http: Http) -> None:
    controller.manifests["new"] = desired("new")
    assert http.ask("GET", "/api/vms/new").body["vm"]["status"] == "running"


def test_a_failed_start_says_what_qemu_said_and_that_the_agent_keeps_trying(
    controller: MemoryController, http: Http
) -> None:
    controller.has("a", VMState.STOPPED, OFF)
    controller.guests["a"] = Guest.CANNOT_START
    reply = http.ask("POST", "/api/vms/a/start?lang=en")
    assert (reply.status, reply.body["success"], reply.body["code"]) == (400, False, "VM_START_FAILED")
    assert "Could not open 'x.iso'" in reply.body["error"]
    assert "keeps trying, next in 10 s" in reply.body["error"]
    assert reply.body["vm"] == {"name": "a", "status": "failed", "pid": None}
    assert reply.body["settled"] is True


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("state", "spec", "operation", "code", "shown"),
    [
        (VMState.STOPPED, OFF, "start", "VM_START_FAILED", "starting"),
        (VMState.RUNNING, VMSpec(shutdown=Shutdown(0)), "stop", "VM_STOP_FAILED", "stopping"),
    ],
)
def test_what_was_not_seen_by_the_deadline_is_no_success(
    controller: MemoryController,
    http: Http,
    state: VMState,
    spec: VMSpec,
    operation: str,
    code: str,
    shown: str,
) -> None:
    controller.has("a", state, spec)
    controller.guests["a"] = Guest.IGNORES
    reply = http.ask("POST", f"/api/vms/a/{operation}")
    assert (reply.status, reply.body["success"], reply.body["code"]) == (400, False, code)
    assert reply.body["settled"] is False
    assert reply.body["vm"]["status"] == shown


def test_a_write_that_meets_another_edit_is_made_again(controller: MemoryController, http: Http) -> None:
    controller.has("a", VMState.STOPPED, OFF)
    controller.edit_errors = [ConflictError("changed"), ConflictError("changed")]
    assert http.ask("POST", "/api/vms/a/start").status == 200


def test_a_write_that_meets_three_edits_gives_up_and_says_so(
    controller: MemoryController, http: Http
) -> None:
    controller.has("a", VMState.STOPPED, OFF)
    controller.edit_errors = [ConflictError("changed")] * 3
    reply = http.ask("POST", "/api/vms/a/start?lang=en")
    assert (reply.status, reply.body["code"]) == (400, "VM_START_FAILED")
    assert "try again" in reply.body["error"]
    assert not controller.wishes


def test_a_manifest_that_cannot_be_edited_is_answered_with_its_place(
    controller: MemoryController, http: Http
) -> None:
    controller.has("a", VMState.STOPPED, OFF)
    controller.edit_errors = [ManifestError((Problem("a.yaml", 2, 1, "spec", "found a list"),))]
    reply = http.ask("POST", "/api/vms/a/start")
    assert (reply.status, reply.body["code"]) == (400, "MANIFEST_INVALID")
    assert "a.yaml:2:1" in reply.body["error"]


def test_a_full_file_system_is_an_internal_error_that_names_the_file(
    controller: MemoryController, http: Http
) -> None:
    controller.has("a", VMState.STOPPED, OFF)
    controller.edit_errors = [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/manifests/a.yaml")]
    reply = http.ask("POST", "/api/vms/a/start")
    assert (reply.status, reply.body["code"]) == (500, "INTERNAL_SERVER_ERROR")
    assert reply.body["error"] == "服务器内部错误"
    assert reply.body["details"] == [{"field": "/manifests/a.yaml", "message": "No space left on device"}]


def test_a_manifest_that_went_away_meanwhile_is_the_operations_own_failure(
    controller: MemoryController, http: Http
) -> None:
    controller.has("a", VMState.STOPPED, OFF)
    controller.edit_errors = [StateError("a: no manifest describes this VM")]
    reply = http.ask("POST", "/api/vms/a/start")
    assert (reply.status, reply.body["code"]) == (400, "VM_START_FAILED")


@pytest.mark.usefixtures("impatient")
def test_reads_are_answered_and_further_writes_unsettled_at_once_while_32_writes_wait(
    controller: MemoryController, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "START_TIMEOUT_S", 60.0)
    count = writing.WAITING_MAX
    for number in range(count + 1):
        controller.has(f"vm{number}", VMState.STOPPED, OFF)
        controller.guests[f"vm{number}"] = Guest.IGNORES
    waiting = threading.Semaphore(0)
    real = controller.board.wait_for

    def wait_for(name: str, predicate: object, timeout_s: float) -> object:
        waiting.release()
        return real(name, predicate, timeout_s)  # type: ignore[arg-type]

    monkeypatch.setattr(controller.board, "wait_for", wait_for)
    with ThreadPoolExecutor(count) as pool:
        asked = [pool.submit(http.ask, "POST", f"/api/vms/vm{n}/start") for n in range(count)]
        for _ in range(count):
            assert waiting.acquire(timeout=30)
        assert http.ask("GET", "/healthz").status == 200
        assert len(http.ask("GET", "/api/vms").body["vms"]) == count + 1
        extra = http.ask("POST", f"/api/vms/vm{count}/start")
        assert (extra.status, extra.body["settled"]) == (400, False)
        assert (f"vm{count}", {STATE: "running"}) in controller.edits
        for number in range(count):
            controller.has(f"vm{number}", VMState.RUNNING)
        assert {future.result().status for future in asked} == {200}


def test_prune_releases_exactly_the_names_given(controller: MemoryController, http: Http) -> None:
    controller.waiting = {"a", "b"}
    reply = http.ask("POST", "/api/prune", {"names": ["a", "c"]})
    assert (reply.status, reply.body["released"]) == (200, ["a"])
    assert controller.held() == ("b",)


@pytest.mark.parametrize("body", [None, {}, {"names": []}, {"names": "a"}, {"names": [1]}, {"names": [".."]}])
def test_prune_wants_names(controller: MemoryController, http: Http, body: object) -> None:
    controller.waiting = {"a"}
    reply = http.ask("POST", "/api/prune", body)
    assert (reply.status, reply.body["code"]) == (400, "INVALID_REQUEST_PARAMS")
    assert reply.body["details"][0]["field"] == "names"
    assert controller.held() == ("a",)


def test_a_rehearsal_of_prune_and_restore_changes_nothing(controller: MemoryController, http: Http) -> None:
    controller.waiting = {"a"}
    controller.trash["b"] = desired("b")
    reply = http.ask("POST", "/api/prune?dryRun=true", {"names": ["a", "c"]})
    assert (reply.body["dryRun"], reply.body["released"]) == (True, ["a"])
    assert http.ask("POST", "/api/vms/b/restore?dryRun=true").body["dryRun"] is True
    assert http.ask("POST", "/api/vms/c/restore?dryRun=true").body["code"] == "VM_RESTORE_FAILED"
    assert (controller.held(), list(controller.trash)) == (("a",), ["b"])


def test_restore_brings_back_what_was_set_aside_and_says_so_where_nothing_was(
    controller: MemoryController, http: Http
) -> None:
    controller.trash["a"] = desired("a")
    assert http.ask("POST", "/api/vms/a/restore").status == 200
    again = http.ask("POST", "/api/vms/a/restore")
    assert (again.status, again.body["code"]) == (400, "VM_RESTORE_FAILED")
    assert "nothing of this name" in again.body["error"]
    assert http.ask("POST", "/api/vms/-x/restore").status == 404
