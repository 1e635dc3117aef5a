"""How soon a second agent on one state directory gives up: a process, from its start to its end."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.e2e.site import Site

TURNS = 10
LIMIT_S = 1.0


def main() -> None:
    """Measure, and print."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, ExitStack() as stack:
        site = Site(Path(directory))
        stack.callback(site.close)
        site.agent()
        times_s = [gives_up(site) for _ in range(TURNS)]
    verdict = "ok" if max(times_s) < LIMIT_S else "TOO SLOW"
    median_s = statistics.median(times_s)
    print(f"a second agent gives up, N = {TURNS}")
    print(f"  median {median_s:.2f} s, longest {max(times_s):.2f} s   limit {LIMIT_S:g} s   {verdict}")


def gives_up(site: Site) -> float:
    """Seconds that it took."""
    began = time.perf_counter()
    done = subprocess.run(site.command(), capture_output=True, check=False)
    assert done.returncode == 1
    return time.perf_counter() - began
