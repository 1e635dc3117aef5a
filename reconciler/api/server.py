"""waitress with explicit limits, on our own sockets: its defaults are every address and bodies of 1 GiB.

What waitress refuses before the application sees it (a broken request, one too large) leaves in the
documented shape as well. Built, started and closed by `reconciler.agent`.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from waitress import wasyncore  # type: ignore[import-untyped]
from waitress.channel import HTTPChannel  # type: ignore[import-untyped]
from waitress.server import BaseWSGIServer, create_server  # type: ignore[import-untyped]
from waitress.task import ErrorTask  # type: ignore[import-untyped]
from waitress.trigger import trigger  # type: ignore[import-untyped]

from reconciler.api import media
from reconciler.api.access import access_of
from reconciler.api.app import Services, create_app
from reconciler.api.errors import ApiError, App, Detail
from reconciler.api.listen import Listen
from reconciler.api.messages import Code, Language, Text
from reconciler.api.ports import Backend
from reconciler.api.resources import forwarded_ports
from reconciler.api.sockets import open_sockets
from reconciler.model.errors import SettingsError
from reconciler.settings import Settings

log = logging.getLogger(__name__)

LIMITS = {
    "threads": 64,
    "connection_limit": 100,
    "channel_timeout": 30,  # s
    "max_request_body_size": media.BODY_MAX_BYTES + 1,  # waitress refuses from this size on
    "max_request_header_size": 16 * 1024,
    "expose_tracebacks": False,
    "ident": None,
    "asyncore_use_poll": True,  # select() knows no descriptor above 1023, and 200 VMs bring more
}
DRAIN_S = 2  # answers under way when the server closes get this long


def build(backend: Backend, settings: Settings) -> Server:
    """The API of this agent, bound and not yet started. Raises SettingsError."""
    language = Language(settings.language)
    access = access_of(settings, forwarded_ports(backend.controller))
    app = create_app(Services(backend, access, language, time.monotonic))
    return Server(app, settings, language)


class Server:
    """The listening API. Raises SettingsError where it cannot or must not listen as the settings say."""

    def __init__(self, app: App, settings: Settings, language: Language) -> None:
        listen = Listen.parse(settings.listen)
        if not listen.is_loopback and settings.token_file is None:
            raise SettingsError(
                f"listen: {settings.listen} can be reached from other machines, so it needs a token: "
                "name its file with --token-file (`openssl rand -hex 32` makes one), or listen on localhost"
            )
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # else a warning for every queued request
        self._sockets = open_sockets(listen)
        self._map: dict[int, Any] = {}  # waitress's own: descriptor → what watches it
        self._server = create_server(app, map=self._map, sockets=list(self._sockets), **LIMITS)
        self._wake = trigger(self._map)
        for listener in self._listeners():
            listener.channel_class = _channel_class(language)
        self._thread = threading.Thread(target=self._serve, name="api", daemon=True)
        self.address = listen.url(self._sockets[0].getsockname()[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Accept no more, finish what is being answered if that is soon, and end."""
        if self._thread.is_alive():
            self._wake.pull_trigger(self._accept_no_more)
            self._server.task_dispatcher.shutdown(timeout=DRAIN_S)
            self._wake.pull_trigger(lambda: wasyncore.close_all(self._map, ignore_all=True))
            self._thread.join()
        else:
            self._server.task_dispatcher.shutdown(timeout=DRAIN_S)
            wasyncore.close_all(self._map, ignore_all=True)

    def _accept_no_more(self) -> None:
        for listener in self._listeners():
            listener.accepting = False

    def _listeners(self) -> list[Any]:
        return [each for each in self._map.values() if isinstance(each, BaseWSGIServer)]

    def _serve(self) -> None:
        try:
            wasyncore.loop(timeout=1.0, use_poll=True, map=self._map)
        except Exception:
            log.critical("the API broke off; the VMs are looked after still", exc_info=True)


def _channel_class(language: Language) -> type:
    """A channel that words waitress's own refusals as the API does."""

    class Refusal(ErrorTask):  # type: ignore[misc]
        def execute(self) -> None:
            found = self.request.error
            code = Code.TOO_LARGE if found.code == 413 else Code.INVALID_REQUEST_PARAMS
            details = () if code is Code.TOO_LARGE else (Detail("", Text.same(str(found.body))),)
            body = media.encode(ApiError(code, details=details).body(language))
            self.status = f"{found.code} {found.reason}"
            self.response_headers.append(("Content-Type", media.CONTENT_TYPE))
            self.set_close_on_finish()
            self.content_length = len(body)
            self.write(body)

    class Channel(HTTPChannel):  # type: ignore[misc]
        error_task_class = Refusal

    return Channel
