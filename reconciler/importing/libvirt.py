"""A libvirt domain, as `virsh dumpxml` prints it, becomes a spec and a list of what does not carry over.

Read with `parse`, ask `image_formats` which files to look at, and `convert`. What each element becomes stands in
`machine`, `disks` and `cards`; what becomes of the others in `leftovers`.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.importing import cards, disks, machine
from reconciler.importing.ledger import Ledger, Node
from reconciler.importing.leftovers import note_leftovers, tick_harmless
from reconciler.importing.machine import Fields
from reconciler.importing.outcome import ROOT_DISK, Image, Imported, Kind
from reconciler.importing.tree import Element
from reconciler.importing.tree import parse as parse_xml
from reconciler.model.errors import ImportRefusedError
from reconciler.model.vm import PowerState, VMSpec


def parse(data: bytes, file: str) -> Element:
    """The domain in a file, whose name messages use. Raises ImportRefusedError."""
    root = parse_xml(data, file)
    if root.tag != "domain":
        found = (
            f"{file}:{root.line}: found <{root.tag}>, expected <domain>, as `virsh dumpxml NAME` prints it"
        )
        raise ImportRefusedError(found)
    return root


def image_formats(domain: Element) -> dict[str, str]:
    """The paths of its disks' images, and their formats: whoever knows their sizes passes these to `convert`."""
    devices = Node(domain, Ledger("")).child("devices")
    found = disks.hard_disks(devices) if devices else ()
    return {disk.path: disk.format for disk in found if disk.path}


def convert(domain: Element, file: str, *, name: str | None = None, sizes: Mapping[str, int]) -> Imported:
    """The VM that comes closest. `sizes` are virtual sizes in bytes, by path, of images that could be looked at.

    Nothing of the domain is passed over in silence. Raises ImportRefusedError for what is no VM that can run here.
    """
    ledger = Ledger(file)
    tick_harmless(domain, ledger)
    root = Node(domain, ledger).enter()
    machine.board(root)
    chosen = machine.name(root, name)
    hardware, images = _devices(root, sizes)
    spec = VMSpec(
        **machine.accel(root),
        **machine.memory(root),
        **machine.processors(root),
        **machine.ends(root),
        **hardware,
    )
    labels = machine.labels(root)
    note_leftovers(domain, ledger)
    notes = tuple(sorted(ledger.notes, key=lambda note: note.line))
    return Imported(chosen, spec, labels, notes, images)


def _devices(root: Node, sizes: Mapping[str, int]) -> tuple[Fields, tuple[Image, ...]]:
    devices = root.child("devices") or root
    devices.enter()
    hard_disks, drives = disks.hard_disks(devices), disks.cd_drives(devices)
    names = disks.named(hard_disks)
    fields = (
        disks.fields(names, sizes)
        | disks.medium(drives)
        | cards.profile(tuple(names), drives, devices)
        | cards.boot_order(root.child("os"), tuple(names), drives, devices)
        | cards.network(devices, sum(name != ROOT_DISK for name in names.values()))
        | cards.screen(devices)
        | cards.watchdog(devices)
    )
    if not names:
        size = (
            f"an empty root disk of {VMSpec().disk_size_gib} GiB, which takes no room before it is written to"
        )
        devices.note(Kind.CHANGED, f"no hard disk: the VM has {size}")
    else:
        first = "the agent must not start it before its disks are in place, and the old VM is off for good"
        root.note(Kind.TO_DO, f"state: stopped: {first}")
        fields["state"] = PowerState.STOPPED
    return fields, disks.images(hard_disks, names)
