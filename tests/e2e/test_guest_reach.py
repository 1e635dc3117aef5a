"""What a guest reaches of its host at 10.0.2.2: a server that means it, and neither the API nor anybody's screen."""

from __future__ import annotations

import http.server
import os
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from reconciler.network import nft
from tests.e2e.shell import Shell, shell
from tests.e2e.site import Agent, Site, free_port, wait_for

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only an agent of root's closes VNC ports")
pytestmark = pytest.mark.timeout(300)  # guests boot slowly where many do
HOST = "10.0.2.2"


def reaches(guest: Shell, port: int) -> bool:
    """Whether anything at all answers at this port of the host: one byte is enough."""
    status, _ = guest.run(f"timeout 5 wget -q -O - http://{HOST}:{port}/healthz")
    greeted, _ = guest.run(f'test -n "$(timeout 3 nc {HOST} {port} </dev/null | head -c 1)"')
    return status == 0 or greeted == 0


@contextmanager
def web_server() -> Iterator[int]:
    """Another server of the host's loopback, which does not mind guests; its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"HELLO-GUEST\n")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def api_port(agent: Agent) -> int:
    port = urlsplit(agent.url).port
    assert port
    return port


def page_answers(port: int) -> bool:
    """Whether a person on the host is shown the console's page."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/vnc.html", timeout=30) as answer:
        return bool(answer.status == 200)


def vnc_greets(port: int) -> bool:
    """Whether a person on the host is greeted by the VM's screen."""
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        return client.recv(12).startswith(b"RFB ")


@as_root
def test_a_guest_reaches_neither_the_api_nor_any_screen_and_all_else(site: Site) -> None:
    agent = site.agent()
    site.write("web", isoPath=site.iso("demo"))
    site.write("other")
    mine, yours = (agent.wait_status(name, "running")["vncPort"] for name in ("web", "other"))
    console = free_port()
    assert agent.post("/api/novnc/web", {"webPort": console})[0] == 200
    assert page_answers(console)
    with web_server() as port, shell(site, "web") as guest:
        status, printed = guest.run(f"timeout 20 wget -q -O - http://{HOST}:{port}/")
        assert (status, "HELLO-GUEST" in printed) == (0, True)
        assert not reaches(guest, api_port(agent))
        assert not reaches(guest, console)
        assert not reaches(guest, mine)
        assert not reaches(guest, yours)
        forged = f"timeout 5 wget -q -O - --header 'Host: localhost' --post-data x http://{HOST}:{api_port(agent)}/api/prune"
        assert guest.run(forged)[0] != 0
    assert vnc_greets(mine)
    assert vnc_greets(yours)
    assert agent.get("/api/vms")[0] == 200
    assert agent.condition("web", "HostReachable") == {}
    said = [line for line in agent.log.read_text().splitlines() if "the API: refused a connection" in line]
    assert 1 <= len(said) <= 2, "three tries, one line a minute"


@as_root
def test_screens_stay_closed_without_an_agent_and_the_rules_go_with_the_last_vm(site: Site) -> None:
    table = nft.table_name(site.state)
    agent = site.agent()
    site.write("web", isoPath=site.iso("demo"))
    mine = agent.wait_status("web", "running")["vncPort"]
    agent.kill()
    with shell(site, "web") as guest:
        assert not reaches(guest, mine)
    nft.apply(f"delete table inet {table}")
    heir = site.agent()
    assert f"{{ {mine} }}" in nft.listing(table), (
        "what went while no agent was there is back before it is ready"
    )
    nft.apply(f"delete table inet {table}")
    wait_for("the rules are back", lambda: f"{{ {mine} }}" in nft.listing(table))
    assert heir.post("/api/vms/web/stop", {"force": True})[0] == 200
    assert nft.listing(table) == ""


def test_where_screens_cannot_be_closed_the_vm_says_so_and_the_api_is_closed_still(site: Site) -> None:
    """An agent whose QEMUs have no user of their own: a plain user's, or one that was told so."""
    agent = site.agent(qemuUser="none")
    site.write("web", isoPath=site.iso("demo"))
    mine = agent.wait_status("web", "running")["vncPort"]
    with shell(site, "web") as guest:
        assert not reaches(guest, api_port(agent))
        assert reaches(guest, mine), "if this is closed now, the condition below is wrong"
    said = agent.condition("web", "HostReachable")
    assert (said["status"], said["reason"]) == ("True", "SameUser")
    assert "10.0.2.2" in said["message"]
    assert agent.condition("web", "Ready")["status"] == "True"
    assert agent.post("/api/vms/web/stop", {"force": True})[0] == 200
    assert agent.condition("web", "HostReachable") == {}
