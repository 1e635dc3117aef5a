"""Looking closer: the ends of a VM's logs, its screen, and the host that it runs on.

Next: `reconciler.control.inspector`, which looks.
"""

from __future__ import annotations

import re

import falcon

from reconciler import __version__
from reconciler.api import views
from reconciler.api.errors import ApiError, invalid
from reconciler.api.messages import Code, Text
from reconciler.api.operations import Operations
from reconciler.api.ports import BoardPort, InspectorPort
from reconciler.api.resources import send
from reconciler.model.errors import ReconcilerError
from reconciler.model.status import VMState

LOG_BYTES, LOG_BYTES_MAX = 64 * 1024, 256 * 1024
LOG_LINES_MAX = 10_000
_NUMBER = re.compile(r"[0-9]{1,9}\Z")


class Log:
    """`/api/vms/{name}/log`."""

    def __init__(self, operations: Operations, inspector: InspectorPort) -> None:
        self._operations = operations
        self._inspector = inspector

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """The ends of QEMU's and the serial console's logs: `?bytes=` of each, of these the last `?tail=` lines."""
        limit = _number(req, "bytes", LOG_BYTES, LOG_BYTES_MAX)
        lines = _number(req, "tail", LOG_LINES_MAX, LOG_LINES_MAX)
        self._operations.find(name)
        send(resp, {"success": True, "name": name, **views.logs(self._inspector.logs(name, limit, lines))})


class Screenshot:
    """`/api/vms/{name}/screenshot`."""

    def __init__(self, operations: Operations, inspector: InspectorPort) -> None:
        self._operations = operations
        self._inspector = inspector

    def on_get(self, _req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """What the running VM shows, as PNG."""
        if self._operations.find(name).process is None:
            raise ApiError(Code.VM_NOT_RUNNING)
        try:
            resp.data = self._inspector.screenshot(name)
        except (ReconcilerError, OSError) as error:
            if self._operations.find(name).process is None:  # it has ended meanwhile
                raise ApiError(Code.VM_NOT_RUNNING) from error
            raise ApiError(Code.VM_SCREENSHOT_FAILED, Text.same(str(error))) from error
        resp.content_type = "image/png"
        resp.set_header("Cache-Control", "no-store")


class Host:
    """`/api/host`."""

    def __init__(self, board: BoardPort, inspector: InspectorPort) -> None:
        self._board = board
        self._inspector = inspector

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """What the host has, and how it runs VMs."""
        shown = [status for status in self._board.all() if views.is_shown(status)]
        running = sum(status.state is VMState.RUNNING for status in shown)
        counts = {"vms": len(shown), "vmsRunning": running}
        host = {"agentVersion": __version__, **views.host(self._inspector.host()), **counts}
        send(resp, {"success": True, "host": host})


def _number(req: falcon.Request, name: str, default: int, most: int) -> int:
    """A number of the query, from 1 to `most`. Raises ApiError."""
    text = req.get_param(name)
    if text is None:
        return default
    number = int(text) if _NUMBER.match(text) else 0
    if not 1 <= number <= most:
        raise invalid(name, f"必须是 1 到 {most} 之间的整数", f"must be a whole number from 1 to {most}")
    return number
