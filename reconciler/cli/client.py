"""A client of the agent's API: where the agent is, how to ask it, how to say what it answered.

The agent writes its address into its run directory; --server names another. Uses the standard library alone.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from reconciler.cli.config import Config
from reconciler.layout import Layout
from reconciler.model.errors import ReconcilerError, SettingsError

UNIX = "unix:"
READ_TIMEOUT_S = 15.0
Answer = dict[str, Any]  # JSON of another process: whoever reads it knows the shape


class AgentError(ReconcilerError):
    """No agent answers, or it refused; the message is for people."""


@dataclass(frozen=True)
class Agent:
    """The agent behind a URL, or behind `unix:` and the path of its socket."""

    url: str
    token: str | None

    @staticmethod
    def of(config: Config) -> Agent:
        """The agent that these settings lead to. Raises SettingsError."""
        file = config.path("tokenFile")
        return Agent(address_of(config), _read_token(file) if file else None)

    def get(self, path: str) -> Answer:
        """Read. Raises AgentError."""
        return self._ask("GET", path, None, READ_TIMEOUT_S)

    def post(self, path: str, body: Mapping[str, object] | None = None) -> Answer:
        """Write, and wait until the agent answers: it sets the deadline itself. Raises AgentError."""
        return self._ask("POST", path, body, None)

    def _ask(
        self, method: str, path: str, body: Mapping[str, object] | None, timeout_s: float | None
    ) -> Answer:
        connection = self._connect(timeout_s)
        headers = {"X-Language": "en", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return _accepted(response.status, response.read(), self.url)
        except (OSError, http.client.HTTPException) as error:
            raise AgentError(_nobody(self.url, error)) from error
        finally:
            connection.close()

    def _connect(self, timeout_s: float | None) -> http.client.HTTPConnection:
        if self.url.startswith(UNIX):
            return _UnixConnection(self.url.removeprefix(UNIX), timeout_s)
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        return kind(parts.hostname or "", parts.port, timeout=timeout_s)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP through a UNIX socket."""

    def __init__(self, path: str, timeout_s: float | None) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Called by http.client."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def vm_path(name: str, operation: str = "") -> str:
    """The path of a VM, or of something that can be done with it."""
    path = f"/api/vms/{quote(name, safe='')}"
    return f"{path}/{operation}" if operation else path


def address_of(config: Config) -> str:
    """The agent's URL: as --server says, as the agent itself wrote down, or as it would listen."""
    if given := config.text("server"):
        return _checked(given)
    try:
        said = json.loads(Layout(config.state_dir, config.run_dir).address.read_text())
        return _checked(_nearest(said.get("addresses") or [said["url"]]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        first = config.listen.partition(",")[0].strip()
        return first if first.startswith(UNIX) else f"http://{first}"


def _nearest(addresses: list[str]) -> str:
    """A UNIX socket that we may use, which takes no token; else the first."""
    files = (each for each in addresses if each.startswith(UNIX))
    return next((each for each in files if os.access(each.removeprefix(UNIX), os.W_OK)), addresses[0])


def _checked(url: str) -> str:
    if url.startswith(UNIX + "/"):
        return url
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/"):
        raise SettingsError(
            f"server: found {url!r}, expected a URL such as http://localhost:3000, or unix:/PATH"
        )
    return url.rstrip("/")


def _read_token(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise SettingsError(f"tokenFile: {path} cannot be read: {error.strerror}") from error


def _accepted(status: int, data: bytes, url: str) -> Answer:
    try:
        answer = json.loads(data)
    except ValueError as error:
        raise AgentError(f"{url} answered with {status} and no JSON: is this the agent?") from error
    if not isinstance(answer, dict):
        raise AgentError(f"{url} answered with {status} and no JSON object: is this the agent?")
    if status == http.HTTPStatus.UNAUTHORIZED:
        raise AgentError(f"{url} wants its token: name the file that holds it with --token-file")
    if status >= 400:
        raise AgentError(_refusal(answer))
    return answer


def _refusal(answer: Answer) -> str:
    """The error, and below it what of the details it does not say already."""
    lines = [str(answer.get("error", "the agent refused"))]
    for detail in answer.get("details", ()):
        field, message = str(detail.get("field") or ""), str(detail.get("message"))
        if message not in lines[0]:
            lines.append(f"  {message}" if field in message else f"  {field}: {message}")
    return "\n".join(lines)


def _nobody(url: str, error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"the agent at {url} does not answer within {READ_TIMEOUT_S:.0f} s"
    return (
        f"no agent answers at {url} ({getattr(error, 'strerror', None) or error}). "
        "`reconciler run` starts one, in a checkout `make run`; "
        "--server or RECONCILER_SERVER names another, --run-dir the directory where one wrote its address"
    )
