"""The sockets that QEMU serves, made and listened on by the agent, which hands them over as descriptors.

So they may lie in a directory that QEMU's own user cannot enter, and the agent can connect before QEMU runs:
nothing polls for a socket to appear. Close the agent's copies after the spawn: while one is open, a dead
QEMU's socket would still take connections, and never answer.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from reconciler.layout import SUN_PATH_MAX, SocketDir
from reconciler.model.errors import StateError
from reconciler.qemu.machine import SocketFds

BACKLOG = 4  # QEMU serves one client at a time; a few more may wait, the next is refused at once


def link_name(by_name: Path, name: str, directory: Path) -> None:
    """A readable name for the socket directory, for people. Raises OSError."""
    by_name.mkdir(exist_ok=True, mode=0o700)
    link = by_name / name
    link.unlink(missing_ok=True)
    link.symlink_to(Path("..") / directory.name)


@contextmanager
def listening(directory: SocketDir) -> Iterator[SocketFds]:
    """Make the directory (0700) and its sockets, replacing old ones; the descriptors are closed at the end.

    Raises StateError where they cannot be made.
    """
    with ExitStack() as stack:
        try:
            directory.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.path.chmod(0o700)
            paths = (directory.qmp, directory.human, directory.serial, directory.guest_agent)
            qmp, human, serial, agent = (stack.enter_context(_listen(path)).fileno() for path in paths)
        except OSError as error:
            raise StateError(f"cannot make the sockets in {directory.path}: {error}") from error
        yield SocketFds(qmp, human, serial, agent)


def _listen(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > SUN_PATH_MAX:
        raise OSError(f"{path} is longer than the {SUN_PATH_MAX} bytes that a socket's path may have")
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.bind(os.fspath(path))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
