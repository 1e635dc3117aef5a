"""What there is behind each path: handlers of a few lines that ask, and hand what they got to a view.

Next: `reconciler.api.operations`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

import falcon

from reconciler.api import configuration, media, messages, views
from reconciler.api.context import call_of
from reconciler.api.errors import ApiError, from_os, invalid
from reconciler.api.messages import Code, Text
from reconciler.api.operations import Operations
from reconciler.api.ports import ControllerPort, ManifestsPort
from reconciler.api.writing import Result, Terms
from reconciler.model.errors import ConflictError, PreconditionError, ReconcilerError, StateError
from reconciler.model.vm import DesiredVM, Wanted, is_vm_name

YAML = "application/yaml"
LOOK_TIMEOUT_S = 5.0  # a look at a VM that is off takes a moment

_STRONG_TAG = re.compile(r'(?<!/)"([^"]*)"')


def send(resp: falcon.Response, body: media.JsonObject) -> None:
    """A JSON answer."""
    resp.content_type = media.CONTENT_TYPE
    resp.data = media.encode(body)


def set_etag(resp: falcon.Response, wanted: Wanted) -> None:
    """The version of the manifest, for the `If-Match` of a write to come."""
    if isinstance(wanted, DesiredVM):
        resp.set_header("ETag", f'"{wanted.generation}"')


def boolean_parameter(req: falcon.Request, name: str) -> bool:
    """A parameter of the query that is `true` or `false`, or not there. Raises ApiError."""
    match req.get_param(name):
        case None | "false":
            return False
        case "true":
            return True
    raise invalid(name, "必须是 true 或 false", "must be true or false")


def terms_of(req: falcon.Request) -> Terms:
    """`?dryRun=true` and `If-Match`. Raises ApiError."""
    header = req.get_header("If-Match")
    expect = None if header is None or header.strip() == "*" else frozenset(_STRONG_TAG.findall(header))
    return Terms(boolean_parameter(req, "dryRun"), expect)


def answer_write(
    req: falcon.Request, resp: falcon.Response, result: Result, message: messages.Text, **more: object
) -> None:
    """The answer to a write: what was reached; or, of a rehearsal, what would be done."""
    language = call_of(req).language
    set_etag(resp, result.wanted)
    if result.plan is None:
        send(resp, {"success": True, "message": message.say(language)} | more)
        return
    manifest = result.wanted.text if isinstance(result.wanted, DesiredVM) else None
    rehearsal: media.JsonObject = {"dryRun": True, "message": messages.REHEARSED.say(language)}
    send(resp, {"success": True} | more | rehearsal | {"manifest": manifest} | views.plan(result.plan))


def _brief(result: Result) -> media.JsonObject | None:
    return views.brief(result.status) if result.status else None


class VMs:
    """`/api/vms`."""

    def __init__(self, controller: ControllerPort, operations: Operations) -> None:
        self._controller = controller
        self._operations = operations
        self._list = views.VMList()

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Every VM of the manifests, and every VM that still runs without one."""
        seen = self._controller
        resp.content_type = media.CONTENT_TYPE
        resp.data = self._list.encode(seen.board.all(), seen.problems(), seen.held())

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Make a VM; `"start": true` starts it."""
        body = call_of(req).body
        name, start = configuration.name_of(body), configuration.flag(body, "start")
        asked = configuration.read(body, own={"name", "start"})
        result = self._operations.create(name, asked, terms_of(req), start=start)
        vm = views.vm(result.status) if result.status else None
        resp.status = 200 if result.plan else 201
        answer_write(req, resp, result, messages.CREATED, vm=vm, ignoredFields=list(asked.ignored))


class VM:
    """`/api/vms/{name}`."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def on_get(self, _req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """One VM, in full. Its ETag is the version of its manifest."""
        status = self._operations.find(name)
        set_etag(resp, status.desired)
        send(resp, {"success": True, "vm": views.vm_in_full(status)})

    def on_delete(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Take the VM away; `?purge=true` deletes its disks as well."""
        configuration.check_metadata(call_of(req).body)
        result = self._operations.delete(name, terms_of(req), purge=boolean_parameter(req, "purge"))
        answer_write(req, resp, result, messages.DELETED)


class Start:
    """`/api/vms/{name}/start`."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def on_post(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Set `state: running`, and see the VM run."""
        result = self._operations.start(name, terms_of(req))
        answer_write(req, resp, result, messages.STARTED, vm=_brief(result))


class Stop:
    """`/api/vms/{name}/stop`."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def on_post(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Set `state: stopped`, and see the VM stop; `{"force": true}` is the power cut."""
        force = configuration.flag(call_of(req).body, "force")
        answer_write(req, resp, self._operations.stop(name, terms_of(req), force=force), messages.STOPPED)


class Restart:
    """`/api/vms/{name}/restart`."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def on_post(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Write a new `restartedAt`, and see another process run."""
        configuration.check_metadata(call_of(req).body)
        result = self._operations.restart(name, terms_of(req))
        vm = _brief(result)
        if vm is not None and result.status:
            vm["startTime"] = views.time(result.status.started_at)
        answer_write(req, resp, result, messages.restarted(name), vm=vm)


class Recreate:
    """`/api/vms/{name}/recreate`."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def on_post(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Stop the VM, give it a blank root disk, and start it again if it shall run."""
        result = self._operations.recreate(name, terms_of(req))
        answer_write(req, resp, result, messages.RECREATED, vm=_brief(result))


class Config:
    """`/vms/{name}/config` and `/api/vms/{name}/config`."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def on_put(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Change any of the manifest's fields; `config` is what results."""
        body = call_of(req).body
        configuration.must_be_named(body, name)
        asked = configuration.read(body, own={"name"})
        result = self._operations.configure(name, asked, terms_of(req))
        more: media.JsonObject = {"ignoredFields": list(asked.ignored)}
        if result.plan:
            more["requiresRestart"] = bool(result.plan.pending)
        elif result.status:
            more["requiresRestart"] = views.requires_restart(result.status)
        port = result.status.vnc_port if result.status else None
        spec = result.wanted.spec if isinstance(result.wanted, DesiredVM) else None
        answer_write(req, resp, result, messages.configured(name), config=views.config(spec, port), **more)


class ToggleMountIso:
    """`/api/vms/{name}/toggleMountIso`."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def on_post(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Put the ISO into the drive, or take it out."""
        mount = call_of(req).body.get("mountStatus")
        if not isinstance(mount, bool):
            raise invalid("mountStatus", "必须是布尔值", "must be true or false")
        result = self._operations.toggle_iso(name, terms_of(req), mount=mount)
        vm = {"name": name, "isMountIso": mount}
        answer_write(req, resp, result, messages.iso_toggled(name, mounted=mount), vm=vm)


class Manifest:
    """`/api/vms/{name}/manifest`."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """The manifest as the agent last read it; as YAML for who accepts `application/yaml` rather."""
        vm = self._operations.find(name).desired
        if vm is None:
            raise ApiError(Code.MANIFEST_INVALID, messages.NO_MANIFEST)
        set_etag(resp, vm)
        resp.append_header("Vary", "Accept")
        if req.client_prefers((media.CONTENT_TYPE, YAML)) == YAML:
            resp.content_type = YAML
            resp.data = vm.text.encode()
        else:
            send(resp, {"success": True, **configuration.full(vm)})


class Pending:
    """`/api/vms/{name}/pending`."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def on_get(self, _req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """What waits for a restart: each field, from what to what."""
        status = self._operations.find(name)
        pending = [views.pending(change) for change in status.pending]
        body: media.JsonObject = {"requiresRestart": views.requires_restart(status), "pending": pending}
        send(resp, {"success": True} | body)


class PlanOf:
    """`/api/vms/{name}/plan`."""

    def __init__(self, controller: ControllerPort, operations: Operations) -> None:
        self._controller = controller
        self._operations = operations

    def on_get(self, _req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """What a round would do now; nothing is done."""
        self._operations.find(name)
        plan = self._controller.preview(name, self._controller.wanted(name))
        send(resp, {"success": True, **views.plan(plan)})


class Explain:
    """`/api/vms/{name}/explain`."""

    def __init__(self, controller: ControllerPort, operations: Operations) -> None:
        self._controller = controller
        self._operations = operations

    def on_get(self, _req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Every field: what the manifest says, what was launched, what QEMU says, and how a change gets there."""
        self._operations.find(name)
        fields = [views.explained(field) for field in self._controller.explain(name)]
        send(resp, {"success": True, "name": name, "fields": fields})


class Restore:
    """`/api/vms/{name}/restore`."""

    def __init__(self, manifests: ManifestsPort) -> None:
        self._manifests = manifests

    def on_post(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Bring back the VM of this name that was set aside last."""
        dry_run = terms_of(req).dry_run
        if not is_vm_name(name):
            raise ApiError(Code.VM_NOT_FOUND)
        try:
            self._manifests.restore(name, dry_run=dry_run)
        except ReconcilerError as error:
            raise ApiError(Code.VM_RESTORE_FAILED, Text.same(str(error))) from error
        except OSError as error:
            raise from_os(error) from error
        send(resp, _outcome(req, messages.RESTORED, dry_run=dry_run))


class Rename:
    """`/api/vms/{name}/rename`."""

    def __init__(self, controller: ControllerPort, manifests: ManifestsPort) -> None:
        self._controller = controller
        self._manifests = manifests

    def on_post(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Give a VM that is off another name: `{"newName": …}`."""
        new, terms = configuration.name_of(call_of(req).body, "newName"), terms_of(req)
        if not is_vm_name(name) or self._controller.wanted(name) is None:
            raise ApiError(Code.VM_NOT_FOUND)
        renamed = self._rename(name, new, terms)
        set_etag(resp, renamed)
        if not terms.dry_run:
            self._controller.ask(name)
            self._controller.ask(new)
            self._controller.board.wait_for(new, lambda status: status is not None, LOOK_TIMEOUT_S)
        send(resp, _outcome(req, messages.renamed(name, new), dry_run=terms.dry_run) | {"name": new})

    def _rename(self, name: str, new: str, terms: Terms) -> DesiredVM:
        try:
            return self._manifests.rename(name, new, expect=terms.expect, dry_run=terms.dry_run)
        except PreconditionError as error:
            raise ApiError(Code.PRECONDITION_FAILED, extra={"generation": error.now}) from error
        except (StateError, ConflictError) as error:
            raise ApiError(Code.VM_RENAME_FAILED, Text.same(str(error))) from error
        except OSError as error:
            raise from_os(error) from error


class Prune:
    """`/api/prune`."""

    def __init__(self, controller: ControllerPort) -> None:
        self._controller = controller

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Let the held removals of exactly these VMs happen: `{"names": [...]}`."""
        dry_run = terms_of(req).dry_run
        names = _names(call_of(req).body.get("names"))
        released = self._controller.confirm_prune(names, dry_run=dry_run)
        message = messages.PRUNED if released else messages.NOTHING_HELD
        send(resp, _outcome(req, message, dry_run=dry_run) | {"released": list(released)})


def _outcome(req: falcon.Request, message: Text, *, dry_run: bool) -> media.JsonObject:
    said = (messages.REHEARSED if dry_run else message).say(call_of(req).language)
    return {"success": True, "message": said} | ({"dryRun": True} if dry_run else {})


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
