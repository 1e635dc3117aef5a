"""What there is behind each path: handlers of a few lines that ask, and hand what they got to a view.

Next: `reconciler.api.operations`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import falcon

from reconciler.api import media, messages, views
from reconciler.api.context import call_of
from reconciler.api.errors import ApiError, from_os, invalid
from reconciler.api.messages import Code, Text
from reconciler.api.operations import Operations
from reconciler.api.ports import ControllerPort
from reconciler.api.table import START, STOP
from reconciler.model.errors import ReconcilerError
from reconciler.model.vm import is_vm_name


def send(resp: falcon.Response, body: media.JsonObject) -> None:
    """A JSON answer."""
    resp.content_type = media.CONTENT_TYPE
    resp.data = media.encode(body)


class VMs:
    """`/api/vms`."""

    def __init__(self, controller: ControllerPort) -> None:
        self._controller = controller
        self._list = views.VMList()

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Every VM of the manifests, and every VM that still runs without one."""
        seen = self._controller
        resp.content_type = media.CONTENT_TYPE
        resp.data = self._list.encode(seen.board.all(), seen.problems(), seen.held())


class VM:
    """`/api/vms/{name}`."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def on_get(self, _req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """One VM, in full."""
        send(resp, {"success": True, "vm": views.vm_in_full(self._operations.find(name))})


class Start:
    """`/api/vms/{name}/start`."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def on_post(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Set `state: running`, and see the VM run."""
        status = self._operations.run(START, name)
        message = START.success.say(call_of(req).language)
        send(resp, {"success": True, "message": message, "vm": views.brief(status) if status else None})


class Stop:
    """`/api/vms/{name}/stop`."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def on_post(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Set `state: stopped`, and see the VM stop; `{"force": true}` is the power cut."""
        call = call_of(req)
        force = call.body.get("force", False)
        if not isinstance(force, bool):
            raise invalid("force", "必须是布尔值", "must be true or false")
        self._operations.run(STOP, name, force=force)
        send(resp, {"success": True, "message": STOP.success.say(call.language)})


class Restore:
    """`/api/vms/{name}/restore`."""

    def __init__(self, controller: ControllerPort) -> None:
        self._controller = controller

    def on_post(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Bring back the VM of this name that was set aside last."""
        if not is_vm_name(name):
            raise ApiError(Code.VM_NOT_FOUND)
        try:
            self._controller.restore(name)
        except ReconcilerError as error:
            raise ApiError(Code.VM_RESTORE_FAILED, Text.same(str(error))) from error
        except OSError as error:
            raise from_os(error) from error
        send(resp, {"success": True, "message": messages.RESTORED.say(call_of(req).language)})


class Prune:
    """`/api/prune`."""

    def __init__(self, controller: ControllerPort) -> None:
        self._controller = controller

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Let the held removals of exactly these VMs happen: `{"names": [...]}`."""
        call = call_of(req)
        released = self._controller.confirm_prune(_names(call.body.get("names")))
        message = messages.PRUNED.say(call.language)
        send(resp, {"success": True, "message": message, "released": list(released)})


def _names(given: object) -> list[str]:
    if not isinstance(given, list) or not given:
        raise invalid("names", "必须是非空的虚拟机名称数组", "must be an array of VM names, and not empty")
    for name in given:
        if not isinstance(name, str) or not is_vm_name(name):
            raise invalid("names", f"{name!r} 不是虚拟机名称", f"{name!r} is no VM name")
    return given


class Health:
    """`/healthz`: the process answers."""

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Always well, if anybody can ask."""
        send(resp, {"success": True, "status": "alive"})


class Ready:
    """`/readyz`: the answers are worth something."""

    def __init__(self, controller: ControllerPort) -> None:
        self._controller = controller

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Well once the manifests were read and every VM was looked at."""
        if not self._controller.ready():
            raise ApiError(Code.NOT_READY)
        send(resp, {"success": True, "status": "ready"})


def forwarded_ports(controller: ControllerPort) -> Callable[[], Collection[int]]:
    """The host's ports that lead into guests, asked for at each call."""

    def ports() -> Collection[int]:
        return {port for status in controller.board.all() for port in status.forwarded_ports}

    return ports
