"""What somebody does to a VM behind the agent's back, through its second QMP socket, is mended, or said."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.shell import shell
from tests.e2e.site import Agent, Site, free_port, wait_for

pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("drift")]
RESYNC_S = 5
MENDED_S = 60.0  # a bound against hanging; how soon it is depends on the machine
PERIPHERAL = "/machine/peripheral"


@dataclass
class Victim:
    """A VM whose guest is up, the agent that keeps it, and somebody at its second QMP socket."""

    site: Site
    agent: Agent
    pid: int

    def qmp(self, command: str, **arguments: Any) -> Any:
        """One command of somebody's; QEMU accepts it."""
        words = {name.replace("_", "-"): value for name, value in arguments.items()}
        (answer,) = self.site.qmp("web", {"execute": command, "arguments": words})
        assert "return" in answer, answer
        return answer["return"]

    def hmp(self, line: str) -> str:
        """One line of QEMU's own monitor."""
        return str(self.qmp("human-monitor-command", command_line=line))

    def now(self, field: str) -> str:
        """What QEMU says of a field, by a look of its own."""
        rows = self.agent.get("/api/vms/web/explain")[1]["fields"]
        return str(next(row["now"] for row in rows if row["field"] == field))

    def block(self, device: str) -> dict[str, Any]:
        """A drive, as QEMU lists it."""
        drives = {drive["qdev"].removesuffix("/virtio-backend"): drive for drive in self.qmp("query-block")}
        return dict(drives.get(f"{PERIPHERAL}/{device}", drives.get(device, {})))


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    site = Site(tmp_path_factory.mktemp("drift"))
    with contextlib.closing(site):
        agent = site.agent(resyncSeconds=RESYNC_S)
        site.iso("data")
        site.write(
            "web",
            isoPath=site.iso("demo"),
            memory=256,
            maxMemory=512,
            portForwards=[{"hostPort": free_port(), "guestPort": 80}],
            disks=[{"name": "data", "size": 1}],
            nics=[{"name": "lan"}],
            rootDisk={"iops": 500},
        )
        agent.wait_status("web", "running", MENDED_S)
        with shell(site, "web"):
            pass
        wait_for("it is settled", lambda: agent.vm("web")["settled"], MENDED_S)
        yield Victim(site, agent, site.pid("web"))


def eject(v: Victim) -> None:
    v.qmp("eject", id="cd0", force=True)


def limit(v: Victim) -> None:
    zero = {"bps": 0, "bps_rd": 0, "bps_wr": 0, "iops_rd": 0, "iops_wr": 0}
    words = {"id": f"{PERIPHERAL}/disk0/virtio-backend", "iops": 7, **zero}
    (answer,) = v.site.qmp("web", {"execute": "block_set_io_throttle", "arguments": words})
    assert "return" in answer, answer


def remove_forward(v: Victim) -> None:
    assert "removed" in v.hmp(f"hostfwd_remove net0 tcp:{forward(v).partition('->')[0]}")


def forward(v: Victim) -> str:
    return v.now("portForwards")


def boot_from_disk_alone(v: Victim) -> None:
    v.qmp("qom-set", path=f"{PERIPHERAL}/cd0", property="bootindex", value=-1)


def move_screen(v: Victim) -> None:
    address = {"type": "inet", "host": "127.0.0.1", "port": str(free_port())}
    v.qmp("display-update", type="vnc", addresses=[address])


KINDS: dict[str, tuple[str, Callable[[Victim], object]]] = {
    "the CD is ejected": ("isoPath", eject),
    "a disk's limit is changed": ("rootDisk", limit),
    "a port forward is removed": ("portForwards", remove_forward),
    "a port forward is added": (
        "portForwards",
        lambda v: v.hmp(f"hostfwd_add net0 tcp:127.0.0.1:{free_port()}-:22"),
    ),
    "the boot order is changed": ("bootOrder", boot_from_disk_alone),
    "the screen is moved": ("vncPort", move_screen),
    "the balloon is filled": ("memory", lambda v: v.qmp("balloon", value=200 * 1024**2)),
    "memory is plugged in": (
        "memory",
        lambda v: v.qmp("qom-set", path=f"{PERIPHERAL}/vmem0", property="requested-size", value=64 * 1024**2),
    ),
    "a data disk is unplugged": ("disks", lambda v: v.qmp("device_del", id="disk-data")),
    "a network card is unplugged": ("nics", lambda v: v.qmp("device_del", id="nic-lan")),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_changed_is_as_it_was_and_qemu_is_the_same(victim: Victim, kind: str) -> None:
    field, interfere = KINDS[kind]
    before = victim.now(field)
    began = time.monotonic()
    interfere(victim)
    wait_for(f"{kind}: seen", lambda: changed_or_mended(victim, field, before, began), MENDED_S)
    wait_for(f"{kind}: mended", lambda: victim.now(field) == before, MENDED_S)
    wait_for("nothing is left to do", lambda: victim.agent.vm("web")["plan"] == "nothing to do", MENDED_S)
    assert victim.site.pids("web") == [victim.pid]


def changed_or_mended(v: Victim, field: str, before: str, began: float) -> bool:
    """The interference was seen by our own look; or the agent was quicker, and its log says that it mended."""
    return v.now(field) != before or time.monotonic() - began > RESYNC_S


def test_a_disk_that_somebody_made_larger_is_said(victim: Victim) -> None:
    victim.qmp("block_resize", node_name="disk0", size=3 * 1024**3)
    wait_for("it is said", lambda: victim.agent.condition("web", "Stalled"), MENDED_S)
    said = victim.agent.condition("web", "Stalled")
    assert (said["reason"], "write 3" in said["message"]) == ("DiskShrink", True)
    victim.site.edit("web", diskSize=3)
    wait_for("it is well", lambda: not victim.agent.condition("web", "Stalled"), MENDED_S)


def test_a_core_that_somebody_added_is_given_up_by_the_guests_agent(victim: Victim) -> None:
    place = {"socket-id": 0, "core-id": 1, "thread-id": 0}
    (answer,) = victim.site.qmp(
        "web", {"execute": "device_add", "arguments": {"driver": "max-x86_64-cpu", "id": "cpu1", **place}}
    )
    assert "return" in answer, answer
    wait_for("it is plugged in", lambda: victim.qmp("query-cpus-fast")[1:], MENDED_S)
    wait_for("the agent has asked", lambda: "UseCpus(1)" in victim.agent.log.read_text(), MENDED_S)
    wait_for("it is given up", lambda: victim.now("cpuCores") == "1", MENDED_S)
    assert victim.site.pids("web") == [victim.pid]
