"""Network cards, screen, watchdog, and the order in which a domain boots.

Next: `reconciler.importing.leftovers`.
"""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.importing.disks import Disk
from reconciler.importing.ledger import Node
from reconciler.importing.machine import Fields
from reconciler.importing.outcome import Kind
from reconciler.model.vm import (
    PLUGGABLE_MAX,
    VNC_PORT_MAX,
    VNC_PORT_MIN,
    BootDevice,
    Link,
    Nic,
    Profile,
    WatchdogAction,
)

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_OLD_BUSES = frozenset({"ide", "sata", "usb", "fdc", "xen"})
_BOOT_WORDS = {"hd": BootDevice.HD, "cdrom": BootDevice.CD, "network": BootDevice.NET}
_BITES = {"reset", "poweroff", "pause", "none"}


def network(devices: Node, disk_count: int) -> Fields:
    """The first card, and those beside it, as many as fit with the data disks."""
    cards = devices.all("interface")
    if not cards:
        devices.note(
            Kind.CHANGED, "no <interface>: a VM always has a network card; networkLink: down unplugs it"
        )
        return {"network_link": Link.DOWN}
    room = PLUGGABLE_MAX - disk_count
    for card in cards[1 + room :]:
        card.enter().give_up(
            Kind.LOST, f"a VM has {PLUGGABLE_MAX} disks and network cards beside the first at most"
        )
    links = [_card(card) for card in cards[: 1 + room]]
    nics = tuple(Nic(f"nic{number}", link) for number, link in enumerate(links[1:], start=2))
    return {"network_link": links[0], "nics": tuple(sorted(nics))}


def _card(card: Node) -> Link:
    kind = card.enter().get("type")
    _network(card, kind)
    mac, model = card.child("mac"), card.child("model")
    if mac and (address := mac.enter().get("address")):
        new = "the card gets a MAC address and a PCI slot of its own"
        mac.note(
            Kind.CHANGED, f"{address}: {new}; DHCP leases and the guest's settings may go by the old ones"
        )
    if model:
        model.enter().get("type")
    link = card.child("link")
    return Link.DOWN if link and link.enter().one_of("state", "up", "down") == "down" else Link.UP


def _network(card: Node, kind: str | None) -> None:
    """All that a network is attached to is one note, by its name."""
    if kind == "user":
        return
    source = card.child("source")
    name = source.rest.removeprefix("source") if source else ""
    user = "networkType: user: the guest reaches the world, and portForwards lead to it"
    card.note(Kind.CHANGED, f"type={kind}{name} becomes {user}; the network itself cannot be joined yet")
    if source:
        source.done()


def profile(disks: Sequence[Disk], drives: Sequence[Node], devices: Node) -> Fields:
    """Devices that need no drivers, where the domain had such: its root disk decides, or its card without a disk."""
    controllers = devices.all("controller")
    models = {
        c.element.attributes.get("model") for c in controllers if c.element.attributes.get("type") == "scsi"
    }
    cards = [card.value("model", "type") for card in devices.all("interface")]
    if disks:
        # Without a model libvirt's SCSI controller is an LSI, which few of today's guests know either way.
        old = disks[0].bus in _OLD_BUSES or (disks[0].bus == "scsi" and "virtio-scsi" not in models)
    else:
        old = bool(cards) and not str(cards[0] or "").startswith("virtio")
    _say_other_drivers(disks, drives[:1], devices, old=old)
    return {"profile": Profile.COMPATIBLE} if old else {}


def _say_other_drivers(disks: Sequence[Disk], drives: Sequence[Node], devices: Node, *, old: bool) -> None:
    disk_bus, card_model = ("sata", "e1000e") if old else ("virtio", "virtio-net")
    why = f"profile: {Profile.COMPATIBLE.value if old else Profile.DEFAULT.value}"
    for drive in drives:
        bus = drive.value("target", "bus") or "unknown"
        if bus != ("sata" if old else "scsi"):
            drive.note(
                Kind.CHANGED, f"the CD drive's bus {bus} becomes {'sata' if old else 'virtio-scsi'} ({why})"
            )
    for disk in disks:
        if disk.bus != disk_bus:
            disk.node.note(Kind.CHANGED, f"bus {disk.bus or 'unknown'} becomes {disk_bus} ({why})")
    for card in devices.all("interface"):
        model = card.child("model")
        found = model.element.attributes.get("type", "") if model else ""
        if found not in ({"e1000e"} if old else {"virtio", "virtio-net"}):
            card.note(Kind.CHANGED, f"model {found or 'unknown'} becomes {card_model} ({why})")


def boot_order(system: Node | None, disks: Sequence[Disk], drives: Sequence[Node], devices: Node) -> Fields:
    """By the numbers of the devices where these have any, else by the list of <os>, as libvirt reads it."""
    ordered: list[tuple[int, BootDevice]] = []
    cards = devices.all("interface")
    if disks and disks[0].boot_order:
        ordered.append((disks[0].boot_order, BootDevice.HD))
    for nodes, device in ((drives, BootDevice.CD), (cards, BootDevice.NET)):
        order = nodes[0].child("boot") if nodes else None
        if order and (number := order.enter().number("order")):
            ordered.append((number, device))
    for disk in disks[1:]:
        if disk.boot_order:
            disk.node.note(Kind.LOST, f"boot order {disk.boot_order}: a VM boots from its root disk alone")
    found = [device for _, device in sorted(ordered, key=lambda each: each[0])] or _listed(system)
    return {"boot_order": tuple(dict.fromkeys(found)) or (BootDevice.HD,)}


def _listed(system: Node | None) -> list[BootDevice]:
    """`<boot dev="hd"/>`; a floppy stays unread, and so is noted."""
    words = [node.enter().one_of("dev", *_BOOT_WORDS) for node in (system.all("boot") if system else ())]
    return [_BOOT_WORDS[word] for word in words if word]


def screen(devices: Node) -> Fields:
    """The port of the first VNC server, if somebody chose it."""
    graphics = [node for node in devices.all("graphics") if node.element.attributes.get("type") == "vnc"]
    if not graphics:
        return {}
    node = graphics[0].enter()
    node.get("type")
    port = _chosen_port(node)
    _reach(node)
    if node.element.attributes.get("passwd"):
        node.get("passwd")
        node.note(
            Kind.LOST,
            "passwd: VNC listens on 127.0.0.1 without one here, and the web console opens by a token",
        )
    if port is None:
        return {}
    if VNC_PORT_MIN <= port <= VNC_PORT_MAX:
        return {"vnc_port": port}
    node.note(Kind.CHANGED, f"port {port}: the agent chooses one, of {VNC_PORT_MIN} to {VNC_PORT_MAX}")
    return {}


def _chosen_port(node: Node) -> int | None:
    """None where libvirt chose it, and so where a domain that runs tells what was chosen."""
    automatic = node.one_of("autoport", "yes", "no") == "yes"
    port = node.number("port")
    return None if automatic or node.one_of("port", "-1") else port or None


def _reach(node: Node) -> None:
    """VNC is for this host alone, whatever address it had."""
    listen = node.child("listen")
    addresses = {node.get("listen"), listen.enter().get("address") if listen else None} - {None}
    if listen:
        listen.one_of("type", "address")
    for address in sorted(str(each) for each in addresses - LOOPBACK):
        node.note(
            Kind.LOST,
            f"listen {address}: VNC listens on 127.0.0.1 here; from afar use the web console, or ssh -L",
        )


def watchdog(devices: Node) -> Fields:
    """The first watchdog that is a card; the chipset's own stays unread, and so is noted."""
    cards = [node for node in devices.all("watchdog") if node.element.attributes.get("model") != "itco"]
    if not cards:
        return {}
    node = cards[0].enter()
    if (model := node.get("model")) != "i6300esb":
        node.note(
            Kind.CHANGED, f"model {model}: the VM has an i6300esb, for which its guest needs another driver"
        )
    action = node.get("action") or "reset"
    if action == "shutdown":
        node.note(Kind.CHANGED, "action shutdown becomes poweroff")
        return {"watchdog": WatchdogAction.POWEROFF}
    if action not in _BITES:
        node.note(Kind.CHANGED, f"action {action} becomes reset")
        return {"watchdog": WatchdogAction.RESET}
    return {"watchdog": WatchdogAction(action)}
