"""What a QEMU says of itself, as a manifest; and what no manifest can say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.importing.options import boot_letters, left_over, of_the_boot
from reconciler.importing.outcome import Kind
from reconciler.importing.qemu import NO_UUID, Found, convert, foreign, name_of
from reconciler.model.errors import ImportRefusedError
from reconciler.model.observed import Fault, Foreign
from reconciler.model.observed import Medium as Iso
from reconciler.model.survey import Card, Drive, Medium, Screen, Survey
from reconciler.model.vm import (
    BootDevice,
    PortForward,
    Profile,
    RestartPolicy,
    Throttle,
    VMSpec,
)

MIB, GIB = 1024**2, 1024**3
NONE = (0,) * 6
ANON = "/machine/peripheral-anon"
DISK = Drive(
    f"{ANON}/device[0]/virtio-backend",
    f"{ANON}/device[0]",
    "virtio-blk-device",
    Medium("#block1", "disk.qcow2", "qcow2", 20 * GIB, NONE),
)
CD = Drive(
    "/machine/unattached/device[24]",
    "/machine/unattached/device[24]",
    "ide-cd",
    Medium("#block3", "/iso/demo.iso", "raw", 7 * MIB, NONE),
)
ISO = Iso("/iso/demo.iso", "iso-0123456789abcdef")
CARD = Card("/machine/peripheral/eth", "virtio-net-pci", "52:54:00:12:34:56", "lan")
SSH = PortForward(2222, 22)
SURVEY = Survey(
    name="web",
    uuid="6e1a2f3c-0000-4000-8000-000000000001",
    version="7.2.22",
    run_state="running",
    machine="pc-q35-7.2",
    kvm=False,
    cpus=2,
    cpus_max=4,
    base_bytes=512 * MIB,
    disks=(DISK,),
    cd_drives=(CD,),
    cards=(CARD,),
    user_networks={"lan": (SSH,)},
    screen=Screen(5901, "127.0.0.1", "none"),
    devices={CARD.path: CARD.driver, DISK.path: "virtio-blk-pci"},
)
FOUND = Found(SURVEY, ("qemu-system-x86_64", "-m", "512"), ISO)


def notes(found: Found) -> dict[str, Kind]:
    """Every note as a line, and how much it matters."""
    return {f"{note.place}: {note.message}": note.kind for note in convert(found, "web").notes}


def test_a_plain_vm_comes_over_as_it_is_with_nothing_to_say() -> None:
    imported = convert(FOUND, "web")
    assert imported.spec == VMSpec(
        memory_mib=512,
        cpu_cores=2,
        max_cpu_cores=4,
        disk_size_gib=20,
        port_forwards=(SSH,),
        vnc_port=5901,
        boot_order=(BootDevice.HD, BootDevice.CD),
        iso_path="/iso/demo.iso",
        mount_iso=True,
    )
    assert imported.notes == ()


def test_names_of_ours_lead_to_its_own() -> None:
    assert foreign(FOUND) == Foreign(
        uuid=SURVEY.uuid,
        ids={"disk0": DISK.qdev, "cd0": CD.qdev},
        paths={"disk0": DISK.path, "cd0": CD.path, "nic0": CARD.path},
        netdev="lan",
        media={"#block3": ISO.node_name},
    )


def test_a_medium_that_no_manifest_may_name_stays_in_a_drive_that_is_left_alone() -> None:
    found = replace(FOUND, iso=Fault("IsoNotAllowed", "not below an allowed directory"))
    assert (convert(found, "web").spec.iso_path, convert(found, "web").spec.mount_iso) == (None, False)
    assert "cd0" not in foreign(found).paths
    (line,) = notes(found)
    assert line.startswith("/iso/demo.iso: no manifest may name it (not below an allowed directory)")


def test_what_it_booted_from_is_what_its_boot_indices_say_and_then_its_command_line() -> None:
    indexed = replace(SURVEY, cd_drives=(replace(CD, boot_index=1),), cards=(replace(CARD, boot_index=0),))
    assert convert(replace(FOUND, survey=indexed), "web").spec.boot_order == (
        BootDevice.NET,
        BootDevice.CD,
        BootDevice.HD,
    )
    assert foreign(replace(FOUND, survey=indexed)).boot_order == (BootDevice.NET, BootDevice.CD)
    lettered = replace(FOUND, argv=("qemu", "-boot", "order=dc,menu=on"))
    assert convert(lettered, "web").spec.boot_order == (BootDevice.CD, BootDevice.HD)
    bare = replace(FOUND, survey=replace(SURVEY, disks=(), cd_drives=()), iso=None)
    assert convert(bare, "web").spec.boot_order == (BootDevice.HD,)


def test_the_disk_that_is_booted_first_is_the_root_disk_and_the_others_keep_it_from_a_start() -> None:
    second = replace(DISK, qdev="sdb", boot_index=0, medium=Medium("n", "b.raw", "raw", GIB + 1, NONE))
    found = replace(FOUND, survey=replace(SURVEY, disks=(DISK, second)))
    imported = convert(found, "web")
    assert foreign(found).ids["disk0"] == "sdb"
    assert (imported.spec.disk_size_gib, imported.spec.restart_policy) == (2, RestartPolicy.NEVER)
    said = notes(found)
    assert said["b.raw: grows to 2 GiB at its next start"] is Kind.CHANGED
    assert [kind for line, kind in said.items() if line.startswith("disk.qcow2: a further disk")] == [
        Kind.TO_DO
    ]


def test_limits_are_taken_as_near_as_they_can_be_written() -> None:
    limited = replace(DISK, medium=Medium("n", "d", "qcow2", GIB, (0, 1_500_000, 0, 700, 0, 0)))
    found = replace(FOUND, survey=replace(SURVEY, disks=(limited,)))
    assert convert(found, "web").spec.root_disk == Throttle(iops=700, mbps=2)
    assert foreign(found).limits == (0, 1_500_000, 0, 700, 0, 0)
    assert "d: its limits become those of rootDisk at its next start" in notes(found)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"uuid": NO_UUID}, "-uuid"),
        ({"machine": "pc-i440fx-7.2"}, "-machine"),
        ({"plugged_bytes": GIB}, "-m"),
        ({"disks": ()}, "disks"),
        ({"cd_drives": ()}, "CD drive"),
        ({"cd_drives": (CD, replace(CD, path="/second"))}, "/second"),
        ({"cards": (), "devices": {}}, "network"),
        ({"user_networks": {}}, CARD.path),
        ({"cards": (CARD, replace(CARD, path="/other", netdev="dmz"))}, "/other"),
        ({"screen": None}, "-vnc"),
        ({"screen": Screen(5901, "0.0.0.0", "none")}, "-vnc"),
        ({"screen": Screen(5901, "127.0.0.1", "vnc")}, "-vnc"),
        ({"devices": {"/machine/peripheral/tpm": "tpm-tis"}}, "/machine/peripheral/tpm"),
    ],
)
def test_what_is_otherwise_is_said_once(changes: dict[str, object], place: str) -> None:
    survey = replace(SURVEY, **changes)  # type: ignore[arg-type]
    iso = ISO if survey.cd_drives else None
    said = convert(replace(FOUND, survey=survey, iso=iso), "web").notes
    assert [note.place for note in said if note.place != "restartPolicy"] == [place]


def test_a_guest_without_virtio_gets_the_compatible_devices_and_its_balloons_memory() -> None:
    survey = replace(SURVEY, disks=(replace(DISK, driver="ide-hd"),), balloon_bytes=256 * MIB)
    spec = convert(replace(FOUND, survey=survey), "web").spec
    assert (spec.profile, spec.memory_mib, spec.max_memory_mib) == (Profile.COMPATIBLE, 256, 512)


@pytest.mark.parametrize("state", ["prelaunch", "inmigrate", "shutdown", "guest-panicked", "internal-error"])
def test_one_whose_guest_does_not_run_is_refused(state: str) -> None:
    with pytest.raises(ImportRefusedError, match=state):
        convert(replace(FOUND, survey=replace(SURVEY, run_state=state)), "web")


def test_its_name_is_the_one_given_or_its_own_made_valid() -> None:
    assert name_of(SURVEY, "other") == "other"
    assert name_of(replace(SURVEY, name="my shop"), None) == "my-shop"
    with pytest.raises(ImportRefusedError, match="--name"):
        name_of(replace(SURVEY, name=None), None)


def test_every_option_is_asked_for_or_of_no_matter_or_listed() -> None:
    argv = (
        *("qemu-system-x86_64", "-m", "1G", "-nographic", "--kernel", "vmlinuz", "-append", "quiet"),
        *("-drive", "if=pflash,file=OVMF.fd", "-drive", "file=d.qcow2", "-cpu", "max", "-usb", "image.qcow2"),
    )
    assert list(of_the_boot(argv)) == ["-kernel vmlinuz", "-append quiet", "-drive if=pflash,file=OVMF.fd"]
    assert list(left_over(argv)) == ["-cpu max", "-usb image.qcow2"]
    assert boot_letters(("qemu", "-boot", "menu=on")) == ()
    assert boot_letters(("qemu", "-boot", "ndx")) == (BootDevice.NET, BootDevice.CD)
