"""waitress with explicit limits, on our own sockets: its defaults are every address and bodies of 1 GiB.

What waitress refuses before the application sees it (a broken request, one too large) leaves in the
documented shape as well. Built, started and closed by `reconciler.agent`.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from waitress import wasyncore  # type: ignore[import-untyped]
from waitress.channel import HTTPChannel  # type: ignore[import-untyped]
from waitress.server import BaseWSGIServer, create_server  # type: ignore[import-untyped]
from waitress.task import ErrorTask, ThreadedTaskDispatcher  # type: ignore[import-untyped]
from waitress.trigger import trigger  # type: ignore[import-untyped]

from reconciler.api import media
from reconciler.api.access import access_of
from reconciler.api.app import Services, create_app
from reconciler.api.errors import ApiError, App, Detail
from reconciler.api.listen import UNIX, Listening
from reconciler.api.messages import Code, Language, Text
from reconciler.api.ports import Backend
from reconciler.api.resources import forwarded_ports
from reconciler.api.sockets import open_sockets
from reconciler.api.unix_socket import UnixSocket, by_file
from reconciler.model.errors import SettingsError
from reconciler.peers import Doorkeeper, GuestPeers
from reconciler.settings import Settings

log = logging.getLogger(__name__)

THREADS = 64
LIMITS = {
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
        listening = Listening.parse(settings.listen)
        if listening.beyond and settings.token_file is None:
            raise SettingsError(
                f"listen: {settings.listen} can be reached from other machines, so it needs a token: "
                "name its file with --token-file (`openssl rand -hex 32` makes one), or listen on localhost"
            )
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # else a warning for every queued request
        self._opened = _open(listening)
        self._map: dict[int, Any] = {}  # waitress's own: descriptor → what watches it
        self._tasks = ThreadedTaskDispatcher()
        self._tasks.set_thread_count(THREADS)
        self._serve_on(self._opened.tcp, app)
        self._serve_on([each.socket for each in self._opened.unix], by_file(app, self._web_url()))
        self._wake = trigger(self._map)
        self._ended = False
        doorkeeper = Doorkeeper(GuestPeers(settings.qemu_uid, settings.qemu_binary), "the API")
        for listener in self._listeners():
            listener.channel_class = _channel_class(language)
            listener.accept = _admitting(listener.accept, doorkeeper)
        self._thread = threading.Thread(target=self._serve, name="api", daemon=True)
        self.addresses = self._opened.addresses
        """Where it listens, as the command line's --server takes it; the first is the one to tell people."""

    def _serve_on(self, sockets: list[socket.socket], app: Any) -> None:
        """Have waitress answer on these, which are all of one kind: it does not mix them itself."""
        if sockets:
            create_server(app, map=self._map, _dispatcher=self._tasks, sockets=sockets, **LIMITS)

    def _web_url(self) -> str | None:
        return next((each for each in self._opened.addresses if not each.startswith(UNIX)), None)

    @property
    def address(self) -> str:
        """The first of its addresses."""
        return self.addresses[0]

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def answers(self, timeout_s: float) -> bool:
        """Whether its loop turns, and a thread is free for a request within so many seconds."""
        sign = _SignOfLife(threading.Event())
        self._wake.pull_trigger(lambda: self._tasks.add_task(sign))
        return sign.taken.wait(timeout_s)

    def close(self) -> None:
        """Accept no more, finish what is being answered if that is soon, and end."""
        for each in self._opened.unix:
            each.remove()
        if self._thread.is_alive():
            self._wake.pull_trigger(self._accept_no_more)
            self._tasks.shutdown(timeout=DRAIN_S)
            self._wake.pull_trigger(self._end)
            self._thread.join()
        else:
            self._tasks.shutdown(timeout=DRAIN_S)
        wasyncore.close_all(self._map, ignore_all=True)  # the trigger too, which nobody pulls any more

    def _end(self) -> None:
        self._ended = True

    def _accept_no_more(self) -> None:
        for listener in self._listeners():
            listener.accepting = False

    def _listeners(self) -> list[Any]:
        return [each for each in self._map.values() if isinstance(each, BaseWSGIServer)]

    def _serve(self) -> None:
        try:
            while not self._ended:
                wasyncore.loop(timeout=1.0, use_poll=True, map=self._map, count=1)
        except Exception:
            log.critical("the API broke off; the VMs are looked after still", exc_info=True)


@dataclass(frozen=True)
class _SignOfLife:
    """A task for waitress's threads that does nothing but tell that one took it."""

    taken: threading.Event

    def service(self) -> None:
        """Called by the thread that took it."""
        self.taken.set()

    def cancel(self) -> None:
        """Called where the server ends first."""


@dataclass(frozen=True)
class _Opened:
    """The sockets, and where they can be reached."""

    tcp: list[socket.socket]
    unix: list[UnixSocket]
    addresses: tuple[str, ...]


def _open(listening: Listening) -> _Opened:
    """Open all that is to be listened on, or nothing. Raises SettingsError."""
    tcp: list[socket.socket] = []
    unix: list[UnixSocket] = []
    addresses: list[str] = []
    with ExitStack() as opened:
        for listen in listening.tcp:
            sockets = open_sockets(listen)
            tcp += sockets
            addresses.append(listen.url(sockets[0].getsockname()[1]))
            for each in sockets:
                opened.enter_context(each)
        for path in listening.unix:
            unix.append(UnixSocket(path))
            addresses.append(path.url)
            opened.callback(unix[-1].close)
        opened.pop_all()
    return _Opened(tcp, unix, tuple(addresses))


def _admitting(accept: Callable[[], Any], doorkeeper: Doorkeeper) -> Callable[[], Any]:
    """waitress's `accept`, for which those who are not let in never came."""

    def admitted() -> Any:
        accepted = accept()
        if accepted is None or doorkeeper.admits(accepted[0]):
            return accepted
        accepted[0].close()
        return None

    return admitted


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
