"""What QEMU says of the devices of a VM that runs: a dozen questions, each answered in less than a millisecond.

Read-only. `reconciler.qemu.view` asks them where there is a guest; `reconciler.converge.changes` compares the answers
with what the manifest says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from reconciler.model.errors import QmpError
from reconciler.model.observed import DiskView, Hardware, MemoryView
from reconciler.model.vm import BootDevice, PortForward, Protocol
from reconciler.qemu.answers import Answer, Execute, mapping, mappings, member
from reconciler.qemu.devices import BOOT_DEVICES, EXTRA_MEMORY, FIRST_NETDEV, GUEST_AGENT

PERIPHERAL = "/machine/peripheral"
LIMITS = ("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr")

_BACKEND = re.compile(re.escape(PERIPHERAL) + r"/([^/]+)/virtio-backend")
_STACK = re.compile(r"Hub -1 \(([^)]+)\):")
_FORWARD = re.compile(r"\s*(TCP|UDP)\[HOST_FORWARD\]\s+\d+\s+(\S+)\s+(\d+)\s+\S+\s+(\d+)\s")


def hardware(execute: Execute, block: object) -> Hardware:
    """Ask for everything but the block devices, whose answer `block` is. Raises QemuError."""
    devices = _devices(execute("qom-list", {"path": PERIPHERAL}))
    cpus = mappings(execute("query-hotpluggable-cpus"), "query-hotpluggable-cpus")
    networks = _human(execute, "info usernet")
    return Hardware(
        cpus=sum("qom-path" in cpu for cpu in cpus),
        cpus_max=len(cpus),
        memory=_memory(execute, devices),
        disks=tuple(disks(block)),
        devices=devices,
        nodes=_nodes(execute("query-named-block-nodes", {"flat": True})),
        netdevs=frozenset(_STACK.findall(networks)),
        forwards=forwards(networks, FIRST_NETDEV),
        vnc_port=vnc_port(execute("query-vnc-servers")),
        boot_order=_boot_order(execute, devices),
        agent_open=agent_open(execute("query-chardev")),
    )


def disks(block: object) -> Iterator[DiskView]:
    """The disks in an answer to query-block; CD drives are none."""
    for drive in mappings(block, "query-block"):
        inserted, qdev = drive.get("inserted"), drive.get("qdev")
        if drive.get("removable") is not False or inserted is None or not isinstance(qdev, str):
            continue
        medium = mapping(inserted, "query-block")
        backend = _BACKEND.fullmatch(qdev)
        yield DiskView(
            device=backend[1] if backend else qdev,
            qdev=qdev,
            node_name=member(medium, "node-name", str, "query-block"),
            size_bytes=member(
                mapping(medium.get("image"), "query-block"), "virtual-size", int, "query-block"
            ),
            limits=tuple(member(medium, limit, int, "query-block") for limit in LIMITS),
        )


def forwards(networks: str, netdev: str) -> tuple[PortForward, ...]:
    """The port forwards of one network in the text of `info usernet`, sorted."""
    text = networks.partition(f"({netdev}):")[2].partition("Hub -1")[0]
    found = (
        PortForward(
            int(port),
            int(guest_port),
            Protocol(protocol.lower()),
            "0.0.0.0" if address == "*" else address,  # noqa: S104  (as QEMU shows it; nothing is bound here)
        )
        for protocol, address, port, guest_port in _FORWARD.findall(text)
    )
    return tuple(sorted(found))


def vnc_port(servers: object) -> int | None:
    """The TCP port of the screen; None where it is not to be seen on any."""
    for server in mappings(servers, "query-vnc-servers"):
        for address in mappings(server.get("server"), "query-vnc-servers"):
            if address.get("family") == "ipv4" and str(address.get("service")).isdigit():
                return int(str(address["service"]))
    return None


def agent_open(chardevs: object) -> bool:
    """Whether somebody inside the guest listens at the port of the guest agent."""
    return any(
        chardev.get("label") == GUEST_AGENT and chardev.get("frontend-open") is True
        for chardev in mappings(chardevs, "query-chardev")
    )


def _devices(listed: object) -> frozenset[str]:
    properties = mappings(listed, "qom-list")
    return frozenset(str(one["name"]) for one in properties if str(one.get("type", "")).startswith("child<"))


def _nodes(listed: object) -> frozenset[str]:
    nodes = mappings(listed, "query-named-block-nodes")
    return frozenset(str(node.get("node-name")) for node in nodes)


def _memory(execute: Execute, devices: frozenset[str]) -> MemoryView:
    summary = mapping(execute("query-memory-size-summary"), "query-memory-size-summary")
    base = member(summary, "base-memory", int, "query-memory-size-summary")
    balloon = _balloon(execute)
    if EXTRA_MEMORY not in devices:
        return MemoryView(base, balloon)
    extra = next(_extra_memory(execute("query-memory-devices")))
    return MemoryView(
        base,
        balloon,
        plugged_bytes=member(extra, "size", int, "query-memory-devices"),
        requested_bytes=member(extra, "requested-size", int, "query-memory-devices"),
        pluggable_bytes=member(extra, "max-size", int, "query-memory-devices"),
    )


def _extra_memory(listed: object) -> Iterator[Answer]:
    for device in mappings(listed, "query-memory-devices"):
        data = mapping(device.get("data"), "query-memory-devices")
        if data.get("id") == EXTRA_MEMORY:
            yield data


def _balloon(execute: Execute) -> int | None:
    try:
        return member(mapping(execute("query-balloon"), "query-balloon"), "actual", int, "query-balloon")
    except QmpError:  # there is none
        return None


def _boot_order(execute: Execute, devices: frozenset[str]) -> tuple[BootDevice, ...]:
    indices = {device: boot_index(execute, name) for device, name in BOOT_DEVICES.items() if name in devices}
    return tuple(sorted((d for d, index in indices.items() if index >= 0), key=lambda d: indices[d]))


def boot_index(execute: Execute, device: str) -> int:
    """The device's place in the boot order; -1: it is not booted from."""
    index = execute("qom-get", {"path": f"{PERIPHERAL}/{device}", "property": "bootindex"})
    return index if isinstance(index, int) else -1


def _human(execute: Execute, command: str) -> str:
    return str(execute("human-monitor-command", {"command-line": command}))
