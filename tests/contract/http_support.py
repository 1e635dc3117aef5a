"""The API on a real waitress, on a port of its own, over the controller that keeps its VMs in memory."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from email.message import Message
from pathlib import Path
from typing import Any

from reconciler.api.ports import Backend
from reconciler.api.server import build
from reconciler.settings import Settings
from tests import conformity
from tests.contract.memory_adoption import MemoryAdoption
from tests.contract.memory_consoles import MemoryConsoles
from tests.contract.memory_controller import MemoryController
from tests.contract.memory_inspector import MemoryInspector

SETTINGS = Settings(Path("/manifests"), Path("/state"), Path("/run"), listen="127.0.0.1:0")


@dataclass(frozen=True)
class Reply:
    """An answer."""

    status: int
    body: Any
    headers: Message


def refusal(reply: Reply) -> tuple[int, str, list[str]]:
    """Status, code and the fields that are named."""
    return reply.status, reply.body["code"], [d["field"] for d in reply.body.get("details", [])]


@dataclass(frozen=True)
class Http:
    """A client that sends what it is told, on a new connection each time."""

    url: str

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def ask(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """A request with a JSON body, or none; its answer is as documented."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json"} if data is not None else {}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, data, sent | dict(headers or {}))
            response = connection.getresponse()
            reply = Reply(response.status, _decoded(response), response.headers)
        finally:
            connection.close()
        conformity.check(method, path, reply.status, reply.headers["Content-Type"], reply.body)
        return reply

    def raw(self, request: bytes) -> Reply:
        """Bytes as they are, on a socket."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(request)
            response = http.client.HTTPResponse(connection)
            response.begin()
            text = response.read()
            return Reply(response.status, json.loads(text) if text else None, response.headers)


def _decoded(response: http.client.HTTPResponse) -> Any:
    # Any: the shape is the test's affair.
    data = response.read()
    is_json = (response.headers["Content-Type"] or "").startswith("application/json")
    return json.loads(data) if is_json and data else data or None


def backend_of(
    controller: MemoryController,
    inspector: MemoryInspector | None = None,
    consoles: MemoryConsoles | None = None,
    adoption: MemoryAdoption | None = None,
) -> Backend:
    """All that the API is made of, kept in memory."""
    return Backend(
        controller=controller,
        manifests=controller,
        inspector=inspector or MemoryInspector(),
        consoles=consoles or MemoryConsoles(),
        adoption=adoption or MemoryAdoption(),
    )


@contextmanager
def serving(controller: MemoryController, **settings: Any) -> Iterator[Http]:
    """The API of this controller, while the block runs."""
    server = build(backend_of(controller), replace(SETTINGS, **settings))
    server.start()
    try:
        yield Http(server.address)
    finally:
        server.close()
