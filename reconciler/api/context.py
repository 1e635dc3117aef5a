"""What is known of one request before its handler runs: its id, language and body; and its line in the log.

Next: `reconciler.api.access`, which decides whether the request may go on.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

import falcon

from reconciler.api import media
from reconciler.api.messages import Language, parse_language

log = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z")


@dataclass
class Call:
    """One request, as far as the handlers care."""

    request_id: str
    language: Language
    started_s: float
    body: media.JsonObject = field(default_factory=dict)


def call_of(req: falcon.Request) -> Call:
    """The call of this request. One that was refused before any middleware ran gets its own here."""
    call = getattr(req.context, "call", None)
    if not isinstance(call, Call):
        call = Call(request_id(None), Language.ZH, 0.0)
        req.context.call = call
    return call


def request_id(given: str | None) -> str:
    """The client's id, if it may stand in a log line, else one of our own."""
    return given if given and _REQUEST_ID.match(given) else secrets.token_hex(8)


class Identify:
    """Middleware, the outermost: gives the request its id and language, and writes the line in the log."""

    def __init__(self, default: Language, clock: Callable[[], float]) -> None:
        self._default = default
        self._clock = clock

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Before everything."""
        language = parse_language(req.get_param("lang")) or parse_language(req.get_header("X-Language"))
        call = Call(request_id(req.get_header("X-Request-Id")), language or self._default, self._clock())
        req.context.call = call
        resp.set_header("X-Request-Id", call.request_id)

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, _resource: object, _succeeded: bool
    ) -> None:
        """After everything, errors included."""
        call = call_of(req)
        level = logging.DEBUG if req.method in {"GET", "HEAD", "OPTIONS"} else logging.INFO
        if log.isEnabledFor(level):
            took_ms = (self._clock() - call.started_s) * 1000
            what = (req.method, req.path, resp.status, took_ms, call.request_id)
            log.log(level, "%s %r: %s in %.1f ms, request %s", *what)


class ReadBody:
    """Middleware, the innermost: the body is JSON or absent, whoever the handler is."""

    def process_request(self, req: falcon.Request, _resp: falcon.Response) -> None:
        """Read and decode. Raises falcon's 413 and 415, and BodyError."""
        length = req.content_length or 0
        if length == 0:
            return
        if length > media.BODY_MAX_BYTES:
            raise falcon.HTTPContentTooLarge
        if not media.is_json(req.content_type):
            raise falcon.HTTPUnsupportedMediaType
        call_of(req).body = media.decode(req.bounded_stream.read())
