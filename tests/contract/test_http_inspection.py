"""Logs, screenshots and the host, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from reconciler import __version__
from reconciler.api.server import build
from reconciler.model.errors import QmpError, QmpTimeoutError
from reconciler.model.status import VMState
from tests.contract.http_support import SETTINGS, Http, backend_of
from tests.contract.memory_controller import MemoryController
from tests.contract.memory_inspector import HOST, PNG, MemoryInspector


@contextmanager
def serving(inspector: MemoryInspector, controller: MemoryController | None = None) -> Iterator[Http]:
    """The API of a running VM `web` and a stopped one `off`."""
    controller = controller or MemoryController()
    controller.has("web", VMState.RUNNING)
    controller.has("off", VMState.STOPPED)
    server = build(backend_of(controller, inspector), SETTINGS)
    server.start()
    try:
        yield Http(server.address)
    finally:
        server.close()


@pytest.fixture
def inspector() -> MemoryInspector:
    return MemoryInspector()


@pytest.fixture
def http(inspector: MemoryInspector) -> Iterator[Http]:
    with serving(inspector) as client:
        yield client


def test_the_log_shows_the_ends_of_all_logs_and_how_long_they_are(http: Http) -> None:
    body = http.ask("GET", "/api/vms/web/log").body
    assert body == {
        "success": True,
        "name": "web",
        "qemu": "warning\n",
        "serial": "GUEST-READY\n",
        "qemuBefore": "",
        "sizes": {"qemu": 8, "serial": 70_000, "qemuBefore": 0},
    }


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("", (65536, 10_000)),
        ("?bytes=1", (1, 10_000)),
        ("?tail=25&bytes=262144", (262144, 25)),
    ],
)
def test_the_log_is_bounded_by_bytes_and_lines(
    http: Http, inspector: MemoryInspector, query: str, asked: tuple[int, int]
) -> None:
    assert http.ask("GET", f"/api/vms/off/log{query}").status == 200
    assert inspector.asked == [("off", *asked)]


@pytest.mark.parametrize(
    "query",
    ["bytes=0", "bytes=262145", "bytes=", "tail=-1", "tail=1e3", "tail=10001", "tail=%D9%A1", "bytes=1.0"],
)
def test_other_bounds_are_refused_and_named(http: Http, inspector: MemoryInspector, query: str) -> None:
    reply = http.ask("GET", f"/api/vms/web/log?{query}")
    assert (reply.status, reply.body["code"]) == (400, "INVALID_REQUEST_PARAMS")
    assert reply.body["details"][0]["field"] == query.partition("=")[0]
    assert inspector.asked == []


@pytest.mark.parametrize("what", ["log", "screenshot"])
@pytest.mark.parametrize("name", ["nix", "..", "a%00b", "-x"])
def test_what_is_no_vm_has_neither_log_nor_screen(
    http: Http, inspector: MemoryInspector, what: str, name: str
) -> None:
    reply = http.ask("GET", f"/api/vms/{name}/{what}")
    assert (reply.status, reply.body["code"]) == (404, "VM_NOT_FOUND")
    assert inspector.asked == []


def test_a_screenshot_is_a_picture_that_nobody_keeps(http: Http) -> None:
    reply = http.ask("GET", "/api/vms/web/screenshot")
    assert (reply.status, reply.body) == (200, PNG)
    assert reply.headers["Content-Type"] == "image/png"
    assert reply.headers["Cache-Control"] == "no-store"


def test_what_does_not_run_has_no_screen(http: Http) -> None:
    reply = http.ask("GET", "/api/vms/off/screenshot")
    assert (reply.status, reply.body["code"]) == (400, "VM_NOT_RUNNING")


@pytest.mark.parametrize(
    "error",
    [
        QmpError("screendump", "GenericError", "There is no console to take a screendump from"),
        QmpTimeoutError("screendump: QEMU gave no answer within 5 s"),
        OSError(28, "No space left on device"),
    ],
)
def test_a_screen_that_cannot_be_read_says_why(
    http: Http, inspector: MemoryInspector, error: Exception
) -> None:
    inspector.screen = error
    reply = http.ask("GET", "/api/vms/web/screenshot?lang=en")
    assert (reply.status, reply.body["code"]) == (400, "VM_SCREENSHOT_FAILED")
    assert str(error) in reply.body["error"]


def test_a_vm_that_ends_while_it_is_looked_at_does_not_run() -> None:
    controller = MemoryController()

    class Ending(MemoryInspector):
        def screenshot(self, name: str) -> bytes:
            controller.has(name, VMState.STOPPED)
            raise QmpTimeoutError("screendump: no connection to QEMU")

    with serving(Ending(), controller) as http:
        assert http.ask("GET", "/api/vms/web/screenshot").body["code"] == "VM_NOT_RUNNING"


def test_the_host_says_what_it_has_and_how_vms_run(http: Http) -> None:
    assert http.ask("GET", "/api/host").body["host"] == {
        "agentVersion": __version__,
        "qemuBinary": "qemu-system-x86_64",
        "qemuVersion": "7.2.22",
        "accelerator": "tcg",
        "acceleratorReason": "/dev/kvm: No such file or directory",
        "qemuUser": "reconciler-qemu",
        "isolated": True,
        "cpus": 2,
        "memory": 8192,
        "memoryAvailable": 3072,
        "vms": 2,
        "vmsRunning": 1,
    }


@pytest.mark.parametrize(("kvm", "said"), [(True, "kvm"), (None, None)])
def test_the_accelerator_is_kvm_only_where_that_is_proved(
    http: Http, inspector: MemoryInspector, kvm: bool | None, said: str | None
) -> None:
    inspector.facts = replace(HOST, kvm=kvm)
    assert http.ask("GET", "/api/host").body["host"]["accelerator"] == said
