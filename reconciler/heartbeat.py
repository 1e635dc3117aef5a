"""What the service manager is told (sd_notify(3)): that the agent is ready, that it works, that it ends.

The ping of the watchdog is no proof of anything in itself: a thread that sends it would go on while all others hang.
So each ping waits for signs of life of those who do the work (`reconciler.agent` names them); where one is missing
there is no ping, and systemd starts the agent anew. VMs go on meanwhile.
"""

from __future__ import annotations

import logging
import select
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

log = logging.getLogger(__name__)

BEATS = 3  # for each time that the watchdog allows
SIGN_TIMEOUT_S = 3.0  # three signs that are all late still leave the next beat its time, of 30 s


@dataclass(frozen=True)
class Sign:
    """Somebody whose work the agent cannot do without. `alive` may take `SIGN_TIMEOUT_S`."""

    who: str
    alive: Callable[[], bool]


@dataclass(frozen=True)
class Manager:
    """The service manager that started us. `address` is None where none did, `watchdog_s` where none watches."""

    address: str | None
    watchdog_s: float | None

    @staticmethod
    def of(environ: Mapping[str, str], pid: int) -> Manager:
        """As systemd says in the environment, to the process of this pid."""
        allowed_us = environ.get("WATCHDOG_USEC", "")
        is_ours = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
        watched = is_ours and allowed_us.isascii() and allowed_us.isdigit() and int(allowed_us) > 0
        return Manager(environ.get("NOTIFY_SOCKET") or None, int(allowed_us) / 1e6 if watched else None)

    def tell(self, *lines: str) -> None:
        """Send one message. Never raises: an agent that cannot be heard works all the same."""
        if self.address is None:
            return
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(SIGN_TIMEOUT_S)
                sender.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            log.warning("the service manager at %s cannot be told %s: %s", self.address, lines[0], error)


NOBODY = Manager(None, None)


class Ending:
    """The wish that the agent end: SIGINT or SIGTERM. To be made in the main thread, once.

    The kernel may hand a signal to any thread (seen under strace), while Python handles it in the main one, which a
    lock that it waits for keeps from that; so the main thread waits for a byte that the C handler writes at once.
    """

    def __init__(self) -> None:
        self._reading, writing = socket.socketpair()
        self._writing = writing
        writing.setblocking(False)
        signal.set_wakeup_fd(writing.fileno())
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda _number, _frame: None)

    def wait(self, timeout_s: float | None) -> bool:
        """Whether it came, within so many seconds or, for None, at last."""
        waiting = select.poll()  # select() knows no descriptor above 1023
        waiting.register(self._reading, select.POLLIN)
        return bool(waiting.poll(None if timeout_s is None else timeout_s * 1000))


def serve(manager: Manager, signs: Sequence[Sign], ended: Callable[[float | None], bool]) -> None:
    """Say that the agent is ready, and that it works as long as it does; returns when `ended` says so.

    `ended` waits so many seconds for the end.
    """
    manager.tell("READY=1")
    every_s = manager.watchdog_s / BEATS if manager.watchdog_s else None
    while not ended(every_s):
        missing = [sign.who for sign in signs if not sign.alive()]
        if missing:
            log.critical(
                "no sign of life of %s: the watchdog is not told that all is well", " and ".join(missing)
            )
        else:
            manager.tell("WATCHDOG=1")
    manager.tell("STOPPING=1")
