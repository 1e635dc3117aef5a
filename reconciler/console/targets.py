"""Where the VNC server of each VM is, written by the agent when that changes and read at every connection.

A port alone is not a VM: when its QEMU has ended, another program may listen there. So a target names the process
too, and counts for as long as that lives. Only VMs with tokens have a file.
"""

from __future__ import annotations

import json
from dataclasses import asdict

from reconciler.console.tokens import write_whole
from reconciler.layout import ConsoleDir
from reconciler.lock import start_ticks
from reconciler.model.console import Target
from reconciler.model.vm import VNC_PORT_MAX, VNC_PORT_MIN, is_vm_name


class Targets:
    """The targets of one run directory."""

    def __init__(self, directory: ConsoleDir) -> None:
        self._directory = directory

    def put(self, name: str, target: Target) -> None:
        """The VM's VNC server is there now. Raises OSError."""
        self._directory.targets.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(self._directory.target(name), json.dumps(asdict(target)).encode())

    def drop(self, name: str) -> None:
        """The VM has none now. Raises OSError."""
        self._directory.target(name).unlink(missing_ok=True)

    def find(self, name: str) -> Target | None:
        """The VM's VNC server, if its QEMU lives."""
        if not is_vm_name(name):
            return None
        try:
            entry = json.loads(self._directory.target(name).read_bytes())
            target = Target(int(entry["port"]), int(entry["pid"]), int(entry["start_ticks"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        good = VNC_PORT_MIN <= target.port <= VNC_PORT_MAX
        return target if good and start_ticks(target.pid) == target.start_ticks else None
