"""One agent on one state directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.lock import AgentLock, holder, wait_free
from reconciler.model.errors import StateError

HOLD = """
import sys
from pathlib import Path
from reconciler.lock import AgentLock

with AgentLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_second_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "agent.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        assert holder(path) == other.pid
        with pytest.raises(StateError, match=rf"another agent \(pid {other.pid}\)"), AgentLock(path):
            pass
        with pytest.raises(StateError, match="did not end"):
            wait_free(path, timeout_s=0.1)
        other.kill()
    wait_free(path)
    with AgentLock(path):
        assert holder(path) == os.getpid()
    assert holder(path) is None


def test_a_child_does_not_inherit_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "agent.lock"
    with AgentLock(path):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        assert holder(path) is None
    finally:
        child.kill()
        child.wait()
