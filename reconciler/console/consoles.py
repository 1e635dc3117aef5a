"""The consoles of the agent's VMs: one door to tokens, targets and services.

The agent tells it every status of a VM (`hear`), from which follows where that VM's console is, and when its tokens
end: with the VM, but not with a restart of it. The API asks it for a service and a token. All that it knows lies in
the run directory, where the services read it, and the next agent. Next: `reconciler.console.tokens`.
"""

from __future__ import annotations

import logging
import threading

from reconciler.console.services import Services
from reconciler.console.targets import Targets
from reconciler.console.tokens import Tokens
from reconciler.model.console import Gateway, Target
from reconciler.model.errors import ConsoleError
from reconciler.model.status import VMState, VMStatus
from reconciler.model.vm import PowerState

log = logging.getLogger(__name__)

TEND_EVERY_S = 2.0


def target_of(status: VMStatus) -> Target | None:
    """Where the VM's console is, if QEMU was seen to serve one."""
    if status.process is None or status.vnc_port is None:
        return None
    return Target(status.vnc_port, status.process.pid, status.process.start_ticks)


def is_over(status: VMStatus) -> bool:
    """Whether the VM stopped, or is gone, and is meant to be: between the two runs of a restart it is not."""
    off = status.process is None and status.state in {VMState.STOPPED, VMState.FAILED}
    return off and (status.desired is None or status.desired.spec.state is PowerState.STOPPED)


class Consoles:
    """See `reconciler.api.ports.ConsolesPort`. Safe for any number of threads."""

    def __init__(self, services: Services, tokens: Tokens, targets: Targets) -> None:
        self._services = services
        self._tokens = tokens
        self._targets = targets
        self._lock = threading.Lock()
        self._seen: dict[str, Target] = {}
        self._opened = set(tokens.names())  # the VMs whose targets are kept as files
        self._closing = threading.Event()
        self._tender = threading.Thread(target=self._tend, name="consoles", daemon=True)

    # ---- asked by the API ------------------------------------------------------------------------

    def serve(self, web_port: int) -> Gateway:
        """The service on this port, started at need. Raises ConsoleError that says why it cannot be."""
        return self._services.serve(web_port)

    def grant(self, name: str) -> str:
        """A new token that opens the console of this VM, and of no other. Raises ConsoleError."""
        with self._lock:
            target = self._seen.get(name)
            if target is None:
                raise ConsoleError(f"{name}: QEMU serves no console just now")
            token = self._tokens.grant(name)
            self._opened.add(name)
            self._put(name, target)
        return token

    def revoke(self, name: str) -> None:
        """Let no token open this VM's console any more, and cut the open ones."""
        with self._lock:
            self._revoke(name)

    # ---- told by the agent -------------------------------------------------------------------------

    def hear(self, status: VMStatus) -> None:
        """What is now known of a VM. Nothing is concluded from not knowing. Never raises."""
        if status.state is VMState.UNKNOWN:
            return
        target = target_of(status)
        with self._lock:
            try:
                self._place(status.name, target)
                if is_over(status) and status.name in self._opened:
                    self._revoke(status.name)
            except (OSError, ConsoleError) as error:
                log.error("%s: its console: %s", status.name, error)

    def resume(self) -> None:
        """Take over the services that an earlier agent left, or replace them; then tend them."""
        self._tokens.sweep()
        self._tender.start()

    def close(self) -> None:
        """Tend the services no more; they and the consoles go on, as the VMs do."""
        self._closing.set()
        if self._tender.ident:
            self._tender.join()

    # ---- under the lock ------------------------------------------------------------------------------

    def _place(self, name: str, target: Target | None) -> None:
        if target == self._seen.get(name):
            return
        if target is None:
            del self._seen[name]
            self._targets.drop(name)
            return
        self._seen[name] = target
        if name in self._opened:
            self._put(name, target)

    def _put(self, name: str, target: Target) -> None:
        try:
            self._targets.put(name, target)
        except OSError as error:
            raise ConsoleError(f"{error.filename}: {error.strerror}") from error

    def _revoke(self, name: str) -> None:
        self._tokens.revoke(name)
        self._targets.drop(name)
        self._opened.discard(name)

    # ---- its thread -----------------------------------------------------------------------------------

    def _tend(self) -> None:
        """A service that ended unasked, with the last agent or by itself, comes back while anybody may need it."""
        while True:
            try:
                self._services.revive(wanted=bool(self._tokens.names()))
            except OSError as error:
                log.error("looking after the noVNC services failed: %s", error)
            if self._closing.wait(TEND_EVERY_S):
                return
