"""The page's own client, letter for letter, against an agent on its default settings: under Node, and in a browser.

`page_example.mjs` is the example of the documented page, unchanged. It speaks to localhost:3000, and asks for the VNC
port 5900 and the web port 6080; so only one of these tests runs at a time, on this machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import http.server
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.browser import chromium
from tests.e2e.site import Agent, Site

EXAMPLE = Path(__file__).with_name("page_example.mjs")
LOCK = Path(tempfile.gettempdir()) / "reconciler-page-ports.lock"
PORTS = (3000, 5900, 6080)
PATIENCE_S = 120.0
PAGE = '<!doctype html><title>panel</title><link rel="icon" href="data:,"><script type="module" src="{}"></script>'

pytestmark = [pytest.mark.xdist_group("page-ports"), pytest.mark.timeout(400)]


@pytest.fixture
def _ports() -> Iterator[None]:
    """The ports of the page, for this test alone; other tests of ours are waited for, strangers are not."""
    with LOCK.open("a") as file:
        _until(lambda: _locks(file.fileno()), "another run of these tests holds the ports of the page")
        for port in PORTS:
            _until(lambda port=port: _is_free(port), f"port {port}, which the page names, is somebody else's")
        yield


def _until(look: object, reason: str) -> None:
    assert callable(look)
    deadline = time.monotonic() + PATIENCE_S
    while not look():
        if time.monotonic() > deadline:
            pytest.skip(reason)
        time.sleep(0.1)


def _locks(descriptor: int) -> bool:
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _is_free(port: int) -> bool:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                if probe.connect_ex((address, port)) == 0:
                    return False
    return True


@pytest.fixture
def agent(_ports: None, site: Site) -> Agent:
    """An agent with the directories of this test, and for the rest as it comes."""
    words = site.command()
    at = words.index("--listen")
    agent = site.start([*words[:at], *words[at + 2 :]]).wait_ready()
    assert agent.url.endswith(":3000")
    return agent


def must_have_made_the_vm(site: Site, agent: Agent, url: str) -> None:
    """What the example's author expects to find afterwards."""
    command = Path(f"/proc/{site.pid('web-server')}/cmdline").read_bytes()
    assert b"2048" in command
    vm = agent.vm("web-server")
    assert (vm["status"], vm["memory"], vm["cpuCores"], vm["diskSize"]) == ("running", 2048, 2, 20)
    assert vm["vncPort"] == 5900
    assert "state: running" in (site.manifests / "web-server.yaml").read_text()
    start = "http://localhost:6080/vnc.html?host=localhost&port=6080&path=websockify/?token="
    assert url.startswith(start)
    assert len(url) > len(start)
    with urllib.request.urlopen(url, timeout=30) as page:  # noqa: S310 - the agent's own
        assert page.headers.get_content_type() == "text/html"
        assert b"<html" in page.read()


def test_it_runs_under_node(site: Site, agent: Agent) -> None:
    node = shutil.which("node")
    assert node, "Node is missing: run `make setup`"
    done = subprocess.run([node, str(EXAMPLE)], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    assert line.startswith("VNC URL: ")
    must_have_made_the_vm(site, agent, line.removeprefix("VNC URL: "))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_it_runs_in_a_browser_on_a_page_of_another_loopback_port(
    site: Site, agent: Agent, tmp_path: Path, host: str
) -> None:
    """As in a panel's development server: the requests are cross-origin, and preflighted."""
    said: list[str] = []
    wrong: list[str] = []
    with _serving(tmp_path / "panel") as port, chromium() as browser:
        page = browser.new_page()
        page.on("console", lambda one: (said if one.type == "log" else wrong).append(one.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("requestfailed", lambda request: wrong.append(f"{request.url}: {request.failure}"))
        page.goto(f"http://{host}:{port}/")
        deadline = time.monotonic() + 100
        while not said and not wrong and time.monotonic() < deadline:
            page.wait_for_timeout(50)  # the browser's events come in while it is waited for
    assert wrong == []
    (line,) = said
    must_have_made_the_vm(site, agent, line.removeprefix("VNC URL: "))


class _Quiet(http.server.SimpleHTTPRequestHandler):
    """Says nothing of the requests."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it has
        """Nothing."""


@contextlib.contextmanager
def _serving(directory: Path) -> Iterator[int]:
    """A page with the example in it, while the block runs; gives the port."""
    directory.mkdir()
    shutil.copy(EXAMPLE, directory)
    (directory / "index.html").write_text(PAGE.format(EXAMPLE.name))
    handler = functools.partial(_Quiet, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()
