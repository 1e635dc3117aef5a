"""Every field that is changed while the VM runs: the guest itself sees it, QEMU stays the same process.

The guest is booted once and changed by one test after the other, each beginning where the last one left it.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.shell import Shell, shell
from tests.e2e.site import GUESTS, Agent, Site, free_port, wait_for

pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("live")]
TIMEOUT_S = 60.0
SERIALS = "for disk in /sys/block/vd?/serial; do cat $disk; echo; done | sort | xargs"


@dataclass
class Guest:
    """A guest that is up, its shell, and the agent that keeps it."""

    site: Site
    agent: Agent
    shell: Shell
    pid: int

    def change(self, **spec: object) -> None:
        """Edit the manifest."""
        self.site.edit("web", **spec)

    def sees(self, what: str, command: str, expected: str) -> None:
        """Wait until the guest says what is expected; it is the same QEMU, and the agent has nothing left to do."""
        wait_for(f"{what}: {expected}", lambda: self.shell.prints(command) == expected, TIMEOUT_S)
        self.settled()

    def settled(self) -> None:
        """Nothing is left to do, nothing waits for a restart, and nobody restarted anything."""
        wait_for(
            "the agent has nothing to do", lambda: self.agent.vm("web")["plan"] == "nothing to do", TIMEOUT_S
        )
        seen = self.agent.vm("web")
        assert (seen["requiresRestart"], seen["pid"], self.site.pids("web")) == (False, self.pid, [self.pid])

    def explained(self, field: str) -> dict[str, str]:
        """The row of a field in `explain`."""
        (row,) = [row for row in self.agent.get("/api/vms/web/explain")[1]["fields"] if row["field"] == field]
        return dict(row)


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    site = Site(tmp_path_factory.mktemp("live"))
    with contextlib.closing(site):
        agent = site.agent(resyncSeconds=10)
        site.iso("demo")
        site.write("web", isoPath="demo.iso", memory=256, maxMemory=512, watchdog={"action": "none"})
        agent.wait_status("web", "running", TIMEOUT_S)
        with shell(site, "web") as line:
            yield Guest(site, agent, line, site.pid("web"))


def memory_mib(guest: Guest) -> int:
    """The memory that the guest's kernel counts."""
    return (
        int(re.findall(r"MemTotal: +([0-9]+) kB", guest.shell.says("grep MemTotal /proc/meminfo"))[0]) // 1024
    )


def test_cpu_cores_are_added(guest: Guest) -> None:
    assert guest.shell.says("nproc") == "1"
    guest.change(cpuCores=3)
    guest.sees("cores", "nproc", "3")
    assert guest.explained("cpuCores") | {"how": ""} == {
        "field": "cpuCores",
        "manifest": "3",
        "launched": "1",
        "now": "3",
        "reach": "live",
        "how": "",
        "pending": None,
    }


def test_cpu_cores_are_given_up_through_the_guests_agent_and_taken_back(guest: Guest) -> None:
    guest.change(cpuCores=2)
    guest.sees("cores", "nproc", "2")
    assert guest.explained("cpuCores")["now"] == "2"
    guest.change(cpuCores=4)
    guest.sees("cores", "nproc", "4")
    guest.change(cpuCores=1)
    guest.sees("cores", "nproc", "1")
    guest.change(cpuCores=3)
    guest.sees("cores", "nproc", "3")


def test_memory_is_added_and_taken_away(guest: Guest) -> None:
    before = memory_mib(guest)
    guest.change(memory=384)
    wait_for("128 MiB more", lambda: memory_mib(guest) > before + 120, TIMEOUT_S)
    guest.settled()
    guest.change(memory=200)
    wait_for("56 MiB less", lambda: memory_mib(guest) < before - 50, TIMEOUT_S)
    guest.settled()
    assert guest.explained("memory")["now"] == "200"
    guest.change(memory=256)
    wait_for("as at first", lambda: abs(memory_mib(guest) - before) <= 5, TIMEOUT_S)
    guest.settled()


def test_the_root_disk_grows(guest: Guest) -> None:
    guest.change(diskSize=2)
    guest.sees("sectors", "cat /sys/block/vda/size", str(2 * 1024**3 // 512))


def test_a_disk_is_slowed_down_and_set_free_again(guest: Guest) -> None:
    guest.change(rootDisk={"iops": 10})
    wait_for("the limit", lambda: guest.explained("rootDisk")["now"] == "iops: 10", TIMEOUT_S)
    began = time.monotonic()
    guest.shell.says(
        "for i in 1 2 3 4 5 6; do dd if=/dev/vda of=/dev/null bs=4k count=10 skip=$((i*99)) 2>&1; done"
    )
    guest.shell.says("echo 3 > /proc/sys/vm/drop_caches")
    guest.shell.says("dd if=/dev/vda of=/dev/null bs=4M count=16 2>&1")
    assert time.monotonic() - began > 2
    guest.change(rootDisk=None)
    wait_for("no limit", lambda: guest.explained("rootDisk")["now"] == "unlimited", TIMEOUT_S)
    guest.settled()


def test_data_disks_come_grow_and_go_and_keep_what_is_on_them(guest: Guest) -> None:
    guest.change(disks=[{"name": "data", "size": 1}, {"name": "more", "size": 1, "mbps": 50}])
    guest.sees("disks", SERIALS, "data more")
    find = "disk=/dev/$(grep -lx data /sys/block/vd?/serial | cut -d/ -f4)"
    guest.shell.says(f"{find}; echo HELLO > /tmp/h; dd if=/tmp/h of=$disk conv=fsync 2>&1")
    guest.change(disks=[{"name": "data", "size": 2}])
    guest.sees("disks", SERIALS, "data")
    guest.sees(
        "sectors", "cat /sys/block/$(grep -lx data /sys/block/vd?/serial | cut -d/ -f4)/size", "4194304"
    )
    guest.change(disks=None)
    guest.sees("disks", SERIALS, "")
    assert guest.explained("disks")["now"] == "none"
    guest.change(disks=[{"name": "data", "size": 2}])
    guest.sees("what is on it", f"{find}; head -c 5 $disk", "HELLO")
    guest.change(disks=None)
    guest.sees("disks", SERIALS, "")


def test_network_cards_come_and_go(guest: Guest) -> None:
    guest.change(nics=[{"name": "lan"}])
    guest.sees("cards", "ls /sys/class/net | xargs", "eth0 eth1 lo")
    mac = guest.site.identity("web")["macs"]["nic-lan"]
    guest.sees("its address", "cat /sys/class/net/eth1/address", mac)
    guest.sees("a lease", "ip -4 -o addr show eth1 | grep -c 10.0.", "1")
    guest.change(nics=[{"name": "lan", "link": "down"}])
    guest.sees("carrier", "cat /sys/class/net/eth1/carrier", "0")
    guest.change(nics=[{"name": "lan"}])
    guest.sees("carrier", "cat /sys/class/net/eth1/carrier", "1")
    guest.change(nics=None)
    guest.sees("cards", "ls /sys/class/net | xargs", "eth0 lo")
    guest.change(nics=[{"name": "lan"}])
    guest.sees("the same card again", "cat /sys/class/net/eth1/address", mac)
    guest.change(nics=None)
    guest.sees("cards", "ls /sys/class/net | xargs", "eth0 lo")


def test_the_cable_is_unplugged_and_plugged_in(guest: Guest) -> None:
    guest.change(networkLink="down")
    guest.sees("carrier", "cat /sys/class/net/eth0/carrier", "0")
    guest.change(networkLink="up")
    guest.sees("carrier", "cat /sys/class/net/eth0/carrier", "1")


def test_port_forwards_come_and_go(guest: Guest) -> None:
    one, other = free_port(), free_port()
    guest.sees("a lease", "ip -4 -o addr show eth0 | grep -c 10.0.2.15", "1")
    guest.shell.says("mkdir -p /tmp/www; echo FROM-GUEST > /tmp/www/index.html; httpd -p 80 -h /tmp/www")
    guest.change(portForwards=[{"hostPort": one, "guestPort": 80}])
    wait_for("the guest answers", lambda: "FROM-GUEST" in ask(one), TIMEOUT_S)
    guest.change(portForwards=[{"hostPort": other, "guestPort": 80}])
    wait_for("it answers there", lambda: "FROM-GUEST" in ask(other), TIMEOUT_S)
    wait_for("and here no more", lambda: ask(one) == "", TIMEOUT_S)
    guest.settled()


def ask(port: int) -> str:
    """What an HTTP server on the loopback answers; empty where there is none."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as line:
        line.settimeout(5)
        line.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return b"".join(iter(lambda: line.recv(4096), b"")).decode()
    return ""


def greeting(port: int) -> bytes:
    """The first words of a VNC server; empty where there is none."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as line:
        line.settimeout(5)
        return line.recv(12)
    return b""


def test_the_screen_moves_and_who_watches_stays_connected(guest: Guest) -> None:
    before, port = guest.agent.vm("web")["vncPort"], free_port()
    with socket.create_connection(("127.0.0.1", before), 5) as viewer:
        viewer.settimeout(20)
        assert viewer.recv(12) == b"RFB 003.008\n"
        guest.change(vncPort=port)
        wait_for("the screen is there", lambda: greeting(port) == b"RFB 003.008\n", TIMEOUT_S)
        wait_for("and no longer here", lambda: greeting(before) == b"", TIMEOUT_S)
        viewer.sendall(b"RFB 003.008\n")
        assert viewer.recv(2) == b"\x01\x01"  # one security type, none
    guest.settled()
    assert guest.agent.vm("web")["vncPort"] == port


def test_a_port_of_the_screen_that_is_taken_leaves_it_where_it_is_and_hinders_nothing_else(
    guest: Guest,
) -> None:
    before = guest.agent.vm("web")["vncPort"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        guest.change(vncPort=port, bootOrder="cd")
        wait_for("it is said", lambda: guest.agent.condition("web", "Degraded"), TIMEOUT_S)
        assert f"{port}" in guest.agent.condition("web", "Degraded")["message"]
        assert greeting(before) == b"RFB 003.008\n"
        wait_for("the other is done", lambda: guest.explained("bootOrder")["now"] == "cd", TIMEOUT_S)
    guest.change(vncPort=before)
    guest.settled()


def test_a_watchdog_bites_as_the_manifest_says_now(guest: Guest) -> None:
    """The guest has no driver for the card: its registers are written by hand, as a driver would."""
    guest.change(watchdog={"action": "pause"})
    wait_for("it is set", lambda: guest.explained("watchdog")["now"] == "pause", TIMEOUT_S)
    guest.settled()
    find = "card=$(dirname $(grep -l 0x25ab /sys/bus/pci/devices/*/device))"
    guest.shell.says(f"{find}; echo 1 > $card/enable")
    guest.shell.says(f"{find}; base=$(head -n 1 $card/resource | cut -d' ' -f1); echo $base")
    unlock = "devmem $((base+12)) 16 0x80; devmem $((base+12)) 16 0x86"
    guest.shell.says(f"{unlock}; devmem $base 32 1; {unlock}; devmem $((base+4)) 32 1")
    arm = "printf '\\002' | dd of=$card/config bs=1 seek=104 conv=notrunc 2>&1"
    threading.Thread(target=lambda: guest.shell.line.sendall(f"{arm}\n".encode())).start()
    wait_for("QEMU pauses", lambda: guest.agent.vm("web")["status"] == "paused", TIMEOUT_S)


@pytest.fixture
def stuck(site: Site) -> Iterator[tuple[Site, Agent, Shell]]:
    """A guest of its own, whose CD drive is locked, and which boots from its disk as well as from its CD."""
    (site.state / "vms" / "lock").mkdir(parents=True)
    disk = site.state / "vms" / "lock" / "root.qcow2"
    shutil.copyfile(GUESTS / "demo.qcow2", disk)
    subprocess.run(["qemu-img", "resize", "-q", str(disk), "1G"], check=True)
    agent = site.agent(resyncSeconds=10)
    site.iso("demo")
    site.write("lock", isoPath=site.iso("deaf"), bootOrder="cd,hd", restartPolicy="never")
    agent.wait_status("lock", "running", TIMEOUT_S)
    with shell(site, "lock") as line:
        yield site, agent, line


def test_the_boot_order_counts_at_the_guests_next_reset_and_a_locked_cd_is_waited_for_or_taken(
    stuck: tuple[Site, Agent, Shell],
) -> None:
    site, agent, line = stuck
    pid = site.pid("lock")
    line.says("modprobe isofs; echo 1 > /proc/sys/dev/cdrom/lock; mount -r /dev/sr0 /mnt")
    site.edit("lock", mountIso=False)
    wait_for(
        "it is said", lambda: agent.condition("lock", "Degraded").get("reason") == "MediumLocked", TIMEOUT_S
    )
    assert line.says("ls /mnt/isolinux | wc -w") != "0"
    site.edit("lock", ejectPolicy="force")
    wait_for("it is torn out", lambda: agent.vm("lock")["isMountIso"] is False, 120)
    site.edit("lock", mountIso=True)
    wait_for("it is back", lambda: agent.vm("lock")["isMountIso"] is True, TIMEOUT_S)
    assert "guest.mode=deaf" in line.says("cat /proc/cmdline")
    site.edit("lock", bootOrder="hd,cd")
    wait_for("it is set", lambda: boot_order(agent) == "hd,cd", TIMEOUT_S)
    assert not agent.vm("lock")["requiresRestart"]
    line.leave("reboot -f")
    site.wait_serial("lock", "GUEST-READY", times=2)
    assert site.pids("lock") == [pid]
    with shell(site, "lock") as after:
        assert "guest.mode=demo" in after.says("cat /proc/cmdline")


def boot_order(agent: Agent) -> str:
    """What QEMU says of it."""
    rows = agent.get("/api/vms/lock/explain")[1]["fields"]
    return str(next(row["now"] for row in rows if row["field"] == "bootOrder"))
