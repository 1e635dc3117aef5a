"""What only a restart brings: said field by field, taken back without a trace, and brought as updatePolicy says."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.e2e import tiny
from tests.e2e.shell import shell
from tests.e2e.site import Agent, Site, wait_for

pytestmark = pytest.mark.timeout(300)
TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Agent]]:
    """A tiny VM that runs, and is asked for one change after the other."""
    site = Site(tmp_path_factory.mktemp("updates"))
    with contextlib.closing(site):
        agent = site.agent()
        site.write("web", isoPath=tiny.iso(site), shutdown={"timeoutSeconds": 20})
        agent.wait_status("web", "running", TIMEOUT_S)
        yield site, agent


def waiting(agent: Agent) -> list[str]:
    """The fields that wait for a restart; `requiresRestart` says the same."""
    vm = agent.get("/api/vms/web/pending")[1]
    fields = [change["field"] for change in vm["pending"]]
    assert vm["requiresRestart"] == bool(fields)
    return fields


# Where KVM works, accel: auto is kvm already; and where it does not, no restart brings it.
RESTARTS: dict[str, tuple[dict[str, object], bool]] = {
    "memory": ({"memory": 192}, True),
    "maxMemory": ({"maxMemory": 512}, True),
    "cpuCores": ({"cpuCores": 5}, True),
    "maxCpuCores": ({"maxCpuCores": 32}, True),
    "profile": ({"profile": "compatible"}, True),
    "watchdog": ({"watchdog": {}}, True),
    "accel": ({"accel": "kvm"}, False),
}


@pytest.mark.xdist_group("updates")
@pytest.mark.parametrize("field", RESTARTS)
def test_what_needs_a_restart_is_named_alone_taken_back_and_brought_by_one(
    place: tuple[Site, Agent], field: str
) -> None:
    site, agent = place
    change, can_be_had = RESTARTS[field]
    pid = site.pid("web")
    wait_for("nothing waits", lambda: waiting(agent) == [], TIMEOUT_S)
    site.edit("web", **change)
    wait_for(f"{field} waits", lambda: waiting(agent) == [field], TIMEOUT_S)
    site.edit("web", **before(site, change))
    wait_for("nothing waits", lambda: waiting(agent) == [], TIMEOUT_S)
    assert site.pids("web") == [pid]
    if can_be_had:
        site.edit("web", **change)
        wait_for(f"{field} waits", lambda: waiting(agent) == [field], TIMEOUT_S)
        assert agent.post("/api/vms/web/restart")[0] == 200
        assert site.pid("web") != pid
        wait_for("nothing waits", lambda: waiting(agent) == [], TIMEOUT_S)


def before(site: Site, change: dict[str, object]) -> dict[str, object]:
    """What the manifest of this test says of these fields at first."""
    small = {"memory": 128, "cpuCores": 1}
    assert (site.manifests / "web.yaml").exists()
    return {name: small.get(name) for name in change}


def test_with_update_policy_restart_it_comes_at_once_and_once(site: Site) -> None:
    agent = site.agent()
    site.write("web", isoPath=tiny.iso(site), updatePolicy="restart", shutdown={"timeoutSeconds": 20})
    agent.wait_status("web", "running", TIMEOUT_S)
    tiny.wait_up(site, "web")
    pid = site.pid("web")
    site.edit("web", memory=160)
    wait_for("another QEMU", lambda: site.pids("web") not in ([], [pid]), TIMEOUT_S)
    wait_for("it is settled", lambda: agent.vm("web")["settled"], TIMEOUT_S)
    assert (waiting(agent), agent.vm("web")["status"]) == ([], "running")
    assert agent.log.read_text().count("PowerDown() because updatePolicy is restart: memory: 128 → 160") == 1


def test_outside_its_window_it_waits_and_inside_it_comes(site: Site) -> None:
    agent = site.agent()
    now = datetime.now(UTC)
    closed = window(now + timedelta(hours=6), now + timedelta(hours=7))
    site.write(
        "web",
        isoPath=tiny.iso(site),
        updatePolicy="window",
        updateWindow=closed,
        shutdown={"timeoutSeconds": 20},
    )
    agent.wait_status("web", "running", TIMEOUT_S)
    tiny.wait_up(site, "web")
    pid = site.pid("web")
    site.edit("web", memory=160)
    wait_for("it waits", lambda: waiting(agent) == ["memory"], TIMEOUT_S)
    assert site.pids("web") == [pid]
    site.edit("web", updateWindow=window(now - timedelta(hours=1), now + timedelta(hours=2)))
    wait_for("another QEMU", lambda: site.pids("web") not in ([], [pid]), TIMEOUT_S)
    wait_for("nothing waits", lambda: waiting(agent) == [], TIMEOUT_S)


def window(opens: datetime, closes: datetime) -> dict[str, object]:
    """The hours between two times of one day, on every day of the week."""
    days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    return {"days": days, "from": f"{opens:%H:%M}", "to": f"{closes:%H:%M}"}


def test_with_on_guest_reboot_the_guests_own_reboot_brings_it_and_its_power_off_is_still_one(
    site: Site,
) -> None:
    agent = site.agent()
    site.write(
        "web", isoPath=site.iso("demo"), updatePolicy="on-guest-reboot", shutdown={"timeoutSeconds": 20}
    )
    agent.wait_status("web", "running", TIMEOUT_S)
    pid = site.pid("web")
    with shell(site, "web") as guest:
        site.edit("web", memory=160)
        wait_for("it waits", lambda: waiting(agent) == ["memory"], TIMEOUT_S)
        wait_for("QEMU knows", lambda: "SetReboot(shutdown)" in agent.log.read_text(), TIMEOUT_S)
        guest.leave("reboot -f")
    wait_for("another QEMU", lambda: site.pids("web") not in ([], [pid]), TIMEOUT_S)
    wait_for("nothing waits", lambda: waiting(agent) == [], TIMEOUT_S)
    site.wait_serial("web", "GUEST-READY", times=2)
    site.edit("web", memory=192)
    wait_for("it waits again", lambda: agent.log.read_text().count("SetReboot(shutdown)") == 2, TIMEOUT_S)
    with shell(site, "web") as guest:
        guest.leave("poweroff -f")
    wait_for("it is off", lambda: site.pids("web") == [], TIMEOUT_S)
    ended = agent.wait_status("web", "stopped", TIMEOUT_S)
    assert ended["lastExit"]["kind"] == "GuestShutdown"
