"""Host × Origin × content type × method on raw sockets: exactly the cells that the rules allow pass.

The rules are stated here once more, plainly and by themselves; nothing of the API's own decisions is used.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import pytest

from reconciler.model.status import VMState
from reconciler.model.vm import PortForward, PowerState, VMSpec
from tests.contract.http_support import Http, serving
from tests.contract.memory_controller import MemoryController

FORWARDED = 8080

# Each value of a header, and whether the rules like it. More of them, one by one: test_http_access.
HOSTS = {
    "localhost": True,
    "LocalHost:3000": True,
    "localhost.:3000": True,
    "[::1]:3000": True,
    "VM.lan": True,  # configured
    None: False,
    "evil.example:3000": False,
    "127.0.0.2": False,  # of the loopback, and none of our names
    "[::2]": False,
}
ORIGINS = {
    None: True,
    "http://localhost:5173": True,  # another port of the loopback
    "https://[::1]:5173": True,
    "https://panel.example": True,  # configured
    f"http://localhost:{FORWARDED}": False,  # a guest's own web server
    "http://evil.example": False,
    "http://panel.example": False,  # configured is the one with https
    "null": False,
}


@dataclass(frozen=True)
class Body:
    """What comes with a request, and whether it is JSON or nothing."""

    content_type: str | None
    data: bytes | None
    good: bool


BODIES = (
    Body(None, None, good=True),
    Body("application/json", b"{}", good=True),
    Body("application/json; charset=utf-8", b"{}", good=True),
    Body("application/json", None, good=True),
    Body("text/plain", None, good=True),  # an empty body is no body
    Body("text/plain", b"{}", good=False),
    Body("application/x-www-form-urlencoded", b"{}", good=False),
    Body("multipart/form-data; boundary=x", b"{}", good=False),
    Body(None, b"{}", good=False),
)


@dataclass(frozen=True)
class Method:
    """A request line, what else comes with it, and what is answered where all else is allowed."""

    verb: str
    path: str
    allowed: tuple[int, str | None]
    extra: tuple[str, ...] = ()
    is_preflight: bool = False


METHODS = (
    Method("GET", "/api/vms", (200, None)),
    Method("POST", "/api/vms/off/stop", (400, "VM_ALREADY_STOPPED")),
    Method("PUT", "/vms/nope/config", (404, "VM_NOT_FOUND")),
    Method("DELETE", "/api/vms/nope", (404, "VM_NOT_FOUND")),
    Method(
        "OPTIONS",
        "/api/vms/off/stop",
        (204, None),
        ("Access-Control-Request-Method: POST",),
        is_preflight=True,
    ),
    Method("HEAD", "/api/vms", (405, None)),
    Method("PATCH", "/api/vms/off", (405, "METHOD_NOT_ALLOWED")),
    Method("TRACE", "/api/vms", (405, "METHOD_NOT_ALLOWED")),
)


@pytest.fixture(scope="module")
def http() -> Iterator[Http]:
    controller = MemoryController()
    controller.has("web", VMState.RUNNING, VMSpec(port_forwards=(PortForward(FORWARDED, 80),)))
    controller.has("off", VMState.STOPPED, VMSpec(state=PowerState.STOPPED))
    with serving(controller, allowed_hosts=("vm.lan",), allowed_origins=("https://panel.example",)) as client:
        yield client


def expected(host: str | None, origin: str | None, body: Body, method: Method) -> tuple[int, str | None]:
    """The rules: a name of ours; no page, or one that we trust; a browser may ask first; JSON or nothing."""
    is_head = method.verb == "HEAD"
    if not HOSTS[host] or not ORIGINS[origin]:
        return 403, None if is_head else "FORBIDDEN"
    if method.is_preflight and origin is not None:
        return 204, None
    if not body.good:
        return 415, None if is_head else "UNSUPPORTED_MEDIA_TYPE"
    return method.allowed


def answer(http: Http, lines: list[str], data: bytes) -> tuple[int, str | None, dict[str, str]]:
    """Status, code and headers of an answer; reads to the end of the connection, as HEAD has a length and no body."""
    with socket.create_connection(("127.0.0.1", http.port), timeout=30) as connection:
        connection.sendall("\r\n".join((*lines, "Connection: close", "", "")).encode() + data)
        with connection.makefile("rb") as stream:
            head, _, text = stream.read().partition(b"\r\n\r\n")
    status, *headers = head.decode("latin-1").split("\r\n")
    code = json.loads(text).get("code") if text else None
    named = {name.lower(): value for name, _, value in (line.partition(": ") for line in headers)}
    return int(status.split()[1]), code, named


@pytest.mark.parametrize(("host", "origin"), list(product(HOSTS, ORIGINS)))
def test_exactly_the_allowed_cells_pass(http: Http, host: str | None, origin: str | None) -> None:
    for body, method in product(BODIES, METHODS):
        if method.is_preflight and origin is None:
            continue  # no browser asks so; it is no preflight, but the method OPTIONS
        lines = [f"{method.verb} {method.path} HTTP/1.1", *method.extra]
        lines += [f"Host: {host}"] if host is not None else []
        lines += [f"Origin: {origin}"] if origin is not None else []
        lines += [f"Content-Type: {body.content_type}"] if body.content_type else []
        lines += [f"Content-Length: {len(body.data)}"] if body.data else []
        status, code, headers = answer(http, lines, body.data or b"")
        cell = (host, origin, body, method)
        assert (status, code) == expected(*cell), cell
        readable = origin is not None and status != 403
        assert headers.get("access-control-allow-origin") == (origin if readable else None), cell


@pytest.mark.parametrize("host", ["localhost:3000", "localhost:8080"])
def test_a_page_of_our_own_is_trusted_on_whatever_port(http: Http, host: str) -> None:
    lines = ["GET /api/vms HTTP/1.1", f"Host: {host}", f"Origin: http://{host}"]
    assert answer(http, lines, b"")[0] == 200
