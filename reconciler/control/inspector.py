"""Looks at what no status holds: the ends of logs, a VM's screen, the host. Changes nothing.

The API reads through this one. Next: `reconciler.qemu.screen`, `reconciler.storage.logs`.
"""

from __future__ import annotations

import os
import pwd
import threading
from collections import defaultdict
from dataclasses import dataclass, field

import psutil

from reconciler.converge.doors import Doors
from reconciler.converge.launch import Launcher
from reconciler.model.errors import QemuError
from reconciler.model.inspection import HostFacts, VMLogs
from reconciler.qemu.screen import screenshot
from reconciler.storage import logs

NOT_PROVED_YET = "whether KVM works here is being found out"


@dataclass(frozen=True)
class Inspector:
    """Safe for any number of threads; of one VM, one screenshot is taken at a time."""

    doors: Doors
    launcher: Launcher
    _one_at_a_time: defaultdict[str, threading.Lock] = field(
        default_factory=lambda: defaultdict(threading.Lock), init=False
    )

    def logs(self, name: str, max_bytes: int, lines: int) -> VMLogs:
        """The ends of the VM's logs, each of at most so many bytes and lines; an absent log is empty."""
        home = self.doors.layout.vm(name)
        return VMLogs(
            qemu=logs.end_of(home.qemu_log, max_bytes, lines),
            qemu_before=logs.end_of(home.qemu_log_before, max_bytes, lines),
            serial=logs.end_of(home.serial_log, max_bytes, lines, home.serial_log_before),
        )

    def screenshot(self, name: str) -> bytes:
        """The screen of a running VM as PNG. Raises QemuError, StateError or OSError."""
        identity = self.doors.records.identity(name)
        if identity is None:
            raise QemuError(f"{name}: it was never started")
        with self._one_at_a_time[name]:
            return screenshot(self.doors.monitors.session(name, self.doors.layout.sockets(identity.uuid).qmp))

    def host(self) -> HostFacts:
        """The host, now."""
        proof = self.launcher.accelerator.proof()
        user = self.launcher.qemu_user
        memory = psutil.virtual_memory()
        return HostFacts(
            qemu_binary=self.launcher.binary,
            qemu_version=self.launcher.qemu_version,
            kvm=proof.kvm_usable if proof else None,
            why=proof.why if proof else NOT_PROVED_YET,
            qemu_user=user.name if user else _own_name(),
            isolated=user is not None,
            cpus=os.cpu_count() or 1,
            memory_bytes=memory.total,
            memory_available_bytes=memory.available,
        )


def _own_name() -> str:
    """The agent's user, by name or, where it has none, by number."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
