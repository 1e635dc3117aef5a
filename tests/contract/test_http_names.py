"""Another disk, another name: `recreate` and `rename` over HTTP, and whatever they refuse."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reconciler.model.errors import ConflictError, PreconditionError, StateError
from reconciler.model.plan import Wish
from reconciler.model.status import VMState
from reconciler.model.vm import PowerState, VMSpec
from tests.contract.http_support import Http, serving
from tests.contract.memory_controller import MemoryController, desired

OFF = VMSpec(state=PowerState.STOPPED)


@pytest.fixture
def controller() -> MemoryController:
    """With no VM yet."""
    return MemoryController()


@pytest.fixture
def http(controller: MemoryController) -> Iterator[Http]:
    """A client of its API."""
    with serving(controller) as client:
        yield client


def test_recreate_asks_for_a_new_disk_and_edits_nothing(controller: MemoryController, http: Http) -> None:
    controller.has("web", VMState.RUNNING)
    reply = http.ask("POST", "/api/vms/web/recreate")
    assert (reply.status, reply.body["vm"]) == (200, {"name": "web", "status": "running", "pid": 12346})
    assert reply.body["message"].startswith("虚拟机已重建")
    assert controller.wishes == [("web", Wish.RECREATE)]
    assert controller.edits == []


def test_a_rehearsal_of_recreate_asks_for_nothing(controller: MemoryController, http: Http) -> None:
    controller.has("web", VMState.RUNNING)
    assert http.ask("POST", "/api/vms/web/recreate?dryRun=true").body["dryRun"] is True
    assert controller.wishes == []


@pytest.mark.parametrize(
    ("state", "spec", "code"),
    [
        (VMState.RUNNING, VMSpec(protect=True), "VM_PROTECTED"),
        (VMState.UNKNOWN, VMSpec(), "VM_RECREATE_FAILED"),
    ],
)
def test_recreate_refuses_what_is_protected_or_unknown(
    controller: MemoryController, http: Http, state: VMState, spec: VMSpec, code: str
) -> None:
    controller.has("web", state, spec)
    reply = http.ask("POST", "/api/vms/web/recreate")
    assert (reply.status, reply.body["code"]) == (400, code)
    assert controller.wishes == []


def test_rename_answers_with_the_new_name_and_its_version(controller: MemoryController, http: Http) -> None:
    controller.has("web", VMState.STOPPED, OFF)
    reply = http.ask("POST", "/api/vms/web/rename", {"newName": "shop"})
    assert (reply.status, reply.body["name"]) == (200, "shop")
    assert reply.body["message"] == "虚拟机 web 已更名为 shop"
    assert list(controller.manifests) == ["shop"]


def test_a_rehearsal_of_rename_changes_nothing(controller: MemoryController, http: Http) -> None:
    controller.has("web", VMState.STOPPED, OFF)
    reply = http.ask("POST", "/api/vms/web/rename?dryRun=true", {"newName": "shop"})
    assert (reply.status, reply.body["dryRun"]) == (200, True)
    assert list(controller.manifests) == ["web"]


@pytest.mark.parametrize("body", [{}, {"newName": None}, {"newName": "../x"}, {"newName": 7}])
def test_rename_wants_a_name_that_can_be_one(
    controller: MemoryController, http: Http, body: dict[str, object]
) -> None:
    controller.has("web", VMState.STOPPED, OFF)
    reply = http.ask("POST", "/api/vms/web/rename", body)
    assert (reply.status, reply.body["code"]) == (400, "INVALID_REQUEST_PARAMS")
    assert reply.body["details"][0]["field"] == "newName"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (StateError("web: only a VM that is off can be renamed"), 400, "VM_RENAME_FAILED"),
        (ConflictError("shop.yaml describes a VM of this name"), 400, "VM_RENAME_FAILED"),
        (PreconditionError("seen otherwise", "g2"), 412, "PRECONDITION_FAILED"),
        (OSError(28, "No space left on device"), 500, "INTERNAL_SERVER_ERROR"),
    ],
)
def test_rename_says_why_it_cannot_be(
    controller: MemoryController, http: Http, error: Exception, status: int, code: str
) -> None:
    controller.has("web", VMState.STOPPED, OFF)
    controller.edit_errors.append(error)
    reply = http.ask("POST", "/api/vms/web/rename", {"newName": "shop"})
    assert (reply.status, reply.body["code"]) == (status, code)
    assert list(controller.manifests) == ["web"]


def test_nobody_has_neither_a_disk_nor_a_name(controller: MemoryController, http: Http) -> None:
    controller.manifests["other"] = desired("other")
    for path, body in (("recreate", None), ("rename", {"newName": "shop"})):
        reply = http.ask("POST", f"/api/vms/nobody/{path}", body)
        assert (reply.status, reply.body["code"]) == (404, "VM_NOT_FOUND")
