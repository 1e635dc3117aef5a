"""Consoles in browsers: a noVNC service that runs, and a link that opens the screen of one VM.

The link has the documented form, with the host by which the request came: whoever reached the API by that name is
the one who opens it. Next: `reconciler.console`.
"""

from __future__ import annotations

import falcon

from reconciler.api import media
from reconciler.api.context import call_of
from reconciler.api.errors import ApiError, invalid
from reconciler.api.messages import Code, Text
from reconciler.api.operations import Operations
from reconciler.api.pages import CONSOLES_PATH
from reconciler.api.ports import BoardPort, ConsolesPort
from reconciler.api.resources import send
from reconciler.api.unix_socket import BY_FILE, WEB_URL
from reconciler.authority import Authority, parse_authority
from reconciler.model.console import Gateway
from reconciler.model.errors import ConsoleError
from reconciler.model.status import VMState, VMStatus

WEB_PORT = 6080
WEB_PORT_MIN, PORT_MAX = 1024, 65535
WITH_CONSOLE = {VMState.RUNNING, VMState.PAUSED, VMState.STOPPING}  # a guest that hangs is looked at


class NoVNC:
    """`/api/novnc`."""

    def __init__(self, board: BoardPort, consoles: ConsolesPort) -> None:
        self._board = board
        self._consoles = consoles

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """The service alone, and our page of consoles; with a VM's `vncPort`, the console of that VM."""
        body = call_of(req).body
        vnc_port, web_port = _vnc_port(body), _web_port(body)
        if vnc_port is not None:
            return send(resp, _console(req, self._consoles, self._vm_at(vnc_port), web_port))
        gateway = _serve(self._consoles, web_port)
        return send(resp, _answer(_page_url(req, web_port), None, gateway, None))

    def _vm_at(self, vnc_port: int) -> VMStatus:
        found = [status for status in self._board.all() if status.vnc_port == vnc_port]
        if not found:
            raise invalid(
                "vncPort",
                f"没有虚拟机使用 VNC 端口 {vnc_port}",
                f"no VM has {vnc_port} as its VNC port; leave it out for the page of all consoles",
            )
        return max(found, key=lambda status: status.state in WITH_CONSOLE)


class NoVNCOf:
    """`/api/novnc/{name}`."""

    def __init__(self, operations: Operations, consoles: ConsolesPort) -> None:
        self._operations = operations
        self._consoles = consoles

    def on_post(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """A new link to this VM's console."""
        status = self._operations.find(name)
        body = call_of(req).body
        vnc_port, web_port = _vnc_port(body), _web_port(body)
        if vnc_port not in {None, status.vnc_port}:
            raise invalid(
                "vncPort",
                f"虚拟机 {name} 的 VNC 端口是 {status.vnc_port}，可以省略此字段",
                f"the VNC port of {name} is {status.vnc_port}; it may be left out",
            )
        send(resp, _console(req, self._consoles, status, web_port))


def _console(
    req: falcon.Request, consoles: ConsolesPort, status: VMStatus, web_port: int
) -> media.JsonObject:
    if status.state not in WITH_CONSOLE or status.process is None:
        raise ApiError(Code.VM_NOT_RUNNING)
    gateway = _serve(consoles, web_port)
    try:
        token = consoles.grant(status.name)
    except ConsoleError as error:
        raise ApiError(Code.NOVNC_START_FAILED, Text.same(str(error))) from error
    came_by = parse_authority(req.get_header("Host")) or Authority("localhost", None)
    host = came_by.url_host
    query = f"host={host}&port={web_port}&path=websockify/?token={token}"
    return _answer(f"http://{host}:{web_port}/vnc.html?{query}", status.vnc_port, gateway, token)


def _page_url(req: falcon.Request, web_port: int) -> str:
    """Our page of consoles, at the address by which the request came; a UNIX socket is none for browsers."""
    netloc = (req.get_header("Host") or "localhost").lower()
    base = req.env[WEB_URL] if req.env.get(BY_FILE) else f"{req.scheme}://{netloc}"
    return f"{base}{CONSOLES_PATH}?webPort={web_port}" if base else f"http://localhost:{web_port}/vnc.html"


def _serve(consoles: ConsolesPort, web_port: int) -> Gateway:
    try:
        return consoles.serve(web_port)
    except ConsoleError as error:
        raise ApiError(Code.NOVNC_START_FAILED, Text.same(str(error))) from error


def _answer(url: str, vnc_port: int | None, gateway: Gateway, token: str | None) -> media.JsonObject:
    return {
        "success": True,
        "url": url,
        "vncPort": vnc_port,
        "webPort": gateway.web_port,
        "token": token,
        "pid": gateway.pid,
    }


def _vnc_port(body: media.JsonObject) -> int | None:
    return _port(body, "vncPort", 1)


def _web_port(body: media.JsonObject) -> int:
    return _port(body, "webPort", WEB_PORT_MIN) or WEB_PORT


def _port(body: media.JsonObject, field: str, lowest: int) -> int | None:
    """A port that was given; null, "" and 0 are none. Raises ApiError."""
    match body.get(field):
        case None | "":
            return None
        case int(port) if not isinstance(port, bool) and (port == 0 or lowest <= port <= PORT_MAX):
            return port or None
    raise invalid(
        field,
        f"必须是 {lowest} 到 {PORT_MAX} 之间的整数",
        f"must be an integer from {lowest} to {PORT_MAX}",
    )
