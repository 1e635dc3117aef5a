"""Asking a QEMU that somebody else started what it is: read-only, and by its own names.

`reconciler.importing.qemu` makes a VM of the answers. Next: `reconciler.qemu.foreign`, which speaks with it later on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress

from reconciler.model.errors import ImportRefusedError, QmpError
from reconciler.model.survey import Card, Drive, Medium, Screen, Survey
from reconciler.model.vm import PortForward
from reconciler.qemu.answers import Answer, Execute, mapping, mappings, member
from reconciler.qemu.foreign import NETWORK
from reconciler.qemu.hardware import LIMITS, PERIPHERAL, forwards

ANONYMOUS = "/machine/peripheral-anon"
BUILT_IN = "/machine/unattached"
BACKEND = "/virtio-backend"
DISKS = frozenset({"ide-hd", "scsi-hd", "virtio-blk-device", "nvme", "nvme-ns"})
CD_DRIVES = frozenset({"ide-cd", "scsi-cd"})
ARCHITECTURE = "x86_64"


def survey(execute: Execute) -> Survey:
    """Ask for everything. Raises QemuError, and ImportRefusedError for what is no VM of the kind that runs here."""
    architecture = mapping(execute("query-target"), "query-target").get("arch")
    if architecture != ARCHITECTURE:
        raise ImportRefusedError(f"its guest is of {architecture}; here are VMs of {ARCHITECTURE} only")
    devices = {**_children(execute, PERIPHERAL), **_children(execute, ANONYMOUS)}
    drives = tuple(_drives(execute))
    summary = mapping(execute("query-memory-size-summary"), "query-memory-size-summary")
    cpus = mappings(execute("query-hotpluggable-cpus"), "query-hotpluggable-cpus")
    name = mapping(execute("query-name"), "query-name").get("name")
    return Survey(
        name=str(name) if name else None,
        uuid=member(mapping(execute("query-uuid"), "query-uuid"), "UUID", str, "query-uuid").lower(),
        version=_version(execute),
        run_state=member(mapping(execute("query-status"), "query-status"), "status", str, "query-status"),
        machine=_text(execute, "/machine", "type").removesuffix("-machine"),
        kvm=mapping(execute("query-kvm"), "query-kvm").get("enabled") is True,
        cpus=sum("qom-path" in cpu for cpu in cpus),
        cpus_max=len(cpus),
        base_bytes=member(summary, "base-memory", int, "query-memory-size-summary"),
        plugged_bytes=member(summary, "plugged-memory", int, "query-memory-size-summary"),
        balloon_bytes=_balloon(execute),
        disks=tuple(drive for drive in drives if drive.driver in DISKS),
        cd_drives=tuple(drive for drive in drives if drive.driver in CD_DRIVES),
        cards=tuple(_cards(execute, {**devices, **_children(execute, BUILT_IN)})),
        user_networks=user_networks(str(execute("human-monitor-command", {"command-line": "info usernet"}))),
        screen=screen(execute("query-vnc-servers")),
        devices=devices,
    )


def user_networks(text: str) -> Mapping[str, tuple[PortForward, ...]]:
    """The user networks in the text of `info usernet`, and the forwards of each."""
    plain = NETWORK.sub(lambda found: f"Hub -1 ({found[1]}):", text)
    return {found[1]: forwards(plain, found[1]) for found in NETWORK.finditer(plain)}


def screen(servers: object) -> Screen | None:
    """The VNC server that is reached by IPv4."""
    for server in mappings(servers, "query-vnc-servers"):
        for address in mappings(server.get("server"), "query-vnc-servers"):
            if address.get("family") == "ipv4" and str(address.get("service")).isdigit():
                return Screen(int(str(address["service"])), str(address.get("host")), str(server.get("auth")))
    return None


def _version(execute: Execute) -> str:
    said = mapping(execute("query-version"), "query-version")
    numbers = mapping(said.get("qemu"), "query-version")
    return ".".join(str(numbers.get(part)) for part in ("major", "minor", "micro"))


def _balloon(execute: Execute) -> int | None:
    try:
        return member(mapping(execute("query-balloon"), "query-balloon"), "actual", int, "query-balloon")
    except QmpError:  # there is none
        return None


def _children(execute: Execute, folder: str) -> dict[str, str]:
    """The drivers of the objects in a folder of QOM, by their paths."""
    listed = mappings(execute("qom-list", {"path": folder}), "qom-list")
    kinds = {str(one.get("name")): str(one.get("type")) for one in listed}
    return {
        f"{folder}/{name}": kind[len("child<") : -1]
        for name, kind in kinds.items()
        if kind.startswith("child<")
    }


def _drives(execute: Execute) -> Iterator[Drive]:
    for drive in mappings(execute("query-block"), "query-block"):
        qdev, inserted = drive.get("qdev"), drive.get("inserted")
        if not isinstance(qdev, str):  # no device uses it
            continue
        place = qdev if qdev.startswith("/") else f"{PERIPHERAL}/{qdev}"
        yield Drive(
            qdev=qdev,
            path=place.removesuffix(BACKEND),
            driver=_text(execute, place, "type"),
            medium=None if inserted is None else _medium(mapping(inserted, "query-block")),
            boot_index=_boot_index(execute, place.removesuffix(BACKEND)),
        )


def _medium(inserted: Answer) -> Medium:
    image = mapping(inserted.get("image"), "query-block")
    return Medium(
        node_name=member(inserted, "node-name", str, "query-block"),
        file=str(inserted.get("file")),
        format=str(inserted.get("drv")),
        size_bytes=member(image, "virtual-size", int, "query-block"),
        limits=tuple(member(inserted, limit, int, "query-block") for limit in LIMITS),
        read_only=inserted.get("ro") is True,
    )


def _cards(execute: Execute, devices: Mapping[str, str]) -> Iterator[Card]:
    """Whatever has a MAC address and something behind it, in the order in which they were made."""
    for path, driver in sorted(devices.items()):
        if not _may_be_a_card(driver):
            continue
        with suppress(QmpError):
            mac, netdev = _text(execute, path, "mac"), _text(execute, path, "netdev")
            yield Card(path, driver, mac, netdev, _boot_index(execute, path))


def _may_be_a_card(driver: str) -> bool:
    """Most of what QEMU lists are memory regions and interrupts; asking each of them would take a while."""
    heads = (
        "e1000",
        "virtio-net",
        "rtl8139",
        "ne2k",
        "pcnet",
        "vmxnet3",
        "i8255",
        "i8280",
        "tulip",
        "igb",
        "usb-net",
    )
    return driver.startswith(heads)


def _boot_index(execute: Execute, path: str) -> int:
    with suppress(QmpError):
        index = execute("qom-get", {"path": path, "property": "bootindex"})
        return index if isinstance(index, int) else -1
    return -1


def _text(execute: Execute, path: str, name: str) -> str:
    return str(execute("qom-get", {"path": path, "property": name}))
