"""The QMP sessions of all VMs: one asyncio loop in its own thread, and a synchronous front with deadlines.

A session is made when a command needs it and lasts until it is lost, dropped, or a command times out: a late
answer must never be taken for the next one's. An idle session sends nothing. Events only tell the name of the
VM that is worth a look. Next: `reconciler.qemu.session`, one connection; `view` and `media`, which ask
through it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from reconciler.model.errors import QemuError, QmpLostError, QmpTimeoutError
from reconciler.qemu.answers import Execute
from reconciler.qemu.session import Command, Session

TIMEOUT_S = 5.0
GRACE_S = 2.0  # what a call waits beyond its deadline, should the loop itself be late
LAST_READ_S = 1.0  # reading what lies in a socket takes no time; its other end is closed
CONNECTION_LOST = "CONNECTION_LOST"

log = logging.getLogger(__name__)
T = TypeVar("T")


class Monitors:
    """Every VM's QMP session by the VM's name. Safe to use from any thread but the loop's own.

    `on_event(name, event)` is called from the loop's thread with QMP's event name, or CONNECTION_LOST; it
    must not block, and must not call back.
    """

    def __init__(self, on_event: Callable[[str, str], None]) -> None:
        logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)  # what fails here is raised, and told once
        self._on_event = on_event
        self._sessions: dict[str, Session] = {}
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="qmp", daemon=True)
        self._thread.start()

    def execute(
        self,
        name: str,
        socket_path: Path,
        command: str,
        arguments: Mapping[str, object] | None = None,
        *,
        fd: int | None = None,
        timeout_s: float = TIMEOUT_S,
        peer: int | None = None,
    ) -> object:
        """Run one command of one VM, connecting where there is no session; the deadline includes that.

        `fd` is sent along (add-fd, getfd) and stays the caller's. Raises QmpError, QmpTimeoutError,
        QmpLostError.
        """
        work = self._execute(name, socket_path, Command(command, arguments, fd), timeout_s, peer)
        return self._call(work, command, timeout_s)

    def session(
        self, name: str, socket_path: Path, timeout_s: float = TIMEOUT_S, peer: int | None = None
    ) -> Execute:
        """`execute` for one VM, as `view` and `media` want it; `peer` is the process that has to be there."""

        def execute(
            command: str, arguments: Mapping[str, object] | None = None, *, fd: int | None = None
        ) -> object:
            return self.execute(name, socket_path, command, arguments, fd=fd, timeout_s=timeout_s, peer=peer)

        return execute

    def shutdown_reason(self, name: str) -> str | None:
        """Why this VM's QEMU last said that it, or its guest, shuts down (QMP's ShutdownCause).

        None where it has not, or where nobody listened; forgotten when its session is dropped.
        """
        session = self._sessions.get(name)
        return session.shutdown_reason if session else None

    def last_reason(self, name: str) -> str | None:
        """`shutdown_reason` of a QEMU that is gone, once all has been read that it left in its socket."""
        session = self._sessions.get(name)
        if session is None:
            return None
        with suppress(QemuError):  # what was heard until now is what there is
            self._call(session.read_to_its_end(LAST_READ_S), f"the last words of {name}", LAST_READ_S)
        return session.shutdown_reason

    def drop(self, name: str) -> None:
        """End the session of a VM, if there is one; CONNECTION_LOST is not told."""
        self._call(self._drop(name), f"end of the session of {name}", TIMEOUT_S)

    def answers(self, timeout_s: float) -> bool:
        """Whether the loop turns. QEMU hears nothing of it."""
        try:
            self._call(asyncio.sleep(0), "a sign of life", timeout_s - GRACE_S)
        except QemuError:
            return False
        return True

    def close(self) -> None:
        """End all sessions, the loop and its thread. Later calls raise QmpLostError."""
        if self._closed:
            return
        self._closed = True
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[object, object, T], what: str, timeout_s: float) -> T:
        if self._closed:
            work.close()
            raise QmpLostError(f"{what}: the agent is ending")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout_s + GRACE_S)
        except TimeoutError as error:
            future.cancel()
            raise QmpTimeoutError(f"{what}: the QMP loop gave no answer in time") from error
        except CancelledError as error:
            raise QmpLostError(f"{what}: the agent is ending") from error

    async def _execute(
        self, name: str, path: Path, command: Command, timeout_s: float, peer: int | None
    ) -> object:
        session = self._sessions.get(name)
        if session is None or session.path != path or peer not in {None, session.peer}:
            await self._drop(name)
            session = Session(
                path,
                on_event=lambda event: self._tell(name, event),
                on_lost=lambda: self._tell(name, CONNECTION_LOST),
                peer=peer,
            )
            self._sessions[name] = session
        return await session.execute(command, timeout_s)

    async def _drop(self, name: str) -> None:
        session = self._sessions.pop(name, None)
        if session is not None:
            await session.end()

    async def _close(self) -> None:
        for name in list(self._sessions):
            await self._drop(name)
        under_way = asyncio.all_tasks() - {asyncio.current_task()}
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    def _tell(self, name: str, event: str) -> None:
        try:
            self._on_event(name, event)
        except Exception:
            log.exception("%s: telling of QMP's %s failed", name, event)
