"""A UNIX socket that the API listens on: its file's permissions decide who may use it, so no token does.

Made for its owner alone. One that a dead agent left is replaced; anything else at its path is not touched.
Next: `reconciler.api.sockets`, for the others.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from reconciler.api.listen import UnixListen
from reconciler.api.sockets import BACKLOG
from reconciler.model.errors import SettingsError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

MODE = 0o600
PROBE_TIMEOUT_S = 2.0  # one that takes connections this slowly is alive

BY_FILE = "reconciler.by_unix_socket"
WEB_URL = "reconciler.web_url"
"""Set in the WSGI environment of requests that came this way; no header can have this name."""


class UnixSocket:
    """Listens, once made; `remove` takes its file away. Raises SettingsError that says what is in the way."""

    def __init__(self, listen: UnixListen) -> None:
        self.listen = listen
        try:
            _remove_stale(listen)
            self.socket = _listen(listen)
            self._inode = listen.path.stat().st_ino
        except OSError as error:
            raise SettingsError(
                f"listen: {listen.url}: cannot listen there: {error.strerror or error}; "
                "choose a path in a directory that is there and writable"
            ) from error

    def close(self) -> None:
        """Listen no more."""
        self.remove()
        self.socket.close()

    def remove(self) -> None:
        """Take the file away, unless another program has put its own there."""
        with suppress(OSError):
            if self.listen.path.stat().st_ino == self._inode:
                self.listen.path.unlink()


def by_file(app: WSGIApplication, web_url: str | None) -> WSGIApplication:
    """The application for requests that came through a UNIX socket; browsers reach it at `web_url`, if they do."""

    def call(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ[BY_FILE] = True
        environ[WEB_URL] = web_url
        return app(environ, start_response)

    return call


def _listen(listen: UnixListen) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(listener.fileno(), MODE)  # before there is a file: it never is anybody else's
        listener.bind(os.fspath(listen.path))
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_stale(listen: UnixListen) -> None:
    """Make way, where a socket is left that nobody listens on. Raises SettingsError, OSError."""
    try:
        kind = listen.path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise SettingsError(f"listen: {listen.path} is there already and is no socket; choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_TIMEOUT_S)
        try:
            probe.connect(os.fspath(listen.path))
        except ConnectionRefusedError:
            listen.path.unlink()
            return
        except TimeoutError:
            pass
    raise SettingsError(
        f"listen: {listen.url}: another agent or another program listens there; end it, or choose another path"
    )
