"""The doors to the outside world that the observer, the executor and the launcher share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.clock import Clock
from reconciler.converge.ports import VncPorts
from reconciler.layout import Layout
from reconciler.model.errors import StateError
from reconciler.model.observed import LaunchRecord, Lifecycle
from reconciler.network.firewall import Firewall
from reconciler.qemu import foreign
from reconciler.qemu.answers import Execute
from reconciler.qemu.exits import ExitWatch
from reconciler.qemu.images import Images
from reconciler.qemu.monitor import TIMEOUT_S, Monitors
from reconciler.qemu.process import Processes
from reconciler.storage.records import Records
from reconciler.storage.trash import Trash


@dataclass(frozen=True)
class Doors:
    """One of each, safe for all workers. `iso_roots` are the directories that absolute ISO paths may lead into."""

    layout: Layout
    records: Records
    trash: Trash
    processes: Processes
    monitors: Monitors
    exits: ExitWatch
    images: Images
    ports: VncPorts
    firewall: Firewall
    clock: Clock
    iso_roots: Sequence[Path]

    def launched(self, name: str) -> tuple[Lifecycle, LaunchRecord]:
        """What is remembered of a VM that was launched. Raises StateError."""
        memory = self.records.lifecycle(name)
        if memory is None or memory.launch is None:
            raise StateError(f"{name}: the record of its launch is gone")
        return memory, memory.launch

    def session(self, name: str, record: LaunchRecord, timeout_s: float = TIMEOUT_S) -> Execute:
        """QMP with the QEMU of this record; one that was imported is spoken to by its own names, and it alone."""
        path = self.layout.sockets(record.uuid).qmp
        if record.foreign is None or record.process is None:
            return self.monitors.session(name, path, timeout_s)
        execute = self.monitors.session(name, path, timeout_s, record.process.pid)
        return foreign.translated(execute, record.foreign, record.uuid)
