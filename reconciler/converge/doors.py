"""The doors to the outside world that the observer, the executor and the launcher share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.clock import Clock
from reconciler.converge.ports import VncPorts
from reconciler.layout import Layout
from reconciler.network.firewall import Firewall
from reconciler.qemu.exits import ExitWatch
from reconciler.qemu.images import Images
from reconciler.qemu.monitor import Monitors
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
