"""Each device's piece of the command line, compared as text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.model.errors import StateError
from reconciler.model.vm import BootDevice, PortForward, Profile, Protocol
from reconciler.qemu import devices
from reconciler.qemu.devices import SLOTS
from reconciler.qemu.machine import IsoFd
from tests.unit.qemu.samples import MACHINE, as_text, machine_of

COMPATIBLE = machine_of(profile=Profile.COMPATIBLE)


def test_vnc_listens_on_the_loopback_at_the_given_port() -> None:
    assert as_text(devices.graphics(MACHINE)) == (
        '-device {"driver": "VGA", "id": "vga0", "bus": "pcie.0", "addr": "0x1"}\n-vnc 127.0.0.1:1'
    )


def test_a_tablet_gives_the_pointer_an_absolute_place() -> None:
    assert as_text(devices.pointer(MACHINE)) == (
        '-device {"driver": "qemu-xhci", "id": "usb0", "bus": "pcie.0", "addr": "0x8"}\n'
        '-device {"driver": "usb-tablet", "id": "tablet0", "bus": "usb0.0"}'
    )


def test_the_root_disk_is_qcow2_by_descriptor_without_backing_and_passes_discards_on() -> None:
    assert as_text(devices.root_disk(MACHINE)) == (
        "-add-fd fd=10,set=1,opaque=disk0\n"
        '-blockdev {"driver": "qcow2", "node-name": "disk0", "discard": "unmap", "detect-zeroes": "unmap", '
        '"backing": null, "file": {"driver": "file", "node-name": "disk0_file", "filename": "/dev/fdset/1", '
        '"discard": "unmap", "locking": "on"}}\n'
        '-device {"driver": "virtio-blk-pci", "id": "disk0", "bus": "pcie.0", "addr": "0x3", '
        '"drive": "disk0", "bootindex": 1}'
    )


def test_the_compatible_profile_has_a_sata_disk_and_a_sata_cd() -> None:
    assert as_text(devices.root_disk(COMPATIBLE)).splitlines()[-1] == (
        '-device {"driver": "ide-hd", "id": "disk0", "bus": "ide.0", "drive": "disk0", "bootindex": 1}'
    )
    assert as_text(devices.cd_drive(COMPATIBLE)) == (
        '-device {"driver": "ide-cd", "bus": "ide.1", "id": "cd0", "bootindex": 0}'
    )


def test_the_cd_drive_is_there_without_a_medium() -> None:
    assert as_text(devices.cd_drive(MACHINE)) == (
        '-device {"driver": "virtio-scsi-pci", "id": "scsi0", "bus": "pcie.0", "addr": "0x4"}\n'
        '-device {"driver": "scsi-cd", "bus": "scsi0.0", "id": "cd0", "bootindex": 0}'
    )


def test_an_iso_comes_as_a_read_only_descriptor() -> None:
    with_iso = replace(MACHINE, iso=IsoFd(20, "iso-0123456789abcdef"))
    assert as_text(devices.cd_drive(with_iso)) == (
        "-add-fd fd=20,set=3,opaque=iso-0123456789abcdef\n"
        '-blockdev {"driver": "raw", "node-name": "iso-0123456789abcdef", "read-only": true, '
        '"file": {"driver": "file", "node-name": "iso-0123456789abcdef-file", "filename": "/dev/fdset/3", '
        '"read-only": true}}\n'
        '-device {"driver": "virtio-scsi-pci", "id": "scsi0", "bus": "pcie.0", "addr": "0x4"}\n'
        '-device {"driver": "scsi-cd", "bus": "scsi0.0", "id": "cd0", "bootindex": 0, '
        '"drive": "iso-0123456789abcdef"}'
    )


def test_the_network_is_qemus_user_networking_with_the_vms_own_mac() -> None:
    assert as_text(devices.network(MACHINE)) == (
        '-netdev {"type": "user", "id": "net0"}\n'
        '-device {"driver": "virtio-net-pci", "id": "nic0", "bus": "pcie.0", "addr": "0x2", '
        '"netdev": "net0", "mac": "52:54:00:12:34:56", "romfile": ""}'
    )


def test_port_forwards_are_listed_in_qemus_notation() -> None:
    forwards = (PortForward(8080, 80), PortForward(5353, 53, Protocol.UDP, "127.0.0.2"))
    assert as_text(devices.network(machine_of(port_forwards=forwards))).splitlines()[0] == (
        '-netdev {"type": "user", "id": "net0", "hostfwd": '
        '[{"str": "tcp:127.0.0.1:8080-:80"}, {"str": "udp:127.0.0.2:5353-:53"}]}'
    )


@pytest.mark.parametrize("address", ["", "::1", "localhost", "127.0.0.1:1-:2,", "0177.0.0.1", "127.1"])
def test_a_forward_from_anything_but_an_ipv4_address_is_refused(address: str) -> None:
    with pytest.raises(StateError, match="is no IPv4 address"):
        devices.network(machine_of(port_forwards=(PortForward(1, 2, host_address=address),)))


def test_the_boot_rom_is_loaded_to_boot_from_the_network_alone() -> None:
    network = as_text(devices.network(machine_of(boot_order=(BootDevice.HD, BootDevice.NET))))
    assert '"bootindex": 1' in network
    assert "romfile" not in network


def test_devices_that_the_boot_order_does_not_name_have_no_boot_index() -> None:
    disk_only = machine_of(boot_order=(BootDevice.HD,))
    assert '"bootindex": 0' in as_text(devices.root_disk(disk_only))
    assert "bootindex" not in as_text(devices.cd_drive(disk_only) + devices.network(disk_only))


def test_the_compatible_profile_has_a_nic_of_intels() -> None:
    assert '"driver": "e1000e"' in as_text(devices.network(COMPATIBLE))


def test_the_serial_console_is_a_socket_and_a_file_that_is_appended_to() -> None:
    assert as_text(devices.serial_console(MACHINE)) == (
        "-add-fd fd=11,set=2,opaque=serial.log\n"
        "-chardev socket,id=serial,fd=14,server=on,wait=off,logfile=/dev/fdset/2,logappend=on\n"
        "-serial chardev:serial"
    )


def test_the_guest_agent_has_its_channel() -> None:
    assert as_text(devices.guest_agent(MACHINE)) == (
        "-chardev socket,id=agent,fd=15,server=on,wait=off\n"
        '-device {"driver": "virtio-serial-pci", "id": "vser0", "bus": "pcie.0", "addr": "0x5"}\n'
        '-device {"driver": "virtserialport", "id": "qgaport", "bus": "vser0.0", "chardev": "agent", '
        '"name": "org.qemu.guest_agent.0"}'
    )


def test_there_are_two_monitors_the_agents_and_peoples() -> None:
    assert as_text(devices.monitors(MACHINE)) == (
        "-chardev socket,id=qmp,fd=12,server=on,wait=off\n"
        "-mon chardev=qmp,mode=control\n"
        "-chardev socket,id=human,fd=13,server=on,wait=off\n"
        "-mon chardev=human,mode=control"
    )


def test_a_panic_is_told_and_entropy_is_given() -> None:
    assert as_text(devices.panic_notifier(MACHINE) + devices.entropy(MACHINE)) == (
        '-device {"driver": "pvpanic-pci", "id": "panic0", "bus": "pcie.0", "addr": "0x6"}\n'
        '-object {"qom-type": "rng-builtin", "id": "entropy0"}\n'
        '-device {"driver": "virtio-rng-pci", "id": "rng0", "bus": "pcie.0", "addr": "0x7", '
        '"rng": "entropy0"}'
    )


def test_the_slots_are_those_of_the_identity_and_not_of_todays_table() -> None:
    moved = replace(MACHINE, identity=replace(MACHINE.identity, slots={**SLOTS, "vga0": 17}))
    assert '"addr": "0x11"' in as_text(devices.graphics(moved))


def test_a_device_without_a_slot_is_an_error_that_names_the_vm_and_the_device() -> None:
    bare = replace(MACHINE, identity=replace(MACHINE.identity, slots={}))
    with pytest.raises(StateError, match=r"web-1: its identity\.json has no PCI slot for vga0"):
        devices.graphics(bare)


def test_no_two_devices_share_a_slot_and_none_takes_the_chipsets() -> None:
    assert len(set(SLOTS.values())) == len(SLOTS)
    assert not {0, 31} & set(SLOTS.values())
