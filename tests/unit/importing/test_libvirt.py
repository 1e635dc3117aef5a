"""What each part of a domain becomes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.importing.libvirt import image_formats, parse
from reconciler.importing.outcome import Image, Kind
from reconciler.manifest.decode import decode
from reconciler.manifest.edit import render_new
from reconciler.manifest.fields import written
from reconciler.model.errors import ImportRefusedError
from reconciler.model.vm import GIB, PLUGGABLE_MAX, is_vm_name
from tests.unit.importing.samples import NAMES, data, domain, imported, noted, places

DISK = "<disk type='file' device='disk'><source file='/i/{0}.img'/><target dev='{0}' bus='{1}'/>{2}</disk>"
CARD = "<interface type='user'><model type='virtio'/></interface>"


def fields(xml: str | bytes, **options: Any) -> dict[str, Any]:
    """What the manifest would say."""
    return dict(written(imported(xml, **options).spec))


def test_a_guest_of_virt_manager() -> None:
    root, extra = "/var/lib/libvirt/images/shop-db.qcow2", "/dev/vg0/shop-db-data"
    found = imported(data("linux"), sizes={root: 40 * GIB, extra: 99 * GIB + 1})
    assert found.name == "shop-db"
    assert written(found.spec) == {
        "state": "stopped",
        "memory": 4096,
        "maxMemory": 16384,
        "maxCpuCores": 4,
        "diskSize": 40,
        "rootDisk": {"iops": 2000, "mbps": 105},
        "disks": [{"name": "vdb", "size": 100}],
        "isoPath": "/srv/iso/debian-12.iso",
        "bootOrder": "hd",
        "vncPort": 5907,
        "nics": [{"name": "nic2", "link": "down"}],
        "watchdog": {"action": "poweroff"},
    }
    assert found.labels == {
        "title": "Shop database",
        "description": "PostgreSQL of the shop, replica in the other rack",
        "os": "http://debian.org/debian/12",
    }
    assert found.images == (Image("root", root, "qcow2"), Image("vdb", extra, "raw"))
    assert places(found, Kind.LOST) == [
        "uuid",
        "cpu",
        "devices/disk[1]/iotune/total_iops_sec_max",
        "devices/disk[2]/driver",
        "devices/interface[2]/driver",
        "devices/interface[2]/mtu",
        "devices/channel[2]",
        "devices/video",
        "seclabel",
    ]


def test_a_windows_guest_with_what_windows_wants() -> None:
    found = imported(data("windows"), sizes={"/var/lib/libvirt/images/pc 11.img": 64 * GIB})
    assert found.name == "Buro-PC-11"
    assert written(found.spec) == {
        "state": "stopped",
        "memory": 7630,
        "cpuCores": 8,
        "diskSize": 64,
        "bootOrder": "cd,hd,net",
        "profile": "compatible",
    }
    assert "UEFI" in noted(found, "os")
    assert {"devices/tpm", "devices/hostdev", "os/nvram", "clock", "genid"} <= set(places(found, Kind.LOST))
    assert "hunter22" not in str(found)
    assert "passwd" in noted(found, "devices/graphics[2]")


def test_the_smallest_domain_gets_what_libvirt_gives_it() -> None:
    found = imported(data("minimal"))
    assert written(found.spec) == {
        "memory": 64,
        "cpuCores": 1,
        "bootOrder": "hd",
        "accel": "tcg",
        "networkLink": "down",
    }
    assert found.images == ()


def test_an_odd_one_is_made_valid_and_nothing_of_it_is_dropped() -> None:
    found = imported(data("odd"))
    assert is_vm_name(found.name)
    assert found.labels == {"title": "Laborgerät"}
    assert [disk.name for disk in found.spec.disks] == ["data-1", "sdc"]
    assert noted(found, "frobnication") == "level=11: a manifest has no field for it"
    assert "value=edu" in noted(found, "qemu:commandline")


@pytest.mark.parametrize("name", NAMES)
def test_what_comes_out_is_a_manifest(name: str) -> None:
    found = imported(data(name))
    decoded = decode(render_new(found.name, written(found.spec), found.labels).encode(), "x.yaml")
    assert not decoded.problems
    assert decoded.vms[0].spec == found.spec
    assert decoded.vms[0].labels == found.labels


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ("<memory unit='KiB'>1048576</memory>", {"memory": 1024}),
        ("<memory>1048576</memory>", {"memory": 1024}),
        ("<memory unit='bytes'>1073741824</memory>", {"memory": 1024}),
        ("<memory unit='GiB'>3</memory>", {"memory": 3072}),
        ("<memory unit='g'>3</memory>", {"memory": 3072}),
        ("<memory unit='MB'>1000</memory>", {"memory": 954}),
        ("<memory unit='KB'>1</memory>", {"memory": 16}),
        ("<memory unit='TiB'>1024</memory>", {"memory": 16777216}),
        (
            "<memory unit='M'>512</memory><currentMemory unit='M'>256</currentMemory>",
            {"memory": 256, "maxMemory": 512},
        ),
        (
            "<memory unit='M'>512</memory><maxMemory slots='2' unit='G'>4</maxMemory>",
            {"memory": 512, "maxMemory": 4096},
        ),
    ],
)
def test_memory(inner: str, expected: dict[str, int]) -> None:
    found = fields(domain(inner))
    assert {key: found[key] for key in ("memory", "maxMemory") if key in found} == expected


@pytest.mark.parametrize(
    "inner", ["<memory unit='furlong'>1</memory>", "<memory>much</memory>", "<memory>-1</memory>"]
)
def test_a_memory_that_is_no_size_is_refused_with_its_line(inner: str) -> None:
    with pytest.raises(ImportRefusedError, match=r"^x.xml:1: memory: found "):
        imported(domain(inner))


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ("", {"cpuCores": 1}),
        ("<vcpu>4</vcpu>", {"cpuCores": 4}),
        ("<vcpu current='3'>8</vcpu>", {"cpuCores": 3, "maxCpuCores": 8}),
        ("<vcpu>1000</vcpu>", {"cpuCores": 255}),
        ("<cpu><topology sockets='2' cores='3' threads='1'/></cpu>", {"cpuCores": 6}),
        ("<vcpu>4</vcpu><cpu><topology sockets='1' cores='2' threads='2'/></cpu>", {"cpuCores": 4}),
    ],
)
def test_processors(inner: str, expected: dict[str, int]) -> None:
    found = fields(domain(inner))
    assert {key: found[key] for key in ("cpuCores", "maxCpuCores") if key in found} == expected


def test_a_shape_that_is_not_one_socket_of_cores_is_noted() -> None:
    assert "one socket" in noted(
        imported(domain("<cpu><topology sockets='2' cores='2'/></cpu>")), "cpu/topology"
    )
    assert not noted(
        imported(domain("<vcpu>2</vcpu><cpu><topology sockets='1' cores='2'/></cpu>")), "cpu/topology"
    )


@pytest.mark.parametrize(
    ("off", "crash", "policy"),
    [
        ("destroy", "restart", None),
        ("destroy", "destroy", None),
        ("destroy", "coredump-restart", None),
        ("destroy", "preserve", "never"),
        ("destroy", "coredump-destroy", "never"),
        ("restart", "restart", "always"),
        ("restart", "destroy", "always"),
        ("preserve", "restart", None),
    ],
)
def test_ends(off: str, crash: str, policy: str | None) -> None:
    found = imported(domain(f"<on_poweroff>{off}</on_poweroff><on_crash>{crash}</on_crash>"))
    assert written(found.spec).get("restartPolicy") == policy
    exact = (off, crash) in {("destroy", "restart"), ("restart", "restart")}
    assert bool(noted(found, "on_crash") or noted(found, "on_poweroff")) is not exact


@pytest.mark.parametrize(
    ("system", "devices", "order"),
    [
        ("", "", "hd"),
        ("<boot dev='cdrom'/><boot dev='hd'/>", "", None),  # the default
        ("<boot dev='network'/><boot dev='hd'/><boot dev='network'/>", "", "net,hd"),
        ("<boot dev='fd'/>", "", "hd"),
        (
            "",
            DISK.format("vda", "virtio", "<boot order='9'/>")
            + CARD.replace("<model", "<boot order='2'/><model"),
            "net,hd",
        ),
    ],
)
def test_boot_order(system: str, devices: str, order: str | None) -> None:
    xml = domain(devices=devices, system=f"<type>hvm</type>{system}")
    assert fields(xml).get("bootOrder") == order


def test_the_disk_that_is_booted_from_is_the_root_disk() -> None:
    xml = domain(devices=DISK.format("vda", "virtio", "") + DISK.format("vdb", "virtio", "<boot order='1'/>"))
    found = imported(xml, sizes={"/i/vdb.img": 5 * GIB})
    assert (found.spec.disk_size_gib, [disk.name for disk in found.spec.disks]) == (5, ["vda"])
    assert found.images == (Image("root", "/i/vdb.img", "raw"), Image("vda", "/i/vda.img", "raw"))


@pytest.mark.parametrize(
    ("devices", "profile"),
    [
        (DISK.format("vda", "virtio", ""), None),
        (DISK.format("sda", "sata", ""), "compatible"),
        (DISK.format("hda", "ide", ""), "compatible"),
        (DISK.format("sda", "scsi", ""), "compatible"),
        (DISK.format("sda", "scsi", "") + "<controller type='scsi' model='virtio-scsi'/>", None),
        (DISK.format("hda", "ide", "").replace(" bus='ide'", ""), "compatible"),
        (CARD.replace("virtio", "e1000"), "compatible"),
        (CARD, None),
        (DISK.format("vda", "virtio", "") + CARD.replace("virtio", "e1000"), None),
    ],
)
def test_profile(devices: str, profile: str | None) -> None:
    assert fields(domain(devices=devices)).get("profile") == profile


def test_disks_and_cards_too_many_are_noted() -> None:
    disks = "".join(DISK.format(f"vd{letter}", "virtio", "") for letter in "abcdefghijkl")
    found = imported(domain(devices=disks + CARD * 3))
    assert (len(found.spec.disks), len(found.spec.nics)) == (PLUGGABLE_MAX, 0)
    assert [place for place in places(found, Kind.LOST) if "interface" in place] == [
        "devices/interface[2]",
        "devices/interface[3]",
    ]
    assert [place for place in places(found, Kind.LOST) if "disk" in place][-1] == "devices/disk[12]"


@pytest.mark.parametrize(
    ("attributes", "port"),
    [
        ("port='5901' autoport='no'", 5901),
        ("port='5901'", 5901),
        ("port='5901' autoport='yes'", None),
        ("port='-1' autoport='yes'", None),
        ("port='5800' autoport='no'", None),
    ],
)
def test_screen(attributes: str, port: int | None) -> None:
    assert fields(domain(devices=f"<graphics type='vnc' {attributes}/>")).get("vncPort") == port


@pytest.mark.parametrize("kind", ["vnc", "spice"])
def test_a_password_is_noted_and_not_shown(kind: str) -> None:
    xml = domain(devices=f"<graphics type='{kind}' passwd='hunter22'/>")
    found = imported(xml)
    assert "passwd" in noted(found, "devices/graphics")
    assert "hunter22" not in str(found)


@pytest.mark.parametrize("address", ["0.0.0.0", "192.0.2.1", "::"])
def test_a_screen_that_others_could_reach_is_noted(address: str) -> None:
    found = imported(domain(devices=f"<graphics type='vnc' port='5901' listen='{address}'/>"))
    assert f"listen {address}" in noted(found, "devices/graphics")


@pytest.mark.parametrize(
    ("attributes", "action"),
    [
        ("model='i6300esb'", {"action": "reset"}),
        ("model='i6300esb' action='pause'", {"action": "pause"}),
        ("model='ib700' action='shutdown'", {"action": "poweroff"}),
        ("model='itco' action='reset'", None),
    ],
)
def test_watchdog(attributes: str, action: dict[str, str] | None) -> None:
    assert fields(domain(devices=f"<watchdog {attributes}/>")).get("watchdog") == action


@pytest.mark.parametrize("kind", ["network", "bridge", "direct"])
def test_a_network_is_named_in_its_note(kind: str) -> None:
    card = f"<interface type='{kind}'><source {kind}='lan7'/><model type='virtio'/></interface>"
    message = noted(imported(domain(devices=card)), "devices/interface")
    assert message.startswith(f"type={kind} {kind}=lan7 becomes networkType: user")


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        ("<domain type='lxc'><os><type>exe</type></os></domain>", "expected hvm"),
        ("<domain type='xen'><os><type>linux</type></os></domain>", "expected hvm"),
        ("<domain type='openvz'><os><type>hvm</type></os></domain>", "a container"),
        ("<domain type='kvm'><os><type arch='aarch64'>hvm</type></os></domain>", "arch=aarch64"),
        ("<domain type='kvm'><name>web</name></domain>", "no <os><type>"),
    ],
)
def test_what_cannot_run_here_is_refused_with_its_place(xml: str, words: str) -> None:
    with pytest.raises(ImportRefusedError, match=r"^x.xml:1: .*" + re.escape(words)):
        imported(xml)


@pytest.mark.parametrize("path", ["nbd:127.0.0.1:10809", "json:{}", "-o", "../x", "/a&#10;b", ""])
def test_a_path_that_a_program_would_take_for_something_else_is_never_handed_on(path: str) -> None:
    xml = domain(devices=DISK.format("vda", "virtio", "").replace("/i/vda.img", path))
    found = imported(xml)
    assert found.images == ()
    assert not image_formats(parse(xml.encode(), "x"))
    assert "no file of this host" in noted(found, "devices/disk")


def test_a_name_of_ones_own_is_taken_and_noted() -> None:
    found = imported(domain(), name="other")
    assert (found.name, noted(found, "name")) == ("other", '"web" becomes other: as you asked')


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("web", "web"),
        ("Müller &amp; Co", "Muller-Co"),
        ("日本", "imported"),
        ("", "imported"),
        ("a" * 99, "a" * 63),
    ],
)
def test_names_are_made_valid(text: str, name: str) -> None:
    found = imported(domain().replace("<name>web<", f"<name>{text}<"))
    assert found.name == name
    assert is_vm_name(found.name)


def test_no_note_holds_what_a_terminal_would_obey() -> None:
    xml = "<?xml version='1.0' encoding='UTF-8'?>" + domain("<frob a='&#x9b;31m&#x202e;evil'>\u0085</frob>")
    found = imported(xml.encode())
    assert all(note.message.isprintable() for note in found.notes)
    assert "evil" in noted(found, "frob")


NASTY = [
    "",
    "-1",
    "0",
    "7",
    "99999999999999999999999",
    "x" * 5000,
    "\u0085\u2028",
    "yes",
    "on",
    "Ⅷ",
    "a b",
    "/",
    "٣",
]
VALUE = re.compile(r"(?<==)'[^']*'|(?<=>)[^<>\s][^<>]*(?=</)")


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(("linux", "windows", "minimal")), st.data())
def test_whatever_stands_in_it_a_valid_manifest_comes_out_or_a_refusal(
    name: str, draw: st.DataObject
) -> None:
    text = data(name).decode()
    spots = [match.span() for match in VALUE.finditer(text) if not match.group().startswith("'http")]
    for start, end in sorted(
        draw.draw(st.lists(st.sampled_from(spots), min_size=1, max_size=6, unique=True))
    )[::-1]:
        value = draw.draw(st.sampled_from(NASTY))
        text = text[:start] + (f"'{value}'" if text[start] == "'" else value) + text[end:]
    try:
        found = imported(text)
    except ImportRefusedError as error:
        assert str(error).startswith("x.xml:")
        return
    decoded = decode(render_new(found.name, written(found.spec), found.labels).encode(), "x.yaml")
    assert not decoded.problems
    assert decoded.vms[0].spec == found.spec
