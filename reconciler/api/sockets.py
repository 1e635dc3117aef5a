"""The sockets that the API listens on: bound by us, so that what goes wrong can be said in our words.

Used by `reconciler.api.server` and, to see whether the port is free, by `reconciler doctor`. Next:
`reconciler.listeners`.
"""

from __future__ import annotations

import errno
import socket

from reconciler.api.listen import Listen
from reconciler.listeners import ListenError, listening
from reconciler.model.errors import SettingsError

BACKLOG = 128
PAIR_ATTEMPTS = 20  # to find one port that is free on both loopbacks, where the kernel chooses


def open_sockets(listen: Listen) -> tuple[socket.socket, ...]:
    """Listening sockets, all on one port. Raises SettingsError that says what is in the way."""
    for attempt in range(PAIR_ATTEMPTS):
        try:
            return listening(listen.addresses(), listen.port, BACKLOG)
        except ListenError as error:
            retry = listen.port == 0 and error.errno == errno.EADDRINUSE and attempt < PAIR_ATTEMPTS - 1
            if not retry:
                raise _explained(listen, error) from error
    raise AssertionError("the last attempt returns or raises")


def _explained(listen: Listen, error: ListenError) -> SettingsError:
    where = f"listen: {listen.host}:{listen.port}"
    match error.errno:
        case errno.EADDRINUSE:
            return SettingsError(
                f"{where}: port {listen.port} is taken, by another agent or another program "
                f"(`ss -ltnp 'sport = :{listen.port}'` names it); choose another with --listen HOST:PORT"
            )
        case errno.EACCES:
            return SettingsError(
                f"{where}: ports below 1024 need privileges; choose a higher one with --listen"
            )
        case _:
            reason = error.strerror or str(error)
            return SettingsError(
                f"{where}: cannot listen there: {reason}; choose another with --listen HOST:PORT"
            )
