"""What the fields of a manifest do to a real QEMU, as QEMU itself tells."""

from __future__ import annotations

import json
import socket
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.site import Site, free_port, wait_for


def answer(site: Site, name: str, command: str, **arguments: object) -> Any:
    (one,) = site.qmp(
        name, {"execute": command, "arguments": arguments} if arguments else {"execute": command}
    )
    return one["return"]


def test_every_field_reaches_qemu(site: Site) -> None:
    agent = site.agent()
    vnc, forwarded = free_port(), free_port()
    forwards = [{"hostPort": forwarded, "guestPort": 22}]
    site.write(
        "web", memory=160, cpuCores=2, diskSize=3, vncPort=vnc, bootOrder="hd,cd", portForwards=forwards
    )
    agent.wait_status("web", "running")
    assert answer(site, "web", "query-memory-size-summary")["base-memory"] == 160 * 1024**2
    assert len(answer(site, "web", "query-cpus-fast")) == 2
    disks = {d["qdev"]: d for d in answer(site, "web", "query-block")}
    root = next(d for qdev, d in disks.items() if "disk0" in qdev)
    assert root["inserted"]["image"]["virtual-size"] == 3 * 1024**3
    assert answer(site, "web", "query-vnc-servers")[0]["server"][0]["service"] == str(vnc)
    with socket.create_connection(("127.0.0.1", vnc), 30) as client:
        assert client.recv(4) == b"RFB "
    with socket.create_connection(("127.0.0.1", forwarded), 30):
        pass
    assert answer(site, "web", "qom-get", path="/machine/peripheral/disk0", property="bootindex") == 0
    assert answer(site, "web", "qom-get", path="/machine/peripheral/cd0", property="bootindex") == 1


def test_a_restart_brings_what_waits_for_one(site: Site) -> None:
    agent = site.agent()
    site.write("web", shutdown={"timeoutSeconds": 1})
    agent.wait_status("web", "running")
    site.edit("web", profile="compatible", memory=160)
    wait_for("a restart is required", lambda: agent.vm("web")["requiresRestart"])
    waits = "memory: 128 → 160 (this run can have 128 at most); profile: default → compatible"
    assert agent.condition("web", "RestartRequired")["message"] == waits
    site.edit("web", memory=128, profile=None)
    wait_for("the edit is taken back", lambda: not agent.vm("web")["requiresRestart"])
    site.edit("web", profile="compatible", memory=160)
    before = site.pid("web")
    site.edit("web", restartedAt="2026-01-01T00:00:00Z")
    wait_for("another QEMU", lambda: site.pids("web") not in ([], [before]))
    agent.wait_status("web", "running")
    assert not agent.vm("web")["requiresRestart"]
    assert answer(site, "web", "query-memory-size-summary")["base-memory"] == 160 * 1024**2


def test_a_disk_grows_while_the_vm_runs_and_while_it_is_off(site: Site) -> None:
    agent = site.agent()
    site.write("web", shutdown={"timeoutSeconds": 1})
    agent.wait_status("web", "running")
    pid = site.pid("web")
    site.edit("web", diskSize=2)
    wait_for("its file is larger", lambda: disk_size_gib(site) == 2)
    assert site.pids("web") == [pid]
    site.edit("web", state="stopped", diskSize=3)
    agent.wait_status("web", "stopped")
    site.edit("web", state="running")
    agent.wait_status("web", "running")
    assert disk_size_gib(site) == 3


def disk_size_gib(site: Site) -> int:
    """The virtual size in the head of the file."""
    root = site.state / "vms" / "web" / "root.qcow2"
    return int(struct.unpack(">Q", root.read_bytes()[24:32])[0]) // 1024**3


def test_a_smaller_disk_is_refused_and_nothing_is_lost(site: Site) -> None:
    agent = site.agent()
    site.write("web", diskSize=2, shutdown={"timeoutSeconds": 1})
    agent.wait_status("web", "running")
    site.edit("web", diskSize=1)
    wait_for("it is stalled", lambda: agent.condition("web", "Stalled").get("reason") == "DiskShrink")
    assert agent.vm("web")["status"] == "running"
    assert not agent.vm("web")["requiresRestart"]


@pytest.fixture
def anybodys_directory() -> Iterator[Path]:
    """A directory that QEMU's user may write to; it has none of its own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


def test_the_screen_and_the_guest_agent_are_there(site: Site, anybodys_directory: Path) -> None:
    site.agent()
    site.write("web", isoPath=site.iso("demo"))
    site.wait_serial("web", "GUEST-READY")
    shot = anybodys_directory / "screen.ppm"
    assert answer(site, "web", "screendump", filename=str(shot)) == {}
    assert len(set(shot.read_bytes()[100:])) > 1, "the screen is of one colour"
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(100)
        client.connect(str(site.run / "by-name" / "web" / "agent.sock"))
        client.sendall(b'{"execute":"guest-ping"}\n')
        assert json.loads(client.makefile().readline()) == {"return": {}}


def test_a_vnc_port_that_no_manifest_names_is_chosen_and_kept(site: Site) -> None:
    agent = site.agent()
    site.write("web", vncPort=None)
    path = site.manifests / "web.yaml"
    path.write_text(path.read_text().replace("  vncPort: null\n", ""))
    port = agent.wait_status("web", "running")["vncPort"]
    assert port >= 5900
    assert "vncPort" not in path.read_text()
    site.edit("web", state="stopped", shutdown={"timeoutSeconds": 1})
    agent.wait_status("web", "stopped")
    assert agent.vm("web")["vncPort"] == port


def test_of_two_claims_of_one_port_the_running_vm_keeps_it(site: Site) -> None:
    agent = site.agent()
    port = free_port()
    site.write("first", vncPort=port)
    agent.wait_status("first", "running")
    site.write("second", vncPort=port)
    wait_for(
        "the conflict is told", lambda: agent.condition("second", "Ready").get("reason") == "PortConflict"
    )
    assert "'first'" in agent.condition("second", "Ready")["message"]
    assert agent.vm("first")["status"] == "running"


def test_qemu_runs_unprivileged_and_sandboxed(site: Site) -> None:
    agent = site.agent()
    site.write("web")
    agent.wait_status("web", "running")
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{site.pid('web')}/status").read_text().splitlines()
        if ":\t" in line
    )
    assert status["Seccomp"] == "2"
    assert "0" not in status["Uid"].split()
    assert int(status["CapEff"], 16) == 0
