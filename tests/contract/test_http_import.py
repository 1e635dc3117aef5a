"""`/api/import`, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reconciler.api.server import build
from reconciler.control.adoption import Adopted
from reconciler.importing.outcome import Kind, Note
from reconciler.model.status import VMState
from reconciler.model.vm import DesiredVM, ManifestRef, VMSpec
from tests.contract.http_support import SETTINGS, Http, backend_of, refusal
from tests.contract.memory_adoption import MemoryAdoption
from tests.contract.memory_controller import MemoryController

SOCKET = "/run/hand/qmp.sock"
VM = DesiredVM("web", VMSpec(), "g1", ManifestRef("web.yaml"), text="kind: VirtualMachine\n")
NOTE = Note(Kind.LOST, "-cpu max", 0, "counts for this run")
EN = {"X-Language": "en"}


@pytest.fixture
def adoption() -> MemoryAdoption:
    return MemoryAdoption({SOCKET: Adopted(VM, (NOTE,))})


@pytest.fixture
def http(adoption: MemoryAdoption) -> Iterator[Http]:
    controller = MemoryController()
    controller.has("web", VMState.RUNNING)
    server = build(backend_of(controller, adoption=adoption), SETTINGS)
    server.start()
    try:
        yield Http(server.address)
    finally:
        server.close()


def test_what_was_taken_over_is_told_with_all_that_does_not_carry_over(
    http: Http, adoption: MemoryAdoption
) -> None:
    reply = http.ask("POST", "/api/import", {"qmp": SOCKET, "name": "web"}, EN)
    assert (reply.status, reply.headers["ETag"]) == (200, '"g1"')
    assert reply.body | {"vm": None} == {
        "success": True,
        "message": "The VM was imported, and was not restarted",
        "name": "web",
        "manifest": VM.text,
        "vm": None,
        "notes": [{"kind": "LOST", "place": "-cpu max", "message": "counts for this run"}],
    }
    assert reply.body["vm"]["status"] == "running"
    assert adoption.asked == [(SOCKET, "web", False)]


def test_a_rehearsal_says_so(http: Http, adoption: MemoryAdoption) -> None:
    body = http.ask("POST", "/api/import?dryRun=true", {"qmp": SOCKET}).body
    assert (body["dryRun"], body["vm"], body["manifest"]) == (True, None, VM.text)
    assert adoption.asked == [(SOCKET, None, True)]


def test_why_it_is_refused_is_said(http: Http) -> None:
    reply = http.ask("POST", "/api/import", {"qmp": "/no/where"}, EN)
    assert refusal(reply)[:2] == (400, "VM_IMPORT_FAILED")
    assert reply.body["error"] == "The VM could not be imported: /no/where: No such file or directory"


@pytest.mark.parametrize(
    ("body", "field"),
    [({}, "qmp"), ({"qmp": 5}, "qmp"), ({"qmp": "/a\0b"}, "qmp"), ({"qmp": SOCKET, "name": "../x"}, "name")],
)
def test_a_body_that_names_no_socket_or_no_vm_is_refused(
    http: Http, adoption: MemoryAdoption, body: dict[str, object], field: str
) -> None:
    reply = http.ask("POST", "/api/import", body)
    assert refusal(reply) == (400, "INVALID_REQUEST_PARAMS", [field])
    assert adoption.asked == []
