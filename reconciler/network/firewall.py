"""Keeps the VNC ports of our VMs closed to guests, who would reach them at 10.0.2.2; or says why they are open.

QEMU listens on these ports itself, so that no code of ours could ask who connects; the kernel can, where QEMU has a
user of its own. The rules stand from before a guest runs until the last VM is off, with or without an agent. What
somebody else does to them (`nft flush ruleset`) is heard from the kernel, and mended.

Never in the way: a VM starts without them too, and its condition `HostReachable` says so.
Next: `reconciler.network.nft` for the rules.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from reconciler.model.errors import FirewallError
from reconciler.model.observed import Fault
from reconciler.network import nft

log = logging.getLogger(__name__)

RETRY_S = 60.0  # while there are none: nftables may have been installed meanwhile
SETTLE_S = 0.2  # other programs change their tables in bursts

# linux/netlink.h, linux/netfilter/nfnetlink.h
_NETLINK_NETFILTER = 12
_GROUP_NFTABLES = 1 << (7 - 1)

EXPOSED = "a guest reaches the screens (VNC ports) of all VMs of this host at 10.0.2.2"
SAME_USER = Fault(
    "SameUser",
    f"{EXPOSED}: QEMU runs as the agent's own user, whom no rule tells from a guest; "
    "an agent that runs as root, with qemuUser left out, closes them",
)


class Firewall:
    """The rules of one agent. Safe for any thread.

    `ports` gives those that launched VMs hold, now. `rules` is None where QEMU has no user of its own.
    """

    def __init__(self, rules: nft.VncRules | None, ports: Callable[[], frozenset[int]]) -> None:
        self._rules = rules
        self._ports = ports
        self._lock = threading.Lock()
        self._closed: frozenset[int] | None = None
        self._listing = ""
        self._gap: Fault | None = None if rules else SAME_USER
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Bring the rules in step with what an earlier agent left, and watch over them from now on."""
        if self._rules is None:
            log.warning("%s", SAME_USER.message)
            return
        changes = _open_changes()
        self.keep()
        self._thread = threading.Thread(target=self._watch, args=(changes,), name="firewall", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Watch no more. The rules stay, as the VMs do."""
        os.eventfd_write(self._wake, 1)
        if self._thread:
            self._thread.join()
        os.close(self._wake)

    def keep(self) -> None:
        """Bring the rules in step with the ports. Returns when they are in force, or it is known why not."""
        if self._rules is None:
            return
        with self._lock:
            self._keep(self._rules)

    def gap(self) -> Fault | None:
        """Why guests reach VNC ports; None where they do not."""
        return self._gap

    def _keep(self, rules: nft.VncRules) -> None:
        wanted = self._ports()
        if wanted == self._closed:
            return
        try:
            self._change(rules, wanted)
            self._listing = nft.listing(rules.table) if wanted else ""
            self._closed, self._gap = wanted, None
        except FirewallError as error:
            self._closed = None
            self._miss(
                Fault(error.reason, f"{EXPOSED}, since the rules against it could not be set: {error}")
            )

    def _change(self, rules: nft.VncRules, wanted: frozenset[int]) -> None:
        before, self._closed = self._closed, None
        try:
            nft.apply(rules.change(before, wanted))
        except FirewallError:
            if before is None:
                raise
            nft.apply(rules.change(None, wanted))  # somebody was faster than our ears

    def _miss(self, gap: Fault) -> None:
        if gap != self._gap:
            log.warning("%s", gap.message)
        self._gap = gap

    def _watch(self, changes: socket.socket | None) -> None:
        """Look whenever the kernel says that rules changed, whoever changed them, and now and then without any."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if changes:
            poll.register(changes, select.POLLIN)
        while True:
            timeout_ms = RETRY_S * 1000 if self._gap else None
            ready = {descriptor for descriptor, _ in poll.poll(timeout_ms)}
            if self._wake in ready or _ended_within(self._wake, SETTLE_S):
                break
            if changes:
                _drain(changes)
            self._mend()
        if changes:
            changes.close()

    def _mend(self) -> None:
        if self._rules is None:
            return
        with self._lock:
            if self._closed and not self._is_whole(self._rules):
                log.warning("somebody changed the rules that close VNC to guests; they are set again")
                self._closed = None
            self._keep(self._rules)

    def _is_whole(self, rules: nft.VncRules) -> bool:
        try:
            return nft.listing(rules.table) == self._listing
        except FirewallError:
            return False


def _open_changes() -> socket.socket | None:
    """A socket on which the kernel tells of every change of rules, or None where it does not."""
    with suppress(OSError):
        changes = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _NETLINK_NETFILTER)
        try:
            changes.bind((0, _GROUP_NFTABLES))
        except OSError:
            changes.close()
            raise
        return changes
    return None


def _drain(changes: socket.socket) -> None:
    """Take what the kernel told; more than it could keep is an error that says as much."""
    while True:
        try:
            changes.recv(65536)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                return


def _ended_within(wake: int, seconds: float) -> bool:
    return bool(select.select((wake,), (), (), seconds)[0])
