"""What an agent costs that has nothing to do: 200 stopped and 20 running VMs, over a minute.

The agent's CPU time is the kernel's account of it. What it sends is counted at its sockets by strace, in a second
minute, since being traced costs.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.e2e.site import Agent, Site

STOPPED = 200
RUNNING = 20
SECONDS = 60.0
LIMIT_PERCENT = 1.0


def main() -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, ExitStack() as stack:
        site = Site(Path(directory))
        stack.callback(site.close)
        for n in range(STOPPED):
            site.write(f"off{n}", state="stopped")
        for n in range(RUNNING):
            site.write(f"on{n}", memory=64)
        agent = site.agent(rescanSeconds=10, resyncSeconds=3600, qemuUser="reconciler-qemu")
        for n in range(RUNNING):
            agent.wait_status(f"on{n}", "running", 120)
        time.sleep(5)  # let the last round end, so that the idle minute is idle
        pid = agent.process.pid
        before_s = cpu_s(pid)
        time.sleep(SECONDS)
        percent = (cpu_s(pid) - before_s) / SECONDS * 100
        print(f"idle agent, {STOPPED} stopped and {RUNNING} running VMs, {SECONDS:g} s")
        verdict = "ok" if percent < LIMIT_PERCENT else "TOO MUCH"
        print(f"  CPU   {percent:.2f} % of a core   limit {LIMIT_PERCENT:g} %   {verdict}")
        print(f"  RSS   {rss_mib(pid):.0f} MiB")
        print(f"  sent  {sends(agent, site, SECONDS)} messages on any socket")


def cpu_s(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mib(pid: int) -> float:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def sends(agent: Agent, site: Site, seconds: float) -> int:
    """How often the agent sent anything on any socket."""
    log = site.root / "strace.log"
    calls = "trace=sendto,sendmsg,sendmmsg"
    tracer = subprocess.Popen(["strace", "-f", "-qq", "-e", calls, "-o", log, "-p", str(agent.process.pid)])
    time.sleep(seconds)
    tracer.terminate()
    tracer.wait()
    return sum("send" in line for line in log.read_text().splitlines())
