"""The sockets that the API listens on: bound by us, so that what goes wrong can be said in our words.

`localhost` is both loopbacks on one port; where the machine has no IPv6 it is the one. Used by
`reconciler.api.server` and, to see whether the port is free, by `reconciler doctor`.
"""

from __future__ import annotations

import errno
import socket

from reconciler.api.listen import Listen
from reconciler.model.errors import SettingsError

BACKLOG = 128
PAIR_ATTEMPTS = 20  # to find one port that is free on both loopbacks, where the kernel chooses

_NO_IPV6 = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}


def open_sockets(listen: Listen) -> tuple[socket.socket, ...]:
    """Listening sockets, all on one port. Raises SettingsError that says what is in the way."""
    for attempt in range(PAIR_ATTEMPTS):
        try:
            return _open_all(listen)
        except OSError as error:
            retry = listen.port == 0 and error.errno == errno.EADDRINUSE and attempt < PAIR_ATTEMPTS - 1
            if not retry:
                raise _explained(listen, error) from error
    raise AssertionError("the last attempt returns or raises")


def _open_all(listen: Listen) -> tuple[socket.socket, ...]:
    opened: list[socket.socket] = []
    try:
        for address in listen.addresses():
            port = opened[0].getsockname()[1] if opened else listen.port
            try:
                opened.append(_open(address, port))
            except OSError as error:
                if not opened or error.errno not in _NO_IPV6:
                    raise
    except BaseException:
        for each in opened:
            each.close()
        raise
    return tuple(opened)


def _open(address: str, port: int) -> socket.socket:
    family, kind, protocol, _, target = socket.getaddrinfo(
        address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(target)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _explained(listen: Listen, error: OSError) -> SettingsError:
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
