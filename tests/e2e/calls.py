"""Requests with headers and their answers whole, in this thread or another, for tests of what the API promises."""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.e2e.site import Agent

PATIENCE_S = 100.0


@dataclass(frozen=True)
class Reply:
    """An answer: header names in lower case."""

    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def code(self) -> str | None:
        """The error code; None where there is none."""
        found: str | None = self.body.get("code")
        return found

    @property
    def fields(self) -> set[str]:
        """The fields that an error names."""
        return {detail["field"] for detail in self.body.get("details", [])}


def call(
    agent: Agent, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
) -> Reply:
    """One request. A body that is text or bytes is sent as it is, any other as JSON."""
    data = body.encode() if isinstance(body, str) else body
    if data is not None and not isinstance(data, bytes):
        data = json.dumps(data).encode()
    typed = {"Content-Type": "application/json"} if data is not None else {}
    request = urllib.request.Request(  # noqa: S310 - the agent's own address
        agent.url + path, data, {**typed, **(headers or {})}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310
            return _reply(answer.status, answer.read(), answer.headers.items())
    except urllib.error.HTTPError as error:
        with error:
            return _reply(error.code, error.read(), error.headers.items())


def _reply(status: int, data: bytes, headers: Any) -> Reply:
    return Reply(status, json.loads(data), {name.lower(): value for name, value in headers})


class Pending:
    """A request that is on its way in a thread of its own."""

    def __init__(self, agent: Agent, method: str, path: str, body: object = None) -> None:
        self._reply: Reply | None = None

        def run() -> None:
            with contextlib.suppress(OSError):  # an agent that was killed does not answer
                self._reply = call(agent, method, path, body)

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    @property
    def is_answered(self) -> bool:
        """Whether the answer is there."""
        return not self._thread.is_alive()

    def reply(self, timeout_s: float = PATIENCE_S) -> Reply:
        """Wait for the answer."""
        self._thread.join(timeout_s)
        assert self._reply is not None, "the request was not answered"
        return self._reply
