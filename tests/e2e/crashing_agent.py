"""An agent that is killed at a step of a launch: `crashing_agent.py STEP run …` (see test_lifecycle)."""

from __future__ import annotations

import functools
import os
import signal
import sys

from reconciler import agent
from reconciler.cli.main import main
from reconciler.converge.launch import LaunchStep

STEP = sys.argv.pop(1)


def die_at(step: LaunchStep) -> None:
    """SIGKILL, the way no process can prepare for."""
    if step == STEP:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    agent.run = functools.partial(agent.run, checkpoint=die_at)
    main()
