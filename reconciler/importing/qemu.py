"""A QEMU that runs, as a VM: what its answers and its command line come to as a manifest, and what they do not.

What it is now is left as it is; most of what is noted here is about its next start, which is the agent's own. Pure.
Next: `reconciler.importing.options` for the command line, `reconciler.control.adoption` for the deed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from reconciler.importing.machine import valid_name
from reconciler.importing.options import boot_letters, left_over, of_the_boot
from reconciler.importing.outcome import Imported, Kind, Note
from reconciler.importing.units import disk_gib
from reconciler.model.errors import ImportRefusedError
from reconciler.model.observed import Fault, Foreign
from reconciler.model.observed import Medium as Iso
from reconciler.model.survey import Card, Drive, Survey
from reconciler.model.vm import BootDevice, Profile, RestartPolicy, Throttle, VMSpec

MIB = 1024**2
MB = 10**6
NO_UUID = "00000000-0000-0000-0000-000000000000"
RUNS = frozenset({"running", "paused", "suspended"})
LOOPBACK = "127.0.0.1"
OURS = frozenset(
    {"VGA", "ich9-ahci", "pcie-root-port", "qemu-xhci", "usb-tablet", "virtio-balloon-pci", "virtio-rng-pci"}
    | {"virtio-scsi-pci", "virtio-serial-pci", "pvpanic-pci", "virtio-blk-pci", "ide-hd", "ide-cd"}
    | {"scsi-hd", "scsi-cd", "nvme"}
)
"""Drivers that the agent's own VMs have as well, or whose drives are spoken of one by one."""


@dataclass(frozen=True)
class Found:
    """A QEMU that runs: what it says, how it was started, and what lies in its CD drive as a manifest may name it."""

    survey: Survey
    argv: tuple[str, ...]
    iso: Iso | Fault | None = None

    @property
    def root(self) -> Drive | None:
        """The disk that is the root disk: the one that is booted from first, else the first one there is."""
        disks = [disk for disk in self.survey.disks if disk.medium]
        return min(
            disks, key=lambda disk: disk.boot_index if disk.boot_index >= 0 else len(disks) + 99, default=None
        )

    @property
    def drive(self) -> Drive | None:
        """The CD drive; one whose medium no manifest may name is left alone."""
        drive = next(iter(self.survey.cd_drives), None)
        return None if drive and drive.medium and not isinstance(self.iso, Iso) else drive

    @property
    def card(self) -> Card | None:
        """The first network card: one on a user network, if there is any."""
        cards = self.survey.cards
        return next(
            (card for card in cards if card.netdev in self.survey.user_networks), next(iter(cards), None)
        )


def name_of(survey: Survey, given: str | None) -> str:
    """What the VM is called. Raises ImportRefusedError where nobody says."""
    if given is None and survey.name is None:
        raise ImportRefusedError("this QEMU has no name of its own (-name): give it one with --name")
    return given or valid_name(survey.name or "")


def convert(found: Found, name: str) -> Imported:
    """The VM that it is. Raises ImportRefusedError for one that is not in a state to be taken over."""
    survey = found.survey
    if survey.run_state not in RUNS:
        raise ImportRefusedError(
            f"its guest does not run (QEMU says {survey.run_state}): let it go on, or end it, and import it then"
        )
    card = found.card
    spec = VMSpec(
        memory_mib=_mib(survey.base_bytes if survey.balloon_bytes is None else survey.balloon_bytes),
        max_memory_mib=_max_memory_mib(survey),
        cpu_cores=survey.cpus,
        max_cpu_cores=survey.cpus_max,
        disk_size_gib=disk_gib(found.root.medium.size_bytes)
        if found.root and found.root.medium
        else VMSpec().disk_size_gib,
        root_disk=_throttle(_limits(found.root)),
        port_forwards=survey.user_networks.get(card.netdev, ()) if card else (),
        vnc_port=survey.screen.port if survey.screen else None,
        boot_order=_boot_order(found),
        iso_path=found.iso.path if isinstance(found.iso, Iso) else None,
        mount_iso=isinstance(found.iso, Iso),
        profile=_profile(found),
    )
    notes = tuple(_notes(found, spec))
    if any(note.kind is Kind.TO_DO for note in notes):
        why = "never, until that is done: started without it, the VM would not be the same"
        notes = (*notes, _note(Kind.CHANGED, "restartPolicy", why))
        spec = replace(spec, restart_policy=RestartPolicy.NEVER)
    return Imported(name, spec, {}, notes)


def foreign(found: Found) -> Foreign:
    """Its names of what has names of ours."""
    root, drive, card = found.root, found.drive, found.card
    theirs = {"disk0": root, "cd0": drive}
    devices = {BootDevice.HD: root, BootDevice.CD: drive, BootDevice.NET: card}
    indices = {
        kind: device.boot_index for kind, device in devices.items() if device and device.boot_index >= 0
    }
    media = (
        {drive.medium.node_name: found.iso.node_name}
        if drive and drive.medium and isinstance(found.iso, Iso)
        else {}
    )
    return Foreign(
        uuid=found.survey.uuid,
        ids={ours: device.qdev for ours, device in theirs.items() if device},
        paths={ours: device.path for ours, device in {**theirs, "nic0": card}.items() if device},
        netdev=card.netdev if card else None,
        media=media,
        limits=_limits(root),
        boot_order=tuple(sorted(indices, key=lambda kind: indices[kind])),
    )


# ---- fields -----------------------------------------------------------------------------------------------


def _mib(size_bytes: int) -> int:
    return -(-size_bytes // MIB)


def _max_memory_mib(survey: Survey) -> int | None:
    """What the balloon has taken is to be had again."""
    smaller = survey.balloon_bytes is not None and survey.balloon_bytes < survey.base_bytes
    return _mib(survey.base_bytes) if smaller else None


def _limits(disk: Drive | None) -> tuple[int, ...]:
    return disk.medium.limits if disk and disk.medium else (0,) * 6


def _throttle(limits: Sequence[int]) -> Throttle:
    """As near as a manifest comes: the limit of both directions, whole megabytes."""
    bps, bps_rd, bps_wr, iops, iops_rd, iops_wr = limits
    return Throttle(iops=iops or max(iops_rd, iops_wr), mbps=-(-(bps or max(bps_rd, bps_wr)) // MB))


def _profile(found: Found) -> Profile:
    """A guest that has drivers for virtio has its disk there, or, without one, its network."""
    drivers = [device.driver for device in (found.root, found.card) if device]
    virtio = all(driver.startswith("virtio") for driver in drivers[:1])
    return Profile.DEFAULT if virtio else Profile.COMPATIBLE


def _boot_order(found: Found) -> tuple[BootDevice, ...]:
    """As its boot indices say, then as `-boot` says, then as a PC does; never from what is not there."""
    there = {
        BootDevice.HD: found.root,
        BootDevice.CD: next(iter(found.survey.cd_drives), None),
        BootDevice.NET: found.card,
    }
    indices = {kind: device.boot_index for kind, device in there.items() if device and device.boot_index >= 0}
    order = sorted(indices, key=lambda kind: indices[kind])
    order += [kind for kind in boot_letters(found.argv) if there[kind] and kind not in order]
    order += [kind for kind in (BootDevice.HD, BootDevice.CD) if there[kind] and kind not in order]
    return tuple(order) or (BootDevice.HD,)


# ---- what has to be said ------------------------------------------------------------------------------------


def _notes(found: Found, spec: VMSpec) -> Iterator[Note]:
    yield from _of_machine(found, spec)
    yield from _of_disks(found, spec)
    yield from _of_cd_drives(found)
    yield from _of_cards(found)
    yield from _of_screen(found.survey)
    spoken_of = {card.path for card in found.survey.cards}
    for path, driver in sorted(found.survey.devices.items()):
        if driver not in OURS and path not in spoken_of:
            yield _note(Kind.LOST, path, f"{driver}: its next start, by the agent, has no such device")
    for words in of_the_boot(found.argv):
        yield _note(
            Kind.TO_DO, words, "its next start knows nothing of it: it boots from disk, CD or network alone"
        )
    for words in left_over(found.argv):
        yield _note(Kind.LOST, words, "counts for this run; the agent's own start knows nothing of it")


def _note(kind: Kind, place: str, message: str) -> Note:
    return Note(kind, place, 0, message)


def _of_machine(found: Found, spec: VMSpec) -> Iterator[Note]:
    survey = found.survey
    if survey.uuid == NO_UUID:
        yield _note(Kind.CHANGED, "-uuid", "it has none; its guest finds one from its next start on")
    if not survey.machine.startswith("pc-q35-"):
        yield _note(Kind.CHANGED, "-machine", f"it is a {survey.machine}, and a q35 from its next start on")
    if survey.plugged_bytes:
        more = f"{survey.plugged_bytes // MIB} MiB were plugged in beside the first {spec.memory_mib} MiB"
        yield _note(
            Kind.TO_DO, "-m", f"{more}: its next start has {spec.memory_mib}; write more if it needs them"
        )


def _of_disks(found: Found, spec: VMSpec) -> Iterator[Note]:
    root = found.root
    if root is None or root.medium is None:
        size = f"an empty one of {spec.disk_size_gib} GiB, which takes no room before it is written to"
        yield _note(Kind.CHANGED, "disks", f"it has none; its next start has {size}")
    else:
        if root.medium.size_bytes % 1024**3:
            yield _note(
                Kind.CHANGED, root.medium.file, f"grows to {spec.disk_size_gib} GiB at its next start"
            )
        exact = (spec.root_disk.mbps * MB, 0, 0, spec.root_disk.iops, 0, 0)
        if root.medium.limits != exact:
            yield _note(
                Kind.CHANGED, root.medium.file, "its limits become those of rootDisk at its next start"
            )
    for disk in found.survey.disks:
        if disk is not root and disk.medium:
            how = "bring it as one of spec.disks before its next start"
            yield _note(Kind.TO_DO, disk.medium.file, f"a further disk, which this run keeps: {how}")


def _of_cd_drives(found: Found) -> Iterator[Note]:
    for drive in found.survey.cd_drives[1:]:
        yield _note(Kind.LOST, drive.path, "a second CD drive: its next start has one")
    first = next(iter(found.survey.cd_drives), None)
    if first is None:
        yield _note(Kind.CHANGED, "CD drive", "it has none, so no ISO can be mounted before its next start")
    elif first.medium and isinstance(found.iso, Fault):
        why = f"no manifest may name it ({found.iso.message}); the drive is left alone until its next start"
        yield _note(Kind.LOST, first.medium.file, why)


def _of_cards(found: Found) -> Iterator[Note]:
    card, networks = found.card, found.survey.user_networks
    if card is None:
        yield _note(Kind.CHANGED, "network", "it has no card; its next start has one on a user network")
    elif card.netdev not in networks:
        what = f"{card.netdev} is no user network: this run keeps it, and its next start is on a user network"
        yield _note(Kind.CHANGED, card.path, what)
    for other in found.survey.cards:
        if other is not card:
            how = "name it among spec.nics after this run"
            yield _note(
                Kind.LOST, other.path, f"a further network card ({other.netdev}), which this run keeps: {how}"
            )


def _of_screen(survey: Survey) -> Iterator[Note]:
    screen = survey.screen
    if screen is None:
        yield _note(Kind.CHANGED, "-vnc", "it serves no VNC, so it has no console before its next start")
        return
    if screen.auth != "none":
        yield _note(
            Kind.LOST, "-vnc", f"its VNC asks for {screen.auth}, which the agent's consoles cannot answer"
        )
    if screen.host != LOOPBACK:
        yield _note(
            Kind.CHANGED,
            "-vnc",
            f"it listens on {screen.host}; from its next start on, on the loopback alone",
        )
