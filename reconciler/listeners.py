"""Listening TCP sockets at several addresses on one port, of the API and of the noVNC services.

`localhost` is both loopbacks; where the machine has no IPv6, it is the one. What goes wrong is said in the words of
whoever asked: `reconciler.api.sockets`, `reconciler.console.services`.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable

_NO_IPV6 = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}


class ListenError(OSError):
    """This address cannot be listened on; `errno` and `strerror` are the system's."""

    def __init__(self, address: str, cause: OSError) -> None:
        super().__init__(cause.errno, cause.strerror or str(cause))
        self.address = address


def listening(addresses: Iterable[str], port: int, backlog: int) -> tuple[socket.socket, ...]:
    """Sockets that listen on this port, or on one that the kernel chooses for port 0; all of them, or none.

    Only of the first address is IPv6 demanded. Raises ListenError.
    """
    opened: list[socket.socket] = []
    try:
        for address in addresses:
            chosen = opened[0].getsockname()[1] if opened else port
            try:
                opened.append(_listening(address, chosen, backlog))
            except OSError as error:
                if not opened or error.errno not in _NO_IPV6:
                    raise ListenError(address, error) from error
    except BaseException:
        for each in opened:
            each.close()
        raise
    return tuple(opened)


def _listening(address: str, port: int, backlog: int) -> socket.socket:
    family, kind, protocol, _, target = socket.getaddrinfo(
        address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(target)
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener
