"""`suspend`, made for real: what was about to happen to a VM does not, then or afterwards."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e import tiny
from tests.e2e.site import Agent, Site, wait_for


def stop_phase(site: Site, name: str) -> dict[str, Any] | None:
    """The stop that the agent remembers to be under way."""
    lifecycle = json.loads((site.state / "vms" / name / "lifecycle.json").read_text())
    phase: dict[str, Any] | None = lifecycle["stop"]
    return phase


def told(agent: Agent, action: str) -> int:
    """How often QEMU was told what a reboot does."""
    return agent.log.read_text().count(f"SetReboot({action})")


def test_a_guest_that_reboots_while_its_vm_is_suspended_goes_on(site: Site) -> None:
    agent = site.agent()
    site.write("web", isoPath=tiny.iso(site), updatePolicy="on-guest-reboot", memory=64)
    tiny.wait_up(site, "web")
    agent.wait_status("web", "running")
    pid = site.pid("web")
    site.edit("web", memory=96)
    wait_for("a reboot would bring it", lambda: told(agent, "shutdown") == 1)
    site.edit("web", suspend=True)
    wait_for("it would not", lambda: told(agent, "reset") == 1)
    keys = [{"type": "qcode", "data": key} for key in ("ctrl", "alt", "delete")]
    site.qmp("web", {"execute": "send-key", "arguments": {"keys": keys}})
    site.wait_serial("web", "U", times=2)
    assert agent.vm("web")["status"] == "running"
    site.edit("web", suspend=None)
    wait_for("a reboot would bring it again", lambda: told(agent, "shutdown") == 2)
    assert site.pid("web") == pid


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_a_stop_that_was_under_way_is_given_up_and_begins_anew_only_if_it_is_still_asked_for(
    site: Site, state: str
) -> None:
    agent = site.agent()
    site.write("deaf", shutdown={"timeoutSeconds": 60})
    agent.wait_status("deaf", "running")
    pid = site.pid("deaf")
    site.edit("deaf", state="stopped")
    agent.wait_status("deaf", "stopping")
    wait_for("it is under way", lambda: stop_phase(site, "deaf"))
    site.edit("deaf", suspend=True, state=state)
    wait_for("it is given up", lambda: stop_phase(site, "deaf") is None)
    agent.wait_status("deaf", "running")
    site.edit("deaf", suspend=None, shutdown={"timeoutSeconds": 1})
    if state == "running":
        wait_for(
            "all is well", lambda: agent.vm("deaf")["settled"] and not agent.condition("deaf", "Suspended")
        )
        assert site.pid("deaf") == pid
    else:
        agent.wait_status("deaf", "stopped")
