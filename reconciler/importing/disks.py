"""Disks and drives of a libvirt domain: which becomes the root disk, what has to be copied, what lies in the CD drive.

Next: `reconciler.importing.cards`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.importing.ledger import Node
from reconciler.importing.machine import Fields
from reconciler.importing.outcome import ROOT_DISK, Image, Kind
from reconciler.importing.units import IOPS_MAX, disk_gib, megabytes
from reconciler.model.vm import PLUGGABLE_MAX, DataDisk, Throttle, VMSpec

Sizes = Mapping[str, int]
"""The virtual sizes in bytes of image files, by path, of those that could be looked at."""

DEVICE_NAME = re.compile(r"[a-z][a-z0-9-]{0,14}\Z")
_BUS_BY_PREFIX = {"vd": "virtio", "sd": "scsi", "hd": "ide", "fd": "fdc", "xvd": "xen"}
_PATH = re.compile(
    r"/[^\x00-\x1f\x7f]{0,4095}\Z"
)  # absolute: programs take `nbd:…` and `-o` for something else
_FORMATS = ("raw", "qcow2", "qed", "vmdk", "vdi", "vpc", "vhdx", "parallels")


@dataclass(frozen=True, eq=False)
class Disk:
    """A hard disk of the domain. `path` is None where it is no file or device of this host."""

    node: Node
    target: str
    bus: str
    path: str | None
    format: str
    throttle: Throttle
    boot_order: int | None


def hard_disks(devices: Node) -> tuple[Disk, ...]:
    """All hard disks, the root disk first: the one that is booted from, else the first."""
    found = [
        _disk(node) for node in devices.all("disk") if node.element.attributes.get("device", "disk") == "disk"
    ]
    return tuple(sorted(found, key=lambda disk: disk.boot_order or len(found) + 1_000_000))


def cd_drives(devices: Node) -> list[Node]:
    """All CD drives."""
    return [node for node in devices.all("disk") if node.element.attributes.get("device") == "cdrom"]


def images(disks: tuple[Disk, ...], names: Mapping[Disk, str]) -> tuple[Image, ...]:
    """What has to be copied, and to which disk."""
    return tuple(Image(names[disk], disk.path, disk.format) for disk in disks if disk in names and disk.path)


def named(disks: tuple[Disk, ...]) -> dict[Disk, str]:
    """The disks that the VM gets, and what they are called there; a disk too many is noted."""
    names: dict[Disk, str] = {}
    for index, disk in enumerate(disks):
        if index > PLUGGABLE_MAX:
            disk.node.give_up(Kind.LOST, f"a VM has {PLUGGABLE_MAX} disks beside its root disk at most")
        elif index:
            fits = DEVICE_NAME.match(disk.target) and disk.target not in names.values()
            names[disk] = disk.target if fits else f"data-{index}"
            if not fits:
                disk.node.note(Kind.CHANGED, f'its target is "{disk.target}"; here the disk is {names[disk]}')
        else:
            names[disk] = ROOT_DISK
    return names


def fields(names: Mapping[Disk, str], sizes: Sizes) -> Fields:
    """The root disk and the data disks. What no image says of its size is noted."""
    found: Fields = {}
    data = []
    for disk, name in names.items():
        size_gib = _size(disk, name, sizes)
        if name == ROOT_DISK:
            found |= {"disk_size_gib": size_gib, "root_disk": disk.throttle}
        else:
            data.append(DataDisk(name, size_gib, disk.throttle))
    return found | ({"disks": tuple(sorted(data))} if data else {})


def medium(drives: list[Node]) -> Fields:
    """What lies in the first CD drive; a second drive is noted."""
    for node in drives[1:]:
        node.enter().give_up(Kind.LOST, "a VM has one CD drive")
    if not drives:
        return {}
    drive = drives[0].enter()
    _ordinary_drive(drive)
    source = drive.child("source")
    path = source.element.attributes.get("file") if source else None
    if source is None or path is None or not _PATH.match(path):
        return {}
    source.enter().get("file")
    where = "the state directory's iso/, or one that the setting isoRoots names"
    source.note(Kind.TO_DO, f"isoPath {path}: has to lie in /srv/iso, /srv/images, {where}")
    return {"iso_path": path, "mount_iso": True}


def _ordinary_drive(drive: Node) -> None:
    """Tick off what every drive has, and what follows from the profile."""
    drive.get("device")
    drive.one_of("type", "file", "block")
    driver, target, readonly = (drive.child(tag) for tag in ("driver", "target", "readonly"))
    if target:
        target.enter().get("dev"), target.get("bus"), target.one_of("tray", "closed")
    if readonly:
        readonly.enter()
    if driver:
        driver.enter().one_of("type", "raw")


def _disk(node: Node) -> Disk:
    node.enter().get("device")
    node.one_of("type", "file", "block")
    target, driver, boot = (node.child(tag) for tag in ("target", "driver", "boot"))
    dev = (target.enter().get("dev") if target else None) or ""
    bus = target.get("bus") if target else None
    prefix = next((prefix for prefix in _BUS_BY_PREFIX if dev.startswith(prefix)), "")
    return Disk(
        node=node,
        target=dev,
        bus=bus or _BUS_BY_PREFIX.get(prefix, ""),
        path=_path(node),
        format=(driver.enter().one_of("type", *_FORMATS) if driver else None) or "raw",
        throttle=_throttle(node),
        boot_order=boot.enter().number("order") if boot else None,
    )


def _path(node: Node) -> str | None:
    source = node.child("source")
    if source is None:
        return None
    attribute = "dev" if node.element.attributes.get("type") == "block" else "file"
    if not _PATH.match(source.element.attributes.get(attribute, "")):
        return None
    return source.enter().get(attribute)


def _throttle(node: Node) -> Throttle:
    """The two limits that there are fields for; the others stay unread, and so are noted."""
    limits = node.child("iotune")
    if limits is None:
        return Throttle()
    operations, size = limits.enter().child("total_iops_sec"), limits.child("total_bytes_sec")
    iops = operations.enter().text_number if operations else 0
    if operations and iops > IOPS_MAX:
        operations.note(Kind.CHANGED, f"{iops} operations a second become {IOPS_MAX}")
    return Throttle(min(iops, IOPS_MAX), megabytes(size.enter()) if size else 0)


def _size(disk: Disk, name: str, sizes: Sizes) -> int:
    """The size in GiB; what has to be done about the content is noted at the disk."""
    field = "diskSize" if name == ROOT_DISK else f"the size of {name}"
    called = "its root disk" if name == ROOT_DISK else f"its disk {name}"
    size_bytes = sizes.get(disk.path) if disk.path else None
    size_gib = VMSpec().disk_size_gib if size_bytes is None else disk_gib(size_bytes)
    if disk.path is None:
        kind = disk.node.get("type")
        guess = f"{field} is a guess, {size_gib} GiB"
        text = f"type={kind}, and no file of this host: bring its content as {called}; {guess}"
    elif size_bytes is None:
        known = f"{field} is a guess, {size_gib} GiB: the image could not be looked at"
        text = f"{disk.path} ({disk.format}) has to be copied as {called}; {known}"
    else:
        text = f"{disk.path} ({disk.format}, {size_gib} GiB) has to be copied as {called}"
    disk.node.note(Kind.TO_DO, text)
    return size_gib
