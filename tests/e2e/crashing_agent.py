"""An agent that is killed at a step of its work: `crashing_agent.py STEP run …`.

The steps of a launch are checkpoints of the product's own (see test_lifecycle); those of a deletion are the ends of the
functions that it consists of (see test_tombstones).
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from reconciler import agent
from reconciler.cli.main import main
from reconciler.converge.launch import LaunchStep
from reconciler.manifest.catalog import Catalog
from reconciler.manifest.store import ManifestStore
from reconciler.storage.trash import Trash

STEP = sys.argv.pop(1)
DELETION: dict[str, tuple[type, str]] = {
    "entombed": (Catalog, "entomb"),
    "manifest-removed": (ManifestStore, "remove"),
    "buried": (Catalog, "bury"),
    "set-aside": (Trash, "set_aside"),
    "discarded": (Trash, "discard"),
}


def die() -> None:
    """SIGKILL, the way no process can prepare for."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(step: LaunchStep) -> None:
    """The checkpoint of launches."""
    if step == STEP:
        die()


def die_after(place: type, name: str) -> None:
    """Have this process die when that method has done its work."""
    function: Callable[..., Any] = getattr(place, name)

    @functools.wraps(function)
    def deadly(*args: Any, **options: Any) -> None:
        function(*args, **options)
        die()

    setattr(place, name, deadly)


if __name__ == "__main__":
    if STEP in DELETION:
        die_after(*DELETION[STEP])
    agent.run = functools.partial(agent.run, checkpoint=die_at)
    main()
