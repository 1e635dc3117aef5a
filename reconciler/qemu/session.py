"""One VM's QMP connection: made when it is needed, one command at a time, gone as soon as it is in doubt.

Runs on the loop of `reconciler.qemu.monitor` only. The protocol itself is QEMU's own library, whose client
stays half-dead after a loss until `disconnect()` is awaited, which raises the cause once more.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from qemu.qmp import ExecuteError, Message, QMPClient, QMPError, Runstate

from reconciler.model.errors import QmpError, QmpLostError, QmpTimeoutError

CLOSE_S = 1.0  # more than enough: it waits for nobody
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid
ANSWER_MAX_BYTES = 256 * 1024  # all that we ask is answered in a few kB


@dataclass(frozen=True)
class Command:
    """One QMP command; `fd` travels along (add-fd, getfd)."""

    name: str
    arguments: Mapping[str, object] | None = None
    fd: int | None = None


class _Client(QMPClient):
    """QEMU's client, made fair: a QEMU that babbles without end must not keep the loop from the other VMs."""

    async def _do_recv(self) -> Message:
        await asyncio.sleep(0)
        return await super()._do_recv()


@dataclass(frozen=True, eq=False)
class _Link:
    client: _Client
    socket: socket.socket

    async def close(self) -> None:
        """Let go of everything, whatever the other end does."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # what is still to be written fails, and delays nothing
        try:
            with suppress(Exception):
                async with asyncio.timeout(CLOSE_S):
                    await self.client.disconnect()
        finally:
            self.socket.close()


class Session:
    """The connection to the QMP server at `path`; `peer`, if given, is the only process that may listen there.

    `on_event` hears QMP's event names, `on_lost` that the connection ended without our doing. `shutdown_reason` is the
    reason (QMP's ShutdownCause) in the last SHUTDOWN event, which QEMU tells once and cannot be asked for.
    """

    def __init__(
        self,
        path: Path,
        on_event: Callable[[str], None],
        on_lost: Callable[[], None],
        peer: int | None = None,
    ) -> None:
        self.path = path
        self.peer = peer
        self._on_event = on_event
        self._on_lost = on_lost
        self._one_at_a_time = asyncio.Lock()
        self.shutdown_reason: str | None = None
        self._link: _Link | None = None
        self._followers: set[asyncio.Task[None]] = set()

    async def execute(self, command: Command, timeout_s: float) -> object:
        """Run a command, connecting where need be. Raises QmpError, QmpTimeoutError, QmpLostError.

        After the last two the connection is gone; a late answer finds nobody.
        """
        try:
            async with asyncio.timeout(timeout_s), self._one_at_a_time:
                return await self._execute(command)
        except TimeoutError as error:
            raise QmpTimeoutError(f"{command.name}: QEMU gave no answer within {timeout_s:g} s") from error

    async def read_to_its_end(self, timeout_s: float) -> None:
        """Of a QEMU that is gone: wait until all that it said has been heard, or the time is over."""
        if self._followers:
            await asyncio.wait(self._followers, timeout=timeout_s)

    async def end(self) -> None:
        """Close the connection, if there is one, without telling `on_lost`. A command under way fails."""
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    async def _execute(self, command: Command) -> object:
        try:
            link = self._link or await self._connect()
            if command.fd is not None:
                link.client.send_fd_scm(command.fd)
            return await link.client.execute(command.name, command.arguments)
        except ExecuteError as error:
            raise QmpError(command.name, error.error_class, str(error)) from error
        except (QMPError, OSError) as error:
            await self.end()
            raise QmpLostError(f"{command.name}: no connection to QEMU: {error}") from error
        except BaseException:  # above all the deadline, which comes as a cancellation
            await self.end()
            raise

    async def _connect(self) -> _Link:
        link = _Link(_Client(readbuflen=ANSWER_MAX_BYTES), await _connected_socket(self.path, self.peer))
        link.client.events.event_filter = self._hear
        try:
            await link.client.connect(link.socket)
        except BaseException:
            link.socket.close()
            raise
        self._link = link
        follower = asyncio.create_task(self._follow(link))
        self._followers.add(follower)
        follower.add_done_callback(self._followers.discard)
        return link

    async def _follow(self, link: _Link) -> None:
        """Wait for the connection's end; clean up after it and tell, unless we ended it ourselves."""
        while link.client.runstate is Runstate.RUNNING:
            await link.client.runstate_changed()
        if self._link is link:
            self._link = None
            self._on_lost()
            await link.close()

    def _hear(self, event: Message) -> bool:
        """Pass an event's name on. Refusing it keeps the library from collecting all events for ever."""
        name, data = event.get("event"), event.get("data")
        if name == "SHUTDOWN" and isinstance(data, dict):
            self.shutdown_reason = str(data.get("reason"))
        if isinstance(name, str):
            self._on_event(name)
        return False


async def _connected_socket(path: Path, peer: int | None) -> socket.socket:
    """A connection to the socket at `path`, which `peer` has to listen on. Raises OSError."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        link.setblocking(False)
        await asyncio.get_running_loop().sock_connect(link, os.fspath(path))
        link.getpeername()  # asyncio takes a full queue of a Unix socket for a connection
        if peer is not None and (found := listener(link)) != peer:
            raise ConnectionRefusedError(f"{path} is process {found}'s now, not {peer}'s")
    except BaseException:
        link.close()
        raise
    return link


def listener(link: socket.socket) -> int:
    """The process that listens where this Unix socket is connected to; 0 where it cannot be seen from here."""
    credentials = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[0])
