"""A QEMU that somebody started by hand becomes a VM of the agent's, and its guest notices nothing."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from tests.e2e import tiny
from tests.e2e.by_hand import ByHand, by_hand, disk, reconciler, serial
from tests.e2e.shell import Shell
from tests.e2e.shell import shell as shell_of
from tests.e2e.site import Agent, Site, free_port, wait_for

pytestmark = pytest.mark.timeout(400)
COUNTER = "(i=0; while true; do i=$((i+1)); read up rest < /proc/uptime; echo $i $up; sleep 0.1; done) > /tmp/n & true"
GAP_MAX_S = 3.0  # an emulated guest on a busy host; one that was restarted would begin at 1 again
TREASURE = "treasure-of-the-guest"


def settled(agent: Agent, name: str, pid: int) -> dict[str, object]:
    """Wait until there is nothing to do for a VM that is still the same process; returns it."""
    wait_for("nothing to do", lambda: agent.vm(name).get("plan") == "nothing to do")
    vm = agent.vm(name)
    assert (vm["status"], vm["pid"], vm["requiresRestart"], vm["settled"]) == ("running", pid, False, True)
    return vm


def counted(guest: Shell) -> list[tuple[int, float]]:
    """What the guest has counted, and when."""
    lines = guest.says("cat /tmp/n").split("\n")
    return [(int(n), float(up)) for n, up in (line.split() for line in lines if len(line.split()) == 2)]


def spec_of(site: Site, name: str) -> dict[str, object]:
    """The spec in the manifest that was written."""
    return dict(yaml.safe_load((site.manifests / f"{name}.yaml").read_text())["spec"])


def refusal(site: Site, *words: str | Path) -> str:
    """What is said of an import that is refused; nothing is left of it."""
    said = reconciler(site, "import", *words)
    assert said.returncode == 1, said.stdout + said.stderr
    return said.stderr


def imported(site: Site, agent: Agent, hand: ByHand, *more: str) -> str:
    """Import it by the command line; returns what is said. It is the same process, and there is nothing to do."""
    done = reconciler(site, "import", "--qmp", hand.qmp, *more)
    assert done.returncode == 0, done.stderr
    assert f"runs on as pid {hand.pid}" in done.stderr
    assert reconciler(site, "validate").returncode == 0
    return done.stderr


def forward(host_port: int, guest_port: int) -> dict[str, object]:
    """A port forward, as it is written down."""
    return {
        "hostPort": host_port,
        "guestPort": guest_port,
        "protocol": "tcp",
        "hostAddress": "127.0.0.1",
    }


def is_open(port: int) -> bool:
    """Whether somebody listens on the loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def explained(agent: Agent, name: str, field: str) -> str:
    """What QEMU says of a field."""
    (row,) = [row for row in agent.get(f"/api/vms/{name}/explain")[1]["fields"] if row["field"] == field]
    return str(row["now"])


def test_its_guest_counts_on_and_it_takes_live_changes(site: Site) -> None:
    """One guest from its start by hand to the start that is the agent's own, on the same disk."""
    vnc, ssh, iso = free_port(), free_port(), site.state / "iso" / site.iso("demo")
    agent = site.agent(resyncSeconds=10)
    home = site.run / "hand"
    home.mkdir()
    words = [
        *("-name", "web", "-smp", "1,maxcpus=4", "-vnc", f"127.0.0.1:{vnc - 5900}", *serial(site)),
        *("-drive", f"file={disk(home)},if=virtio", "-cdrom", str(iso), "-boot", "d"),
        *("-nic", f"user,model=virtio,hostfwd=tcp:127.0.0.1:{ssh}-:22", "-rtc", "base=utc"),
    ]
    with by_hand(site, *words) as hand:
        with hand.shell() as guest:
            guest.says(COUNTER)
            guest.says(f"echo {TREASURE} | dd of=/dev/vda conv=sync 2>/dev/null; sync")
            said = imported(site, agent, hand)
            settled(agent, "web", hand.pid)
            assert "-rtc base=utc: counts for this run" in said
            small = {"memory": 128, "cpuCores": 1, "maxCpuCores": 4, "diskSize": 1}
            doors = {"vncPort": vnc, "isoPath": str(iso), "portForwards": [forward(ssh, 22)]}
            assert spec_of(site, "web") == small | doors
            assert (site.state / "vms/web/root.qcow2").samefile(home / "disk.qcow2")
            changed_live(site, agent, hand, guest, (vnc, ssh))
            assert agent.stop() == 0
            agent = site.agent(resyncSeconds=10)
            settled(agent, "web", hand.pid)
            site.edit("web", rootDisk={"iops": 700})
            wait_for("the disk is slower", lambda: explained(agent, "web", "rootDisk") == "iops: 700")
            settled(agent, "web", hand.pid)
            ticks = counted(guest)
            assert [number for number, _ in ticks] == list(range(1, len(ticks) + 1))
            assert max(after - before for (_, before), (_, after) in pairwise(ticks)) < GAP_MAX_S
            assert "is the VM web already" in refusal(site, "--qmp", hand.qmp, "--name", "other")
            guest.leave("poweroff")
        hand.process.wait(120)
        agent.wait_status("web", "stopped")
        assert agent.post("/api/vms/web/start")[0] == 200
        with shell_of(site, "web") as again:
            assert TREASURE in again.says("head -c 30 /dev/vda | tr -d '\\0'")


def changed_live(site: Site, agent: Agent, hand: ByHand, guest: Shell, before: tuple[int, int]) -> None:
    """The manifest is edited, the guest and the host see it, the process is the same."""
    vnc, ssh = free_port(), free_port()
    site.edit("web", vncPort=vnc, diskSize=2, portForwards=[forward(ssh, 22)], cpuCores=2, mountIso=False)
    wait_for("its disk is larger", lambda: guest.prints("cat /sys/block/vda/size") == "4194304")
    wait_for("it has two cores", lambda: guest.prints("nproc") == "2")
    assert settled(agent, "web", hand.pid)["vncPort"] == vnc
    assert [is_open(port) for port in (vnc, ssh, *before)] == [True, True, False, False]
    assert explained(agent, "web", "isoPath") == "none"
    site.edit("web", mountIso=True)
    wait_for("its CD is back", lambda: explained(agent, "web", "isoPath").endswith("demo.iso"))
    settled(agent, "web", hand.pid)


def test_a_disk_that_cannot_be_shared_is_never_replaced_by_a_blank_one(site: Site) -> None:
    """A raw image: the VM runs on as it is, and is not started by the agent before somebody brings the disk."""
    agent = site.agent()
    home = site.run / "hand"
    home.mkdir()
    words = ["-hda", disk(home, "raw"), "-cdrom", tiny.path(site), "-boot", "d", "-nic", "none"]
    with by_hand(site, *map(str, words)) as hand:
        said = imported(site, agent, hand, "--name", "old")
        command = f"qemu-img convert -f raw -O qcow2 {home}/disk.raw {site.state}/vms/old/root.qcow2"
        assert command in said
        vm = settled(agent, "old", hand.pid)
        assert (vm["vncPort"], spec_of(site, "old")["profile"]) == (None, "compatible")
        site.edit("old", networkLink="down", vncPort=free_port(), portForwards=[forward(free_port(), 22)])
        wait_for("a restart is asked for", lambda: agent.vm("old")["requiresRestart"])
        waits = {change["field"] for change in agent.vm("old")["pending"]}
        assert waits == {"networkLink", "vncPort", "portForwards"}
        assert agent.vm("old")["pid"] == hand.pid
        hand.end()
    wait_for("it is not started", lambda: agent.condition("old", "Stalled").get("reason") == "DiskMissing")
    assert not (site.state / "vms/old/root.qcow2").exists()
    assert site.pids("old") == []
    subprocess.run(shlex.split(command), check=True, timeout=60)
    site.edit("old", portForwards=None, networkLink=None)
    agent.post("/api/vms/old/start")
    agent.wait_status("old", "running")


def test_what_is_no_qemu_to_take_over_is_refused_and_nothing_is_left_behind(site: Site) -> None:
    agent = site.agent()
    site.write("taken", isoPath=tiny.iso(site), state="stopped")
    monitor = ("-monitor", "unix:hmp.sock,server=on,wait=off", "-nic", "none")
    with by_hand(site, *monitor) as hand, socket.socket(socket.AF_UNIX) as alien:
        alien.bind(str(hand.home / "alien.sock"))
        alien.listen()
        agent.wait_status("taken", "stopped")
        for words, expected in (
            (("--qmp", hand.home / "hmp.sock", "--name", "a"), "nobody answers there as QMP does"),
            (("--qmp", hand.home / "alien.sock", "--name", "a"), f"(pid {os.getpid()}) is "),
            (("--qmp", hand.home / "none.sock", "--name", "a"), "No such file or directory"),
            (("--qmp", hand.home / "stderr", "--name", "a"), "it is no socket"),
            (("--qmp", hand.qmp), "give it one with --name"),
            (("--qmp", hand.qmp, "--name", "taken"), "taken.yaml:"),
        ):
            assert expected in refusal(site, *words), words
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(hand.qmp))
            client.recv(10)
            assert "QMP serves one client at a time" in refusal(site, "--qmp", hand.qmp, "--name", "a")
        rehearsed = agent.post("/api/import?dryRun=true", {"qmp": str(hand.qmp), "name": "a"})[1]
        assert (rehearsed["vm"], (site.state / "vms/a").exists()) == (None, False)
        imported(site, agent, hand, "--name", "a")
        assert rehearsed["manifest"] == (site.manifests / "a.yaml").read_text()
        settled(agent, "a", hand.pid)
        hand.process.kill()  # so that its socket stays where it is
        hand.process.wait(30)
    assert sorted(path.name for path in site.manifests.iterdir()) == ["a.yaml", "taken.yaml"]
    assert "nobody listens on it" in refusal(site, "--qmp", hand.qmp, "--name", "b")


def test_what_has_not_begun_or_whose_names_are_ours_is_left_as_it_is(site: Site) -> None:
    """Devices that bear names of ours are none of ours: nothing is unplugged, nothing dropped."""
    agent = site.agent()
    names = [
        *("-S", "-M", "q35", "-device", "pcie-root-port,id=port0", "-netdev", "user,id=net-lan"),
        *("-device", "virtio-net-pci,id=nic-lan,netdev=net-lan", "-netdev", "user,id=net0"),
        *("-blockdev", "driver=null-co,node-name=disk-x,read-zeroes=on,size=1048576"),
        *("-device", "virtio-blk-pci,id=disk-x,drive=disk-x", "-blockdev", "driver=null-co,node-name=disk-y"),
    ]
    with by_hand(site, *names) as hand:
        assert "its guest does not run" in refusal(site, "--qmp", hand.qmp, "--name", "a")
        ask(hand, "cont")
        before = ask(hand, "query-named-block-nodes"), ask(hand, "qom-list", path="/machine/peripheral")
        imported(site, agent, hand, "--name", "a")
        settled(agent, "a", hand.pid)
        assert agent.stop() == 0
        assert before == (
            ask(hand, "query-named-block-nodes"),
            ask(hand, "qom-list", path="/machine/peripheral"),
        )


def ask(hand: ByHand, command: str, **arguments: str) -> object:
    """One QMP command, on a connection of its own."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(hand.qmp))
        stream = client.makefile("rw")
        stream.readline()
        answer = {}
        for words in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
            stream.write(json.dumps(words) + "\n")
            stream.flush()
            while "event" in (answer := json.loads(stream.readline())):
                pass
        return answer["return"]
