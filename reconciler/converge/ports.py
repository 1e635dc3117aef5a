"""Who holds which VNC port: what manifests claim, what running VMs hold, and what the agent gave away.

A claim in a manifest beats a port the agent chose; of two claims the VM that runs keeps it.
"""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Mapping

from reconciler.model.errors import PortConflictError
from reconciler.model.vm import VNC_PORT_MAX, VNC_PORT_MIN
from reconciler.qemu.devices import VNC_HOST


class VncPorts:
    """The book of ports of one agent, shared by its workers.

    `claims` gives, for each port that manifests name, the VMs that name it; `look` is told of a VM that holds a port
    which another wants, and may have to move.
    """

    def __init__(
        self,
        claims: Callable[[], Mapping[int, tuple[str, ...]]],
        look: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._claims = claims
        self._look = look
        self._lock = threading.Lock()
        self._held: dict[int, str] = {}
        self._chosen: dict[str, int] = {}

    def load(self, name: str, *, held: int | None, chosen: int | None) -> None:
        """Take over what the records say: the port of a VM that was launched, and one chosen earlier."""
        with self._lock:
            if held is not None:
                self._held[held] = name
            if chosen is not None:
                self._chosen[name] = chosen

    def take(self, name: str, claimed: int | None) -> int:
        """Hold the port that `name` claims, or, for None, the one chosen for it, choosing one at need.

        Raises PortConflictError where another VM holds the claimed port, or no port is free.
        """
        with self._lock:
            port = self._choose(name) if claimed is None else claimed
            self._check(name, port)
            self._drop(name)
            self._held[port] = name
            return port

    def take_as_well(self, name: str, port: int) -> None:
        """Hold a second port, for a screen that moves. Raises PortConflictError."""
        with self._lock:
            self._check(name, port)
            self._held[port] = name

    def let_go(self, name: str, port: int) -> None:
        """Give back just this port."""
        with self._lock:
            if self._held.get(port) == name:
                del self._held[port]

    def is_in_the_way(self, name: str, port: int | None) -> bool:
        """Whether the port that this VM holds is claimed by another's manifest, and not by its own."""
        claimants = () if port is None else self._claims().get(port, ())
        return bool(claimants) and name not in claimants

    def standing(self, name: str) -> int | None:
        """The port of a running VM whose manifest names none: what it holds, or another where a manifest claims that.

        None: it holds none.
        """
        with self._lock:
            held = next((port for port, holder in self._held.items() if holder == name), None)
            if held is None or set(self._claims().get(held, ())) <= {name}:
                return held
            try:
                return self._free_for(name)
            except PortConflictError:
                return held

    def offer(self, name: str) -> int:
        """The lowest port that nobody claims, holds or was given, for `name`. Raises PortConflictError."""
        with self._lock:
            return self._free_for(name)

    def claimants(self, port: int) -> tuple[str, ...]:
        """The VMs whose manifests name this port."""
        return self._claims().get(port, ())

    def held(self) -> frozenset[int]:
        """The ports of all VMs that run, or are being started."""
        with self._lock:
            return frozenset(self._held)

    def release(self, name: str) -> None:
        """Give back what a VM that no longer runs holds; the port chosen for it stays its own."""
        with self._lock:
            self._drop(name)

    def forget(self, name: str) -> None:
        """Drop everything about a VM that is no more."""
        with self._lock:
            self._drop(name)
            self._chosen.pop(name, None)

    def _check(self, name: str, port: int) -> None:
        """Raise PortConflictError where another VM holds the port; one that may have to move is looked at."""
        holder = self._held.get(port, name)
        if holder == name:
            return
        if holder not in self._claims().get(port, ()):
            self._look(holder)
        raise PortConflictError(
            f"spec.vncPort: {port} is held by the running VM {holder!r}; write another port, or stop that VM"
        )

    def _drop(self, name: str) -> None:
        self._held = {port: holder for port, holder in self._held.items() if holder != name}

    def _choose(self, name: str) -> int:
        port = self._chosen[name] = self._free_for(name)
        return port

    def _free_for(self, name: str) -> int:
        claims = self._claims()
        others = {port for vm, port in self._chosen.items() if vm != name}
        before = self._chosen.get(name)
        candidates = itertools.chain(
            () if before is None else (before,), range(VNC_PORT_MIN, VNC_PORT_MAX + 1)
        )
        for port in candidates:
            taken = port in claims or port in others or self._held.get(port, name) != name
            if not taken and _can_listen(port):
                return port
        raise PortConflictError(f"no VNC port is free between {VNC_PORT_MIN} and {VNC_PORT_MAX}")


def _can_listen(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as QEMU does
        try:
            probe.bind((VNC_HOST, port))
        except OSError:
            return False
    return True
