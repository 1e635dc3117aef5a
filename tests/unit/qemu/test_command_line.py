"""The whole command line: its base, and that nothing a user writes can become an option."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.model.errors import StateError
from reconciler.model.observed import Identity
from reconciler.model.vm import (
    NAME_PATTERN,
    Accel,
    BootDevice,
    DataDisk,
    Nic,
    PortForward,
    Profile,
    Protocol,
    VMSpec,
    WatchdogAction,
)
from reconciler.qemu.command_line import command_line
from reconciler.qemu.devices import SLOTS
from reconciler.qemu.machine import IsoFd
from reconciler.qemu.pluggable import free_port, with_ports
from tests.unit.qemu.samples import IDENTITY, MACHINE, UUID, as_text, machine_of


def test_the_base_is_halted_bare_sandboxed_and_outlives_its_guests_end() -> None:
    assert as_text(command_line(MACHINE, "qemu-system-x86_64")).splitlines()[:17] == [
        "qemu-system-x86_64",
        "-nodefaults",
        "-no-user-config",
        "-S",
        "-name guest=web-1,process=vm-web-1,debug-threads=on",
        f"-uuid {UUID}",
        "-msg timestamp=on",
        "-display none",
        "-action reboot=reset,shutdown=pause,panic=pause",
        "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-machine pc-q35-7.2,sata=off,smbus=off,vmport=off,usb=off",
        "-boot strict=on",
        "-m 2048M",
        "-accel tcg",
        "-cpu max",
        "-smp 2,maxcpus=8,sockets=1,cores=8,threads=1",
        "-chardev socket,id=qmp,fd=12,server=on,wait=off",
    ]


def test_every_device_is_there() -> None:
    ids = {json.loads(v)["id"] for o, v in _pairs(command_line(MACHINE, "q")) if o == "-device"}
    assert ids == {
        *("vga0", "usb0", "tablet0", "disk0", "scsi0", "cd0"),
        *("nic0", "vser0", "qgaport", "panic0", "rng0", "balloon0"),
        *(f"port{number}" for number in range(8)),
    }


def test_what_comes_and_goes_is_plugged_into_ports_of_its_own() -> None:
    spec = VMSpec(disks=(DataDisk("data", 1),), nics=(Nic("lan"),), profile=Profile.COMPATIBLE)
    identity = replace(
        with_ports(IDENTITY, spec),
        ports={"disk-data": 2, "nic-lan": 5},
        macs={"nic-lan": "52:54:00:00:00:09"},
    )
    machine = replace(MACHINE, spec=spec, identity=identity, data_disk_fds={"data": 77})
    assert as_text(command_line(machine, "q")).splitlines()[-5:] == [
        "-add-fd fd=77,set=18,opaque=disk-data",
        (
            '-blockdev {"driver": "qcow2", "node-name": "disk-data", "discard": "unmap", "detect-zeroes": "unmap", '
            '"backing": null, "file": {"driver": "file", "node-name": "disk-data_file", "filename": "/dev/fdset/18", '
            '"discard": "unmap", "locking": "on"}}'
        ),
        '-device {"driver": "nvme", "id": "disk-data", "drive": "disk-data", "serial": "data", "bus": "port2"}',
        '-netdev {"type": "user", "id": "net-lan", "net": "10.0.8.0/24"}',
        (
            '-device {"driver": "e1000e", "id": "nic-lan", "netdev": "net-lan", "mac": "52:54:00:00:00:09", '
            '"bus": "port5", "romfile": ""}'
        ),
    ]
    assert 77 in machine.descriptors


def test_room_for_memory_is_made_only_where_it_is_asked_for_in_whole_blocks() -> None:
    roomy = as_text(command_line(machine_of(memory_mib=1000, max_memory_mib=1025), "q"))
    assert "-m 1000M,maxmem=1024M" in roomy
    assert '"id": "vmem0-ram", "size": 25165824' in roomy
    assert "maxmem" not in as_text(command_line(machine_of(memory_mib=1000, max_memory_mib=1001), "q"))


def test_a_watchdog_comes_with_its_action() -> None:
    text = as_text(command_line(machine_of(watchdog=WatchdogAction.PAUSE), "q"))
    assert "-action watchdog=pause" in text
    assert '"driver": "i6300esb", "id": "watchdog0"' in text


def test_a_vm_older_than_balloon_and_ports_keeps_the_hardware_it_has_until_its_manifest_asks_for_more() -> (
    None
):
    slots = {
        name: slot for name, slot in SLOTS.items() if name not in {"balloon0", "ports0", "vmem0", "watchdog0"}
    }
    old = replace(IDENTITY, slots=slots)
    text = as_text(command_line(replace(MACHINE, identity=old), "q"))
    assert "balloon" not in text
    assert "pcie-root-port" not in text
    assert with_ports(old, VMSpec()) == old
    asked = with_ports(old, VMSpec(nics=(Nic("lan"),), watchdog=WatchdogAction.NONE, max_memory_mib=4096))
    assert set(asked.slots) - set(slots) == {"ports0", "vmem0", "watchdog0"}


def test_a_device_keeps_its_port_and_a_new_one_gets_a_free_one() -> None:
    had = replace(IDENTITY, ports={"disk-b": 1, "disk-gone": 0})
    spec = VMSpec(disks=(DataDisk("a", 1), DataDisk("b", 1)), nics=(Nic("lan"),))
    assert with_ports(had, spec).ports == {"disk-a": 0, "disk-b": 1, "nic-lan": 2}


def test_there_are_eight_ports_and_no_more() -> None:
    with pytest.raises(StateError, match="all 8 hot-plug ports are taken"):
        free_port(frozenset(range(8)))


def test_under_kvm_the_guest_sees_the_hosts_cpu() -> None:
    text = as_text(command_line(replace(MACHINE, accel=Accel.KVM), "q"))
    assert "-accel kvm\n-cpu host" in text


def test_the_compatible_profile_has_a_sata_controller() -> None:
    assert ",sata=on," in as_text(command_line(machine_of(profile=Profile.COMPATIBLE), "q"))


@pytest.mark.parametrize("name", ["", "a,b", "-x", "a b", "a\n", "x" * 64, "../a", "a=b"])
def test_a_name_that_could_be_an_option_makes_no_machine(name: str) -> None:
    with pytest.raises(ValueError, match="not a VM's name"):
        replace(MACHINE, name=name)


def test_an_accelerator_that_is_not_resolved_makes_no_machine() -> None:
    with pytest.raises(ValueError, match="resolved"):
        replace(MACHINE, accel=Accel.AUTO)


@pytest.mark.parametrize(
    "identity",
    [
        replace(IDENTITY, uuid="x"),
        replace(IDENTITY, uuid=f"{UUID}\n"),
        replace(IDENTITY, machine="q35,accel=kvm"),
    ],
)
def test_an_identity_that_is_not_the_agents_writing_is_refused(identity: Identity) -> None:
    with pytest.raises(StateError, match=r"identity\.json"):
        command_line(replace(MACHINE, identity=identity), "q")


def test_all_descriptors_are_handed_over_and_no_other_is_named() -> None:
    machine = replace(MACHINE, iso=IsoFd(20, "iso-0123456789abcdef"))
    named = {
        int(word.partition("=")[2])
        for option, value in _pairs(command_line(machine, "q"))
        if option in {"-add-fd", "-chardev"}
        for word in value.split(",")
        if word.startswith("fd=")
    }
    assert named == set(machine.descriptors)


@st.composite
def machines(draw: st.DrawFn) -> object:
    """Machines with everything that a manifest can put into one; its texts are as hostile as texts can be."""
    forwards = st.builds(
        PortForward,
        st.integers(1, 65535),
        st.integers(1, 65535),
        st.sampled_from(Protocol),
        st.ip_addresses(v=4).map(str),
    )
    spec = st.builds(
        VMSpec,
        memory_mib=st.integers(64, 2**20),
        cpu_cores=st.integers(1, 255),
        port_forwards=st.lists(forwards, max_size=3).map(tuple),
        boot_order=st.permutations(list(BootDevice)).map(tuple),
        profile=st.sampled_from(Profile),
        iso_path=st.text(),
        restarted_at=st.text(),
    )
    return replace(
        MACHINE,
        name=draw(st.from_regex(NAME_PATTERN, fullmatch=True)),
        spec=draw(spec),
        vnc_port=draw(st.integers(5900, 65535)),
    )


SHAPES = {
    "-name": r"guest={name},process=vm-{name},debug-threads=on",
    "-m": "{memory}M",
    "-smp": "{cores},maxcpus={most},sockets=1,cores={most},threads=1",
    "-vnc": "127.0.0.1:{display}",
}


@given(machines())
def test_what_a_user_writes_stands_in_its_own_place_and_in_json_only(machine: object) -> None:
    """Each word is one of the sample's, or JSON, or holds just one value at a known place."""
    assert isinstance(machine, type(MACHINE))
    values = {
        "name": machine.name,
        "memory": machine.spec.memory_mib,
        "cores": machine.spec.cpu_cores,
        "most": machine.spec.most_cpu_cores,
        "display": machine.vnc_port - 5900,
    }
    sample = replace(machine, spec=machine_of(profile=machine.spec.profile).spec)
    fixed = {v for o, v in _pairs(command_line(sample, "q")) if not v.startswith("{")}
    for option, value in _pairs(command_line(machine, "q")):
        if value.startswith("{"):
            _check_json(json.loads(value))
        elif option in SHAPES:
            assert value == SHAPES[option].format(**values)
        else:
            assert value in fixed


def _check_json(value: dict[str, object]) -> None:
    """Only forwards carry a user's text, and these are taken apart again here."""
    forwards = value.pop("hostfwd", [])
    assert isinstance(forwards, list)
    for forward in forwards:
        protocol, address, ports, guest = forward["str"].split(":")
        assert protocol in {"tcp", "udp"}
        assert str(IPv4Address(address)) == address
        assert f"{ports}{guest}".replace("-", "", 1).isdigit()


def _pairs(argv: tuple[str, ...]) -> list[tuple[str, str]]:
    """Options with their values; the flags that take none are left out."""
    words = [w for w in argv[1:] if w not in {"-nodefaults", "-no-user-config", "-S"}]
    assert len(words) % 2 == 0
    assert all(w.startswith("-") for w in words[::2])
    return list(zip(words[::2], words[1::2], strict=True))
