"""`GET /api/vms` with many VMs, against a plain falcon handler that encodes the same list each time.

The peer runs on the same falcon and waitress with the same limits, and says the very list that the agent said. Both
are asked in turns in one run, over the same number of connections that are kept open; the ratio is of medians.
"""

from __future__ import annotations

import http.client
import json
import logging
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import falcon
from waitress import serve  # type: ignore[import-untyped]

from reconciler.api.server import LIMITS
from tests.e2e.site import Site, free_port, wait_for

COUNTS = (200, 1000)
TURNS = 7
TURN_S = 2.0
CONNECTIONS = 4
LIMIT = 1.5


def main() -> None:
    """Measure, and print."""
    print(f"GET /api/vms, {CONNECTIONS} connections, {TURNS} turns of {TURN_S:g} s each, medians")
    for count in COUNTS:
        with tempfile.TemporaryDirectory(prefix="bench-") as directory, ExitStack() as stack:
            report(count, measure(stack, Path(directory), count))


def report(count: int, measured: dict[str, float]) -> None:
    """Print the rates and their ratio."""
    for name, per_second in measured.items():
        print(f"  {count:5} VMs  {name}   {per_second:7.0f} requests/s")
    ratio = measured["agent"] / measured["plain"]
    verdict = "ok" if ratio >= LIMIT else "SLOW"
    print(f"  {count:5} VMs  agent / plain  {ratio:.2f}   limit {LIMIT}   {verdict}")


def measure(stack: ExitStack, directory: Path, count: int) -> dict[str, float]:
    """Requests per second of the agent and of its peer, with so many VMs."""
    site = Site(directory)
    stack.callback(site.close)
    for n in range(count):
        site.write(f"vm{n}", state="stopped", memory=512 + n)
    agent = site.agent(rescanSeconds=10)
    wait_for("every VM was looked at", lambda: len(agent.get("/api/vms")[1]["vms"]) == count, 120)
    body = directory / "list.json"
    body.write_text(json.dumps(agent.get("/api/vms")[1]))
    return in_turns({"agent": agent.url, "plain": stack.enter_context(peer(body))})


@contextmanager
def peer(body: Path) -> Iterator[str]:
    """The plain handler as a process of its own; gives its address."""
    port = free_port()
    with subprocess.Popen([sys.executable, "-m", "bench.api", str(body), str(port)]) as process:
        wait_for("the plain handler listens", lambda: listens(port))
        yield f"http://127.0.0.1:{port}"
        process.terminate()


def listens(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def in_turns(urls: dict[str, str]) -> dict[str, float]:
    """Requests per second of each, in turns."""
    rates: dict[str, list[float]] = {name: [] for name in urls}
    for _ in range(TURNS):
        for name, url in urls.items():
            rates[name].append(rate(url))
    return {name: statistics.median(each) for name, each in rates.items()}


def rate(url: str) -> float:
    """Requests per second over some seconds."""
    done: list[int] = []
    deadline = time.perf_counter() + TURN_S
    threads = [threading.Thread(target=ask, args=(url, deadline, done)) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / TURN_S


def ask(url: str, deadline: float, done: list[int]) -> None:
    """Ask over one connection until the time is over; what is read is not looked at, on both sides alike."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    count = 0
    while time.perf_counter() < deadline:
        connection.request("GET", "/api/vms")
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
        count += 1
    connection.close()
    done.append(count)


class Plain:
    """The handler that one would write first."""

    def __init__(self, body: Path) -> None:
        self._vms = json.loads(body.read_text())

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Encode the list."""
        resp.media = self._vms


if __name__ == "__main__":
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    app = falcon.App()
    app.add_route("/api/vms", Plain(Path(sys.argv[1])))
    serve(app, host="127.0.0.1", port=int(sys.argv[2]), **LIMITS)
