"""The whole command line, given to a real QEMU that runs as somebody else in its sandbox."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from reconciler.model.errors import ImageError
from reconciler.model.observed import CdDrive, QemuView
from reconciler.model.vm import BootDevice, PortForward, Profile, VMSpec, WatchdogAction
from reconciler.qemu.process import ProcessState
from tests.contract.qemu.live import GUESTS, Host, LiveVM, free_port
from tests.e2e import tiny

SMALL = {"memory_mib": 256, "cpu_cores": 1, "disk_size_gib": 1}


def spec(**fields: object) -> VMSpec:
    """A small VM's."""
    return VMSpec(**{**SMALL, **fields})  # type: ignore[arg-type]


def bootindex(vm: LiveVM, device: str) -> object:
    return vm.execute("qom-get", {"path": f"/machine/peripheral/{device}", "property": "bootindex"})


@pytest.mark.parametrize("profile", list(Profile))
def test_a_qemu_of_either_profile_waits_halted_with_an_empty_drive(host: Host, profile: Profile) -> None:
    vm = host.vm(spec(profile=profile)).launch()
    assert vm.look() == QemuView("prelaunch", CdDrive(None, tray_open=False, locked=False))
    assert vm.log.read_text() == "", "QEMU found something to complain about"


def test_qemu_runs_as_its_own_user_without_groups_and_in_its_sandbox(host: Host) -> None:
    vm = host.vm().launch()
    vm.look()
    uid = host.user.uid if host.user else os.getuid()
    assert vm.status("Uid").split() == [str(uid)] * 4
    assert vm.status("Seccomp") == "2"
    assert vm.status("NoNewPrivs") == "1"
    if host.user:
        assert vm.status("Gid").split() == [str(host.user.gid)] * 4
        assert vm.status("Groups") == ""
        assert int(vm.status("CapEff"), 16) == 0


def test_qemu_leads_a_session_of_its_own_and_bears_the_vms_name(host: Host) -> None:
    vm = host.vm().launch()
    vm.look()
    assert os.getsid(vm.handle.pid) == vm.handle.pid
    assert vm.status("Name") == f"vm-{vm.name}"[:15]
    assert vm.execute("query-name") == {"name": vm.name}


def test_every_pci_device_is_in_the_slot_of_its_identity(host: Host) -> None:
    vm = host.vm(spec(max_memory_mib=512, watchdog=WatchdogAction.RESET)).launch()
    buses = vm.execute("query-pci")
    assert isinstance(buses, list)
    found = {d["qdev_id"]: d["slot"] for d in buses[0]["devices"] if d["qdev_id"]}
    ports = {f"port{number}": vm.identity.slots["ports0"] for number in range(8)}
    assert found == {name: slot for name, slot in vm.identity.slots.items() if name != "ports0"} | ports


def test_the_boot_order_reaches_the_devices(host: Host) -> None:
    vm = host.vm(spec(boot_order=(BootDevice.NET, BootDevice.HD))).launch()
    assert [bootindex(vm, d) for d in ("nic0", "disk0", "cd0")] == [0, 1, -1]


def test_forwarded_ports_are_listened_on(host: Host) -> None:
    port = free_port()
    vm = host.vm(spec(port_forwards=(PortForward(port, 22),))).launch()
    vm.look()
    assert f" {'0100007F'}:{port:04X} " in Path("/proc/net/tcp").read_text()


def test_the_disk_is_the_agents_file_with_qcow2_above_it(host: Host) -> None:
    vm = host.vm().launch()
    nodes = vm.execute("query-named-block-nodes", {"flat": True})
    assert isinstance(nodes, list)
    assert {n["node-name"]: n["drv"] for n in nodes} == {"disk0": "qcow2", "disk0_file": "file"}
    assert next(n for n in nodes if n["node-name"] == "disk0")["image"]["virtual-size"] == 1024**3


def test_a_disk_in_use_is_neither_used_twice_nor_grown_but_may_be_inspected(host: Host) -> None:
    first = host.vm().launch()
    first.look()
    second = host.vm()
    second.disk = first.disk
    assert second.launch().wait_gone() == 1
    assert 'Failed to get "write" lock' in second.log.read_text()
    assert host.images.inspect(first.disk) == 1024**3
    with pytest.raises(ImageError, match="lock"):
        host.images.grow(first.disk, 2 * 1024**3)


def test_a_guest_boots_from_its_iso_is_seen_powering_off_and_qemu_stays_to_tell(
    host: Host, tmp_path: Path
) -> None:
    iso = tmp_path / "tiny.iso"
    iso.write_bytes(tiny.image())
    vm = host.vm().launch(iso=iso)
    vm.execute("cont")
    vm.wait_serial("U")
    vm.execute("system_powerdown")
    host.wait_event(vm, "SHUTDOWN")
    assert vm.look().run_state == "shutdown"
    vm.execute("quit")
    assert vm.wait_gone() == 0
    host.wait_event(vm, "CONNECTION_LOST")


@pytest.mark.soak  # tests/e2e/test_ends.py sees the same of a whole agent
def test_a_guests_panic_leaves_a_qemu_that_says_so(host: Host) -> None:
    vm = host.vm().launch(iso=GUESTS / "panic.iso")
    vm.execute("cont")
    host.wait_event(vm, "GUEST_PANICKED")
    assert vm.look().run_state == "guest-panicked"


def test_the_serial_log_is_appended_to_over_launches_and_may_be_cut_short(host: Host, tmp_path: Path) -> None:
    vm = host.vm()
    vm.serial_log.write_text("from the run before\n")
    iso = tmp_path / "tiny.iso"
    iso.write_bytes(tiny.image())
    vm.launch(iso=iso).execute("cont")
    vm.wait_serial("U")
    assert vm.serial_log.read_text("latin-1") == "from the run before\nU"
    os.truncate(vm.serial_log, 0)
    vm.execute("system_reset")
    vm.wait_serial("U")
    assert b"\0" not in vm.serial_log.read_bytes(), "what was cut off became a hole"


def test_a_screenshot_is_taken_through_a_descriptor(host: Host) -> None:
    vm = host.vm().launch()
    shot = vm.directory / "shot.png"
    with shot.open("wb") as file:
        added = vm.execute("add-fd", {}, fd=file.fileno())
        assert isinstance(added, dict)
        vm.execute("screendump", {"filename": f"/dev/fdset/{added['fdset-id']}", "format": "png"})
    assert shot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL), (signal.SIGABRT, -signal.SIGABRT)],
)
def test_signals_reach_qemu_and_its_exit_status_is_kept(
    host: Host, number: signal.Signals, status: int
) -> None:
    vm = host.vm().launch()
    vm.look()
    assert host.processes.send_signal(vm.handle, number)
    assert vm.wait_gone() == status
    assert vm.state() is ProcessState.DEAD
    assert host.processes.reap(vm.handle) == status
    assert not host.processes.send_signal(vm.handle, number)


def test_a_qemu_is_found_by_its_uuid_until_it_ends(host: Host) -> None:
    vm = host.vm().launch()
    vm.look()
    assert host.processes.find(vm.identity.uuid) == (vm.handle,)
    vm.execute("quit")
    vm.wait_gone()
    assert host.processes.find(vm.identity.uuid) == ()


def test_a_qemu_that_cannot_begin_says_why_in_its_log_and_its_socket_refuses(host: Host) -> None:
    vm = host.vm()
    vm.disk.write_bytes(b"\0" * 65536)
    assert vm.launch().wait_gone() == 1
    assert "not in qcow2 format" in vm.log.read_text()
    assert vm.log.stat().st_mode & 0o777 == 0o600
