"""config and toggleMountIso, the terms of any write (rehearsals, versions), and reads of the manifest."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from reconciler.api import writing
from reconciler.model.errors import ConflictError, ManifestError
from reconciler.model.status import VMState
from reconciler.model.vm import DesiredVM, PowerState, Problem, Removal, VMSpec
from tests.contract.http_support import Http, refusal, serving
from tests.contract.memory_controller import MemoryController, desired

OFF = VMSpec(state=PowerState.STOPPED)
WITH_ISO = VMSpec(iso_path="a.iso", mount_iso=True)


@pytest.fixture
def controller() -> MemoryController:
    return MemoryController(isos={"a.iso", "b.iso"})


@pytest.fixture
def http(controller: MemoryController) -> Iterator[Http]:
    with serving(controller) as client:
        yield client


# ---- config --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/vms/test-vm/config", "/api/vms/test-vm/config"])
def test_a_config_answers_as_documented_at_both_paths(
    controller: MemoryController, http: Http, path: str
) -> None:
    controller.has("test-vm", VMState.RUNNING)
    body = {
        "memory": 4096,
        "cpuCores": 2,
        "diskSize": 20,
        "networkType": "user",
        "vncPort": 5900,
        "bootOrder": "cd,hd",
        "isoPath": "b.iso",
    }
    reply = http.ask("PUT", path, body)
    assert reply.status == 200
    assert reply.body == {
        "success": True,
        "message": "虚拟机 test-vm 配置已更新",
        "requiresRestart": False,
        "config": body,
        "ignoredFields": [],
    }
    assert controller.edits == [("test-vm", {("spec", "memory"): 4096, ("spec", "isoPath"): "b.iso"})]


def test_an_empty_config_changes_nothing_and_shows_what_there_is(
    controller: MemoryController, http: Http
) -> None:
    controller.has("a", VMState.STOPPED, OFF)
    reply = http.ask("PUT", "/api/vms/a/config")
    assert (reply.status, reply.body["config"]["memory"]) == (200, 2048)
    assert not controller.edits


def test_a_broken_manifest_is_not_blamed_on_the_request(controller: MemoryController, http: Http) -> None:
    controller.has("a", VMState.STOPPED, OFF)
    problem = Problem("/manifests/a.yaml", 2, 1, "spec", "found a list")
    controller.edit_errors = [ManifestError((problem,))] * 2
    blamed = http.ask("PUT", "/api/vms/a/config", {"memory": 64})
    assert refusal(blamed) == (400, "INVALID_REQUEST_PARAMS", ["spec"])
    controller.found = (problem,)
    assert refusal(http.ask("PUT", "/api/vms/a/config", {"memory": 64}))[1] == "MANIFEST_INVALID"


@pytest.mark.parametrize("path", ["config", "toggleMountIso"])
def test_a_vm_without_a_manifest_has_nothing_to_configure(
    controller: MemoryController, http: Http, path: str
) -> None:
    method, body = ("PUT", None) if path == "config" else ("POST", {"mountStatus": True})
    controller.shows("stray", VMState.RUNNING)
    assert refusal(http.ask(method, f"/api/vms/stray/{path}", body))[1] == "MANIFEST_INVALID"
    controller.manifests["going"] = Removal(desired("going"))
    controller.shows("going", VMState.STOPPING)
    assert refusal(http.ask(method, f"/api/vms/going/{path}", body))[1] == "MANIFEST_INVALID"


# ---- toggleMountIso ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mount", "words"), [(True, "mounted to"), (False, "unmounted from")])
def test_a_toggle_of_a_vm_that_is_off_answers_as_documented(
    controller: MemoryController, http: Http, mount: bool, words: str
) -> None:
    spec = VMSpec(PowerState.STOPPED, iso_path="a.iso", mount_iso=not mount)
    controller.has("test-vm", VMState.STOPPED, spec)
    reply = http.ask("POST", "/api/vms/test-vm/toggleMountIso", {"mountStatus": mount})
    assert reply.status == 200
    assert reply.body == {
        "success": True,
        "message": f"ISO successfully {words} VM 'test-vm'",
        "vm": {"name": "test-vm", "isMountIso": mount},
    }
    assert controller.edits == [("test-vm", {("spec", "mountIso"): mount})]


@pytest.mark.parametrize("status", [None, 1, "true", []])
def test_the_mount_status_must_be_a_boolean(controller: MemoryController, http: Http, status: object) -> None:
    controller.has("a", VMState.STOPPED, WITH_ISO)
    reply = http.ask("POST", "/api/vms/a/toggleMountIso", {"mountStatus": status})
    assert refusal(reply) == (400, "INVALID_REQUEST_PARAMS", ["mountStatus"])


@pytest.mark.parametrize("iso_path", [None, "missing.iso"])
def test_only_an_iso_that_is_there_can_be_mounted(
    controller: MemoryController, http: Http, iso_path: str | None
) -> None:
    controller.has("a", VMState.STOPPED, VMSpec(PowerState.STOPPED, iso_path=iso_path))
    reply = http.ask("POST", "/api/vms/a/toggleMountIso", {"mountStatus": True})
    assert refusal(reply) == (400, "INVALID_REQUEST_PARAMS", ["isoPath"])


def test_a_medium_that_the_running_vm_does_not_get_is_no_success(
    controller: MemoryController, http: Http
) -> None:
    controller.has("a", VMState.RUNNING, VMSpec(iso_path="a.iso", mount_iso=False))
    reply = http.ask("POST", "/api/vms/a/toggleMountIso", {"mountStatus": True})
    assert refusal(reply) == (400, "ISO_TOGGLE_FAILED", [])


# ---- terms of any write --------------------------------------------------------------------------------

WRITES = [
    ("POST", "/api/vms", {"name": "new"}),
    ("POST", "/api/vms/off/start", None),
    ("POST", "/api/vms/on/stop", None),
    ("POST", "/api/vms/on/restart", None),
    ("DELETE", "/api/vms/on", None),
    ("PUT", "/vms/on/config", {"memory": 64}),
    ("POST", "/api/vms/off/toggleMountIso", {"mountStatus": False}),
]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_a_rehearsal_changes_nothing(
    controller: MemoryController, http: Http, method: str, path: str, body: object
) -> None:
    controller.has("on", VMState.RUNNING)
    controller.has("off", VMState.STOPPED, VMSpec(PowerState.STOPPED, iso_path="a.iso", mount_iso=True))
    before = dict(controller.manifests)
    reply = http.ask(method, f"{path}?dryRun=true", body)
    assert (reply.status, reply.body["success"], reply.body["dryRun"]) == (200, True, True)
    assert reply.body["plan"] == "nothing to do"
    assert controller.manifests == before
    assert not controller.edits
    assert not controller.wishes


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
def test_whether_it_is_a_rehearsal_is_true_or_false(
    controller: MemoryController, http: Http, method: str, path: str, body: object
) -> None:
    controller.has("on", VMState.RUNNING)
    controller.has("off", VMState.STOPPED, OFF)
    reply = http.ask(method, f"{path}?dryRun=1", body)
    assert refusal(reply) == (400, "INVALID_REQUEST_PARAMS", ["dryRun"])


@pytest.mark.parametrize("match", ['"g1"', '"x", "g1"', "*", ' "g1" ,"y"'])
def test_a_write_on_the_version_that_was_seen_is_made_and_shows_the_new_one(
    controller: MemoryController, http: Http, match: str
) -> None:
    controller.has("a", VMState.STOPPED, OFF)
    assert http.ask("GET", "/api/vms/a").headers["ETag"] == '"g1"'
    reply = http.ask("PUT", "/api/vms/a/config", {"memory": 64}, {"If-Match": match})
    assert (reply.status, reply.headers["ETag"]) == (200, '"g1+"')


@pytest.mark.parametrize("match", ['"g0"', 'W/"g1"', "g1", ""])
def test_a_write_on_another_version_is_refused(controller: MemoryController, http: Http, match: str) -> None:
    controller.has("a", VMState.STOPPED, OFF)
    reply = http.ask("PUT", "/api/vms/a/config", {"memory": 64}, {"If-Match": match})
    assert refusal(reply) == (412, "PRECONDITION_FAILED", [])
    assert reply.body["generation"] == "g1"
    assert not controller.edits


def test_a_stop_of_a_vm_without_a_manifest_has_no_version_to_match(
    controller: MemoryController, http: Http
) -> None:
    controller.shows("stray", VMState.RUNNING)
    reply = http.ask("POST", "/api/vms/stray/stop", None, {"If-Match": '"g1"'})
    assert refusal(reply) == (412, "PRECONDITION_FAILED", [])


def test_a_create_has_no_version_to_match(http: Http) -> None:
    reply = http.ask("POST", "/api/vms", {"name": "a"}, {"If-Match": '"g1"'})
    assert refusal(reply) == (412, "PRECONDITION_FAILED", [])


def test_writes_that_write_just_now_leave_room_for_reads(
    controller: MemoryController, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller.has("a", VMState.STOPPED, OFF)
    writing_now, go_on = threading.Semaphore(0), threading.Event()
    real = controller.edit

    def slow(*args: Any, **options: Any) -> DesiredVM:
        writing_now.release()
        assert go_on.wait(60)
        return real(*args, **options)

    monkeypatch.setattr(controller, "edit", slow)
    config = ("PUT", "/api/vms/a/config", {"memory": 64})
    with ThreadPoolExecutor(writing.WRITES_MAX) as pool:
        asked = [pool.submit(http.ask, *config) for _ in range(writing.WRITES_MAX)]
        for _ in asked:
            assert writing_now.acquire(timeout=60)
        assert http.ask("GET", "/healthz").status == 200
        extra = http.ask(*config)
        assert (extra.status, extra.body["code"], extra.body["settled"]) == (400, "VM_CONFIG_FAILED", False)
        go_on.set()
        assert {future.result().status for future in asked} <= {200, 400}


def test_a_create_that_loses_the_race_for_its_name_says_that_it_is_taken(
    controller: MemoryController, http: Http
) -> None:
    controller.edit_errors = [ConflictError("a.yaml exists already")]
    assert refusal(http.ask("POST", "/api/vms", {"name": "a"}))[2] == ["name"]


# ---- reads of the manifest -----------------------------------------------------------------------------


def test_a_manifest_is_read_as_json_or_as_yaml(controller: MemoryController, http: Http) -> None:
    controller.has("a", VMState.STOPPED, OFF)
    reply = http.ask("GET", "/api/vms/a/manifest")
    assert reply.body["source"] == {"file": "/manifests/a.yaml", "line": 3, "column": 1}
    assert reply.headers["ETag"] == '"g1"'
    controller.shows("stray", VMState.RUNNING)
    assert refusal(http.ask("GET", "/api/vms/stray/manifest"))[1] == "MANIFEST_INVALID"


def test_what_is_pending_and_what_a_round_would_do(controller: MemoryController, http: Http) -> None:
    controller.has("a", VMState.RUNNING)
    assert http.ask("GET", "/api/vms/a/pending").body == {
        "success": True,
        "requiresRestart": False,
        "pending": [],
    }
    plan = http.ask("GET", "/api/vms/a/plan").body
    assert (plan["plan"], plan["actions"]) == ("nothing to do", [])
    assert http.ask("GET", "/api/vms/nobody/plan").status == 404
