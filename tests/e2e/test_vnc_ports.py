"""Ports of screens that several VMs want: who holds one by choice makes room, and two that change places do."""

from __future__ import annotations

import pytest

from tests.e2e import tiny
from tests.e2e.site import Agent, Site, free_port, wait_for

pytestmark = pytest.mark.timeout(300)


def ports(agent: Agent, *names: str) -> list[int]:
    """Where the screens are, by what QEMU says."""
    found = []
    for name in names:
        rows = agent.get(f"/api/vms/{name}/explain")[1]["fields"]
        found.append(int(next(row["now"] for row in rows if row["field"] == "vncPort") or 0))
    return found


def test_two_vms_change_places_while_they_run(site: Site) -> None:
    agent = site.agent()
    one, two = free_port(), free_port()
    site.write("a", isoPath=tiny.iso(site), vncPort=one)
    site.write("b", isoPath=tiny.iso(site), vncPort=two)
    for name in ("a", "b"):
        agent.wait_status(name, "running")
    pids = site.pids("a") + site.pids("b")
    site.edit("a", vncPort=two)
    site.edit("b", vncPort=one)
    wait_for("they have changed places", lambda: ports(agent, "a", "b") == [two, one], 120)
    assert site.pids("a") + site.pids("b") == pids
    wait_for("both are well", lambda: agent.vm("a")["settled"] and agent.vm("b")["settled"])
    assert [agent.vm(name)["vncPort"] for name in ("a", "b")] == [two, one]


def test_a_screen_on_a_port_that_was_only_chosen_moves_for_a_manifest_that_names_it(site: Site) -> None:
    agent = site.agent()
    site.write("a", isoPath=tiny.iso(site))
    site.edit("a", vncPort=None)
    agent.wait_status("a", "running")
    wait_for("it has a port", lambda: agent.vm("a")["vncPort"])
    pid = site.pid("a")
    site.edit("a", vncPort=None)
    chosen = ports(agent, "a")[0]
    site.write("b", isoPath=tiny.iso(site), vncPort=chosen)
    agent.wait_status("b", "running", 120)
    assert ports(agent, "b") == [chosen]
    wait_for("a is elsewhere", lambda: ports(agent, "a") != [chosen])
    assert site.pids("a") == [pid]
