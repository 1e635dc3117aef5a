"""Before the host goes down: the agent ends, every VM is shut down properly, and no manifest is changed."""

from __future__ import annotations

import os
import signal
import subprocess

from tests.e2e import tiny
from tests.e2e.site import Site


def shut_down(site: Site, timeout_s: int) -> subprocess.CompletedProcess[str]:
    """The command that `make stop` gives."""
    words = site.command()
    without_listen = words[: words.index("--listen")]
    without_listen[without_listen.index("run")] = "host-shutdown"
    command = [*without_listen, "--timeout", str(timeout_s)]
    return subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)


def test_every_vm_is_shut_down_and_comes_back_with_the_next_agent(site: Site) -> None:
    agent = site.agent()
    manifest = site.write("web", isoPath=tiny.iso(site))
    site.write("calm", suspend=True, shutdown={"timeoutSeconds": 1})
    site.write("other", shutdown={"timeoutSeconds": 1})
    agent.wait_status("other", "running")
    tiny.wait_up(site, "web")
    before = manifest.read_text()
    done = shut_down(site, 100)
    assert done.returncode == 0, done.stderr
    assert agent.process.wait(30) == 0
    assert site.pids("web") == site.pids("other") == []
    assert manifest.read_text() == before
    heir = site.agent()
    heir.wait_status("web", "running")
    heir.wait_status("other", "running")
    ends = {name: heir.vm(name)["lastExit"]["message"] for name in ("web", "other")}
    assert {name for name, message in ends.items() if "in time" in message} == {"other"}


def test_a_vm_that_cannot_be_stopped_is_named_and_not_killed(site: Site) -> None:
    agent = site.agent()
    site.write("hung")
    agent.wait_status("hung", "running")
    pid = site.pid("hung")
    os.kill(pid, signal.SIGSTOP)
    try:
        agent.wait_status("hung", "unknown")
        done = shut_down(site, 3)
        assert done.returncode == 1
        assert "hung: is still unknown" in done.stderr
        assert site.pid("hung") == pid
    finally:
        os.kill(pid, signal.SIGCONT)


def test_with_nothing_running_there_is_nothing_to_do(site: Site) -> None:
    assert shut_down(site, 5).returncode == 0
