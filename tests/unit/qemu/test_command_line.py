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
from reconciler.model.vm import NAME_PATTERN, Accel, BootDevice, PortForward, Profile, Protocol, VMSpec
from reconciler.qemu.command_line import command_line
from reconciler.qemu.machine import IsoFd
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
        "-smp 2,sockets=1,cores=2,threads=1",
        "-chardev socket,id=qmp,fd=12,server=on,wait=off",
    ]


def test_every_device_is_there() -> None:
    ids = {json.loads(v)["id"] for o, v in _pairs(command_line(MACHINE, "q")) if o == "-device"}
    assert ids == {
        *("vga0", "usb0", "tablet0", "disk0", "scsi0", "cd0"),
        *("nic0", "vser0", "qgaport", "panic0", "rng0"),
    }


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
    "-smp": "{cores},sockets=1,cores={cores},threads=1",
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
