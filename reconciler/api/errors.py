"""Every error leaves the API in the one documented shape; a 500 shows no traceback, the log keeps it.

    {"success": false, "error": "…", "code": "VM_NOT_FOUND", "details": [{"field": "…", "message": "…"}]}

`details` where there are fields to name. `install` gives falcon the handlers. Next: `reconciler.api.app`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import falcon

from reconciler.api import media
from reconciler.api.context import call_of
from reconciler.api.messages import Code, Language, Text
from reconciler.model.errors import ManifestError

log = logging.getLogger(__name__)

App = falcon.App[falcon.Request, falcon.Response]
Params = dict[str, object]


@dataclass(frozen=True)
class Detail:
    """One field, and what is wrong with it."""

    field: str
    message: Text


class ApiError(Exception):
    """A request that is refused or failed. `reason` follows the code's message, `extra` are more members."""

    def __init__(
        self,
        code: Code,
        reason: Text | None = None,
        *,
        details: tuple[Detail, ...] = (),
        extra: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(code.name)
        self.code = code
        self.reason = reason
        self.details = details
        self.extra = extra or {}

    def body(self, language: Language) -> media.JsonObject:
        """The answer, in one language."""
        text = self.code.text if self.reason is None else self.code.text + Text(": ", ": ") + self.reason
        body: media.JsonObject = {"success": False, "error": text.say(language), "code": self.code.name}
        if self.details:
            body["details"] = [{"field": d.field, "message": d.message.say(language)} for d in self.details]
        return body | dict(self.extra)


def invalid(field: str, zh: str, en: str) -> ApiError:
    """INVALID_REQUEST_PARAMS that names one field."""
    return ApiError(Code.INVALID_REQUEST_PARAMS, details=(Detail(field, Text(zh, en)),))


def from_manifest(error: ManifestError) -> ApiError:
    """MANIFEST_INVALID that says where."""
    details = tuple(Detail(p.field, Text.same(str(p))) for p in error.problems)
    return ApiError(Code.MANIFEST_INVALID, Text.same(str(error.problems[0])), details=details)


def from_os(error: OSError) -> ApiError:
    """INTERNAL_SERVER_ERROR that says which file could not be written and why: a full file system, say."""
    why = Text.same(error.strerror or str(error))
    return ApiError(Code.INTERNAL_SERVER_ERROR, details=(Detail(str(error.filename or ""), why),))


def install(app: App) -> None:
    """Make every error of `app` leave in the documented shape."""
    app.add_error_handler(Exception, _unforeseen)
    app.add_error_handler(ApiError, _foreseen)
    app.add_error_handler(media.BodyError, _bad_body)
    app.add_error_handler(ManifestError, _bad_manifest)
    app.add_error_handler(falcon.HTTPError, _of_falcon)


def answer(req: falcon.Request, resp: falcon.Response, error: ApiError) -> None:
    """Write an error as the response."""
    resp.status = error.code.status
    resp.content_type = media.CONTENT_TYPE
    resp.data = media.encode(error.body(call_of(req).language))
    if error.code is Code.UNAUTHORIZED:
        resp.set_header("WWW-Authenticate", "Bearer")


def _foreseen(req: falcon.Request, resp: falcon.Response, error: ApiError, _params: Params) -> None:
    if error.code is Code.INTERNAL_SERVER_ERROR:
        log.error("%s %r failed, request %s", req.method, req.path, call_of(req).request_id, exc_info=error)
    answer(req, resp, error)


def _bad_body(req: falcon.Request, resp: falcon.Response, error: media.BodyError, _params: Params) -> None:
    answer(req, resp, ApiError(Code.INVALID_REQUEST_PARAMS, details=(Detail("", Text.same(str(error))),)))


def _bad_manifest(req: falcon.Request, resp: falcon.Response, error: ManifestError, _params: Params) -> None:
    answer(req, resp, from_manifest(error))


def _of_falcon(req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, _params: Params) -> None:
    """Falcon's own: no such path, no such method, a body or a request that it refuses."""
    codes = {
        404: Code.NOT_FOUND,
        405: Code.METHOD_NOT_ALLOWED,
        413: Code.TOO_LARGE,
        415: Code.UNSUPPORTED_MEDIA_TYPE,
    }
    if error.headers:
        resp.set_headers(error.headers)
    if code := codes.get(error.status_code):
        answer(req, resp, ApiError(code))
    else:
        words = Text.same(error.description or error.title or "")
        answer(req, resp, ApiError(Code.INVALID_REQUEST_PARAMS, details=(Detail("", words),)))


def _unforeseen(req: falcon.Request, resp: falcon.Response, error: Exception, _params: Params) -> None:
    log.error("%s %r failed, request %s", req.method, req.path, call_of(req).request_id, exc_info=error)
    answer(req, resp, ApiError(Code.INTERNAL_SERVER_ERROR))
