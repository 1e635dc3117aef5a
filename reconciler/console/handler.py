"""One visitor of a noVNC service: a file of the page, the question whether a token is good, or a console.

websockify speaks WebSocket and carries the bytes; who gets in, what is served and what is logged is decided here.
What websockify itself would log holds paths, and tokens stand in them: it logs nothing.
Next: `reconciler.console.gateway`.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from reconciler.assets import CONTENT_TYPES, Assets
from reconciler.console.door import Door, token_in
from reconciler.console.targets import Targets
from reconciler.console.tokens import Token, Tokens
from reconciler.model.console import Target

if TYPE_CHECKING:
    ProxyRequestHandler: Any
else:
    # numpy would only unmask what people type, and costs each service 14 MB and 0.3 s.
    sys.modules.setdefault("numpy", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from websockify.websocketproxy import ProxyRequestHandler

log = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 5.0
Refusal = tuple[HTTPStatus, str]

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the token stands in the address
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True)
class Line:
    """An open console: the token that it stands on, the visitor's socket and the VNC server's."""

    digest: str
    visitor: socket.socket
    server: socket.socket


@dataclass
class Lines:
    """The open consoles of this service. Safe for any number of threads."""

    open: set[Line] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, line: Line) -> None:
        """One more."""
        with self.lock:
            self.open.add(line)

    def remove(self, line: Line) -> None:
        """One less."""
        with self.lock:
            self.open.discard(line)

    def all(self) -> tuple[Line, ...]:
        """All, now."""
        with self.lock:
            return tuple(self.open)


@dataclass(frozen=True)
class Service:
    """What every visitor is served from."""

    door: Door
    tokens: Tokens
    targets: Targets
    assets: Assets
    lines: Lines = field(default_factory=Lines)


class Handler(ProxyRequestHandler):  # type: ignore[misc]
    """See the module. `server.service` is the `Service`."""

    timeout = REQUEST_TIMEOUT_S
    extensions_map = CONTENT_TYPES

    # ---- every request -----------------------------------------------------------------------------

    @property
    def service(self) -> Service:
        """What this visitor is served from."""
        service: Service = self.server.service
        return service

    def parse_request(self) -> bool:
        """Only under a name that we go by."""
        if not super().parse_request():
            return False
        if not self.service.door.knows_host(self.headers.get_all("Host", [])):
            self.close_connection = True
            self.send_error(HTTPStatus.FORBIDDEN, "This service does not go by that Host")
            return False
        return True

    def end_headers(self) -> None:
        """Every answer carries what protects the pages."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Security-Policy", self.service.door.policy())
        self.send_header("Cache-Control", "no-store" if token_in_page(self.path) else "no-cache")
        super().end_headers()

    def version_string(self) -> str:
        """`Server`: not what it is made of."""
        return "reconciler"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's name
        """Nothing: see the module."""

    # ---- files, and the question whether a token is good -------------------------------------------

    def translate_path(self, path: str) -> str:
        """The file behind a path, from the exact map; no file's name for any other."""
        file = self.service.assets.get(path.partition("?")[0])
        return os.fspath(file) if file else ""

    def do_GET(self) -> None:  # noqa: N802 -- the base class's name
        """A file, or what has become of a token: browsers do not tell pages why a WebSocket was refused."""
        token = token_in(self.path)
        if token is None:
            super().do_GET()
        else:
            found = self.service.tokens.find(token)
            self._answer(self._state_of(found))

    def _state_of(self, token: Token | None) -> HTTPStatus:
        if token is None:
            return HTTPStatus.FORBIDDEN
        there = self.service.targets.find(token.name)
        return HTTPStatus.NO_CONTENT if there else HTTPStatus.SERVICE_UNAVAILABLE

    def _answer(self, status: HTTPStatus) -> None:
        self.send_response(status)
        if status is not HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", "0")
        self.end_headers()

    # ---- consoles ------------------------------------------------------------------------------------

    def handle_upgrade(self) -> None:
        """A console: the origin first, so that a wrong one spends no token; then the token; then the VM."""
        refusal = self._refusal_of_origin() or self._console_or_refusal()
        if refusal:
            self.send_error(*refusal)

    def _refusal_of_origin(self) -> Refusal | None:
        if self.service.door.trusts_origin(self.headers.get_all("Origin", []), self.headers["Host"]):
            return None
        return HTTPStatus.FORBIDDEN, "Pages of this Origin may not open consoles"

    def _console_or_refusal(self) -> Refusal | None:
        token = self.service.tokens.find(token_in(self.path) or "")
        if token is None:
            return HTTPStatus.FORBIDDEN, "This token opens nothing (any more)"
        target = self.service.targets.find(token.name)
        server = connected(target) if target else None
        if server is None:
            return HTTPStatus.SERVICE_UNAVAILABLE, "The VM has no console just now"
        with server:
            self._open(token, server)
        return None

    def _open(self, token: Token, server: socket.socket) -> None:
        self.service.tokens.mark_used(token)
        line = Line(token.digest, self.connection, server)
        self.service.lines.add(line)
        log.info("%s: a console was opened", token.name)
        try:
            # Had it been revoked meanwhile, nobody would cut a line that was not in the book yet.
            if self.service.tokens.still(token.digest):
                self.connection.settimeout(None)
                self.vnc_server = server
                super().handle_upgrade()
        finally:
            self.service.lines.remove(line)
            log.info("%s: a console was closed", token.name)

    def validate_connection(self) -> None:
        """Was done before."""

    def auth_connection(self) -> None:
        """Was done before."""

    def new_websocket_client(self) -> None:
        """Carry the bytes until one of the two ends it."""
        for end in (self.connection, self.vnc_server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.do_proxy(self.vnc_server)


def connected(target: Target) -> socket.socket | None:
    """A connection to a VM's VNC server: a TCP port of this host's loopback, and nothing else ever."""
    try:
        server = socket.create_connection(("127.0.0.1", target.port), CONNECT_TIMEOUT_S)
    except OSError:
        return None
    server.settimeout(None)
    return server


def cut(line: Line, *, hard: bool) -> None:
    """End a console: by closing its far end, of which the visitor is told; `hard`: at both ends, told or not."""
    for end in (line.server, line.visitor) if hard else (line.server,):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def token_in_page(path: str) -> bool:
    """Whether the answer stands under an address with a token in it: then no cache keeps it."""
    return "token=" in path
