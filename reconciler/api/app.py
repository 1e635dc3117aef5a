"""The WSGI application: routes, middleware and error handlers, put together once.

Middleware runs in this order: `Identify` (id, language, log), `Gate` (Host, Origin, token), `ReadBody`.
Next: `reconciler.api.context`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import falcon

from reconciler.api import adoption, docs, errors, inspection, novnc, pages, resources
from reconciler.api.access import Access, Gate
from reconciler.api.context import Identify, ReadBody
from reconciler.api.messages import Language
from reconciler.api.operations import Operations
from reconciler.api.ports import Backend


@dataclass(frozen=True)
class Services:
    """What the API is made of. `clock` counts seconds and is used for the durations in the log."""

    backend: Backend
    access: Access
    language: Language
    clock: Callable[[], float]


def create_app(services: Services) -> errors.App:
    """The API as a WSGI application."""
    app: errors.App = falcon.App(
        middleware=[Identify(services.language, services.clock), Gate(services.access), ReadBody()]
    )
    app.req_options.strip_url_path_trailing_slash = True
    app.req_options.auto_parse_qs_csv = False
    errors.install(app)
    _add_routes(app, services.backend)
    return app


def _add_routes(app: errors.App, backend: Backend) -> None:
    controller = backend.controller
    operations = Operations(controller, backend.manifests)
    config = resources.Config(operations)
    app.add_route("/api/vms", resources.VMs(controller, operations))
    app.add_route("/api/vms/{name}", resources.VM(operations))
    app.add_route("/api/vms/{name}/start", resources.Start(operations))
    app.add_route("/api/vms/{name}/stop", resources.Stop(operations))
    app.add_route("/api/vms/{name}/restart", resources.Restart(operations))
    app.add_route("/api/vms/{name}/recreate", resources.Recreate(operations))
    app.add_route("/api/vms/{name}/rename", resources.Rename(controller, backend.manifests))
    app.add_route("/vms/{name}/config", config)
    app.add_route("/api/vms/{name}/config", config)
    app.add_route("/api/vms/{name}/toggleMountIso", resources.ToggleMountIso(operations))
    app.add_route("/api/vms/{name}/manifest", resources.Manifest(operations))
    app.add_route("/api/vms/{name}/pending", resources.Pending(operations))
    app.add_route("/api/vms/{name}/explain", resources.Explain(controller, operations))
    app.add_route("/api/vms/{name}/plan", resources.PlanOf(controller, operations))
    app.add_route("/api/vms/{name}/restore", resources.Restore(backend.manifests))
    app.add_route("/api/prune", resources.Prune(controller))
    app.add_route("/api/import", adoption.Import(controller, backend.adoption))
    app.add_route("/api/vms/{name}/log", inspection.Log(operations, backend.inspector))
    app.add_route("/api/vms/{name}/screenshot", inspection.Screenshot(operations, backend.inspector))
    app.add_route("/api/host", inspection.Host(controller.board, backend.inspector))
    app.add_route("/api/novnc", novnc.NoVNC(controller.board, backend.consoles))
    app.add_route("/api/novnc/{name}", novnc.NoVNCOf(operations, backend.consoles))
    app.add_route(pages.HOME, pages.Home())
    for path in pages.CONSOLES:
        app.add_route(path, pages.Page(path))
    app.add_route(docs.DOCUMENT_PATH, docs.Document())
    for path in docs.DOCS:
        app.add_route(path, docs.DocsPage(path))
    app.add_route("/healthz", resources.Health())
    app.add_route("/readyz", resources.Ready(controller))
