"""An agent that has nothing to do does nothing to QEMU."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.site import Agent, Site, wait_for

SEND = re.compile(r"\b(sendto|sendmsg)\((\d+),.*?\"(.*)")


@contextmanager
def traced(agent: Agent, log: Path) -> Iterator[None]:
    """Write down everything that the agent sends on any socket meanwhile."""
    what = ["-e", "trace=sendto,sendmsg", "-s", "200"]
    command = ["strace", "-f", *what, "-o", str(log), "-p", str(agent.process.pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr
        assert "attached" in tracer.stderr.readline()
        try:
            yield
        finally:
            tracer.terminate()


def sent_to_qemu(log: Path) -> list[str]:
    """The QMP commands among what was sent."""
    return re.findall(r'\\"execute\\": ?\\"([a-z_-]+)', log.read_text())


def only_asks(log: Path) -> bool:
    """Whether all of them only ask; of QEMU's own monitor, that is `info`."""
    asks = ("query-", "qom-get", "qom-list", "human-monitor-command")
    lines = re.findall(r'\\"command-line\\": ?\\"([a-z_]+)', log.read_text())
    return all(command.startswith(asks) for command in sent_to_qemu(log)) and set(lines) <= {"info"}


def test_an_idle_agent_sends_qemu_nothing_and_a_deep_read_only_asks(site: Site) -> None:
    """Three rescans of the manifests in peace; then the time of a deep read, in which QEMU is only asked."""
    agent = site.agent(rescanSeconds=1, resyncSeconds=3600)
    site.write("web")
    agent.wait_status("web", "running")
    wait_for("it is settled", lambda: agent.vm("web")["settled"])
    idle = site.root / "idle.strace"
    with traced(agent, idle):
        time.sleep(4)  # the obligation is about time: nothing is sent while it passes
    assert sent_to_qemu(idle) == []

    agent.stop()
    heir = site.agent(rescanSeconds=1, resyncSeconds=1)
    wait_for("it is settled", lambda: heir.vm("web").get("settled"))
    deep = site.root / "deep.strace"
    with traced(heir, deep):
        wait_for("a deep read", lambda: len(sent_to_qemu(deep)) > 5)
    assert only_asks(deep), sent_to_qemu(deep)
