"""The program of one noVNC service: websockify behind our own door, on one port of the loopback.

Started by `reconciler.console.services` with its listening sockets, so that nobody finds its port closed while it
starts. It lives on without the agent, for consoles are not to break when that is restarted; and it ends by itself
when its lock file goes, or when for a while there was neither an agent nor an open console.
"""

from __future__ import annotations

import argparse
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from http.server import HTTPServer
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any

from reconciler import assets, lock
from reconciler.clock import SystemClock
from reconciler.console.door import Door
from reconciler.console.handler import Handler, Line, Service, cut
from reconciler.console.targets import Targets
from reconciler.console.tokens import Tokens
from reconciler.layout import ConsoleDir, Layout
from reconciler.lock import AgentLock
from reconciler.model.errors import StateError
from reconciler.peers import Doorkeeper, GuestPeers

log = logging.getLogger(__name__)

VISITORS_MAX = 200  # a console takes two descriptors, and websockify's select() knows none above 1023
LOOK_EVERY_S = 0.5  # how long a revoked console may go on
AGENT_EVERY_S = 5.0


class Server(ThreadingMixIn, HTTPServer):
    """One listening socket; each visitor has a thread."""

    daemon_threads = True
    heartbeat = 30  # s; websockify pings, so that a visitor who vanished is noticed

    def __init__(self, listener: socket.socket, service: Service, doorkeeper: Doorkeeper) -> None:
        super().__init__(listener.getsockname(), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.service = service
        self._doorkeeper = doorkeeper
        self._places = threading.BoundedSemaphore(VISITORS_MAX)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """In the visitor's own thread: guests are sent away, and everybody when the house is full."""
        if not self._places.acquire(blocking=False):
            return self.shutdown_request(request)
        try:
            if not self._doorkeeper.admits(request):
                return self.shutdown_request(request)
            return super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, _request: Any, _client_address: Any) -> None:
        """A visitor who hung up is no news; anything else is, without the path, for tokens stand in it."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            log.error("a visitor's request broke off: %r", error)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until there is no need to."""
    options = _options(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        _serve(options)
    except (StateError, assets.MissingAssetsError) as error:
        log.error("%s", error)
        return 1
    return 0


def _serve(options: argparse.Namespace) -> None:
    layout = Layout(options.state_dir, options.run_dir)
    door = Door(frozenset(options.name), frozenset(options.origin), options.port)
    tokens = Tokens(layout.consoles, SystemClock())
    service = Service(door, tokens, Targets(layout.consoles), assets.console())
    doorkeeper = Doorkeeper(GuestPeers(options.qemu_uid, options.qemu_binary), "noVNC")
    with AgentLock(layout.consoles.lock(options.port)):
        for descriptor in options.listen_fds.split(","):
            server = Server(socket.socket(fileno=int(descriptor)), service, doorkeeper)
            threading.Thread(target=server.serve_forever, daemon=True).start()
        _watch(service, layout, options.port, options.linger_s)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="reconciler.console.gateway")
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", action="append", default=[])
    parser.add_argument("--origin", action="append", default=[])
    parser.add_argument("--qemu-uid", type=int)
    parser.add_argument("--qemu-binary", required=True)
    parser.add_argument("--linger-s", type=float, required=True)
    parser.add_argument("--version")  # so that another version's service is another command, and is replaced
    parser.add_argument("--listen-fds", required=True)
    return parser.parse_args(arguments)


def _watch(service: Service, layout: Layout, port: int, linger_s: float) -> None:
    """Cut the consoles whose token died, until nothing needs this service any more."""
    needed_s = asked_s = time.monotonic()
    cut_softly: frozenset[Line] = frozenset()
    while _is_wanted(layout.consoles, port):
        dead = frozenset(line for line in service.lines.all() if not service.tokens.still(line.digest))
        for line in dead:
            cut(line, hard=line in cut_softly)
        cut_softly = dead
        now_s = time.monotonic()
        if service.lines.all():
            needed_s = now_s
        elif now_s - asked_s >= min(AGENT_EVERY_S, linger_s):
            asked_s = now_s
            needed_s = now_s if _is_agent_there(layout) else needed_s
        if now_s - needed_s > linger_s:
            log.info("no agent and no open console for %g s: ending", linger_s)
            return layout.consoles.lock(port).unlink(missing_ok=True)
        time.sleep(LOOK_EVERY_S)
    log.info("not wanted any more: ending")
    return None


def _is_wanted(directory: ConsoleDir, port: int) -> bool:
    return directory.lock(port).exists()


def _is_agent_there(layout: Layout) -> bool:
    try:
        return lock.holder(layout.lock) is not None
    except StateError:
        return False


if __name__ == "__main__":
    sys.exit(main())
