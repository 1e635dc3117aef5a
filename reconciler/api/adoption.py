"""`/api/import`: a QEMU that somebody started by hand becomes a VM of this agent's.

Next: `reconciler.control.adoption`.
"""

from __future__ import annotations

import falcon

from reconciler.api import configuration, media, messages, views
from reconciler.api.context import call_of
from reconciler.api.errors import ApiError, from_os, invalid
from reconciler.api.messages import Code, Text
from reconciler.api.ports import AdoptedPort, AdoptionPort, ControllerPort
from reconciler.api.resources import LOOK_TIMEOUT_S, send, set_etag, terms_of
from reconciler.model.errors import ManifestError, ReconcilerError
from reconciler.model.status import VMStatus


class Import:
    """`/api/import`."""

    def __init__(self, controller: ControllerPort, adoption: AdoptionPort) -> None:
        self._controller = controller
        self._adoption = adoption

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Take over the QEMU behind a QMP socket: `{"qmp": …, "name": …}`."""
        body, dry_run = call_of(req).body, terms_of(req).dry_run
        name = configuration.name_of(body) if body.get("name") is not None else None
        socket = body.get("qmp")
        if not isinstance(socket, str) or not socket or "\0" in socket:
            raise invalid("qmp", "必须是 QMP 套接字的完整路径", "must be the whole path of a QMP socket")
        adopted = self._adopt(socket, name, dry_run=dry_run)
        status = None if dry_run else self._looked_at(adopted.vm.name)
        message = (messages.REHEARSED if dry_run else messages.IMPORTED).say(call_of(req).language)
        set_etag(resp, adopted.vm)
        rehearsal: media.JsonObject = {"dryRun": True} if dry_run else {}
        send(resp, {"success": True, "message": message} | rehearsal | _told(adopted, status))

    def _adopt(self, socket: str, name: str | None, *, dry_run: bool) -> AdoptedPort:
        try:
            return self._adoption.adopt(socket, name, dry_run=dry_run)
        except ManifestError:
            raise
        except ReconcilerError as error:
            raise ApiError(Code.VM_IMPORT_FAILED, Text.same(str(error))) from error
        except OSError as error:
            raise from_os(error) from error

    def _looked_at(self, name: str) -> VMStatus | None:
        ticket = self._controller.ask(name)
        return self._controller.board.wait_for(
            name, lambda status: status is not None and status.round > ticket, LOOK_TIMEOUT_S
        )


def _told(adopted: AdoptedPort, status: VMStatus | None) -> media.JsonObject:
    notes = [{"kind": n.kind.name, "place": n.place, "message": n.message} for n in adopted.notes]
    vm = views.brief(status) if status else None
    return {"name": adopted.vm.name, "manifest": adopted.vm.text, "vm": vm, "notes": notes}
