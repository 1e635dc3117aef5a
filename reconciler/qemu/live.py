"""Changing a QEMU whose guest runs: each function is one step, as QMP commands.

Every step can be the last before a crash, and may be asked for again: what is done already is left as it is. What
QEMU answers to the step is not believed; `reconciler.qemu.hardware` looks. The CD drive has `reconciler.qemu.media`.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress

from reconciler.model.errors import PortConflictError, QemuError, QmpError
from reconciler.model.vm import BootDevice, PortForward, Throttle
from reconciler.qemu.answers import Execute, mapping, mappings, member
from reconciler.qemu.devices import (
    BOOT_DEVICES,
    EXTRA_MEMORY,
    FIRST_NETDEV,
    VNC_HOST,
    Properties,
    disk_node,
    hostfwd,
)
from reconciler.qemu.hardware import PERIPHERAL, boot_index

MB = 10**6
CPU_PLACE = ("socket-id", "core-id", "thread-id")
VNC_BACKLOG = 16
_UNPLUGGING = "in the process of unplug"


def resize_disk(execute: Execute, node_name: str, size_bytes: int) -> None:
    """Let a disk be larger. QEMU would shrink it without a word, so whoever calls has looked."""
    execute("block_resize", {"node-name": node_name, "size": size_bytes})


def limit_disk(execute: Execute, qdev: str, throttle: Throttle) -> None:
    """Set all limits of a disk; what has none is as fast as it can."""
    execute(
        "block_set_io_throttle",
        {
            "id": qdev,
            "bps": throttle.mbps * MB,
            "bps_rd": 0,
            "bps_wr": 0,
            "iops": throttle.iops,
            "iops_rd": 0,
            "iops_wr": 0,
        },
    )


def plug_disk(execute: Execute, device: Properties, fd: int) -> None:
    """Give QEMU a disk as a descriptor, and the guest the device. `fd` stays the caller's."""
    node = str(device["drive"])
    drop_node(execute, node)
    added = mapping(execute("add-fd", {"opaque": node}, fd=fd), "add-fd")
    execute("blockdev-add", disk_node(node, member(added, "fdset-id", int, "add-fd")))
    execute("device_add", device)


def plug_nic(execute: Execute, device: Properties, netdev: Properties) -> None:
    """Make the network, and give the guest a card in it."""
    drop_netdev(execute, str(netdev["id"]))
    execute("netdev_add", netdev)
    execute("device_add", device)


def unplug(execute: Execute, device: str) -> None:
    """Ask the guest to let go of a device. Asked twice in a row, QEMU complains; the guest was asked all the same."""
    try:
        execute("device_del", {"id": device})
    except QmpError as error:
        if _UNPLUGGING not in error.description:
            raise


def drop_node(execute: Execute, node_name: str) -> None:
    """Close a disk that no device uses, and give back its descriptor."""
    nodes = mappings(execute("query-named-block-nodes", {"flat": True}), "query-named-block-nodes")
    if any(node.get("node-name") == node_name for node in nodes):
        execute("blockdev-del", {"node-name": node_name})
    for fdset in mappings(execute("query-fdsets"), "query-fdsets"):
        if any(fd.get("opaque") == node_name for fd in mappings(fdset.get("fds"), "query-fdsets")):
            execute("remove-fd", {"fdset-id": member(fdset, "fdset-id", int, "query-fdsets")})


def drop_netdev(execute: Execute, netdev: str) -> None:
    """Remove a network that no card uses; one that is not there is fine."""
    with suppress(QmpError):
        execute("netdev_del", {"id": netdev})


def set_link(execute: Execute, device: str, *, up: bool) -> None:
    """Plug in the cable of a network card, or out."""
    execute("set_link", {"name": device, "up": up})


def set_action(execute: Execute, event: str, action: str) -> None:
    """Say what QEMU does upon a reboot, a watchdog's bite and the like."""
    execute("set-action", {event: action})


def plug_cpus(execute: Execute, cores: int) -> None:
    """Add CPU cores until there are so many, lowest first: with a gap, a guest would hang at its next reset."""
    cpus = mappings(execute("query-hotpluggable-cpus"), "query-hotpluggable-cpus")
    places = sorted(
        ((mapping(cpu.get("props"), "query-hotpluggable-cpus"), cpu) for cpu in cpus),
        key=lambda place: [member(place[0], part, int, "query-hotpluggable-cpus") for part in CPU_PLACE],
    )
    for number, (place, cpu) in enumerate(places[:cores]):
        if "qom-path" not in cpu:
            execute("device_add", {"driver": cpu.get("type"), "id": f"cpu{number}", **place})


def set_memory(execute: Execute, requested_bytes: int | None, balloon_bytes: int | None) -> None:
    """Tell virtio-mem and the balloon what the guest should have; how far it follows is its own affair."""
    if requested_bytes is not None:
        path = f"{PERIPHERAL}/{EXTRA_MEMORY}"
        execute("qom-set", {"path": path, "property": "requested-size", "value": requested_bytes})
    if balloon_bytes is not None:
        execute("balloon", {"value": balloon_bytes})


def add_forward(execute: Execute, forward: PortForward) -> None:
    """Forward a port of the host. Raises PortConflictError where somebody else has it."""
    said = _human(execute, f"hostfwd_add {FIRST_NETDEV} {hostfwd(forward)}")
    if said:
        raise PortConflictError(f"spec.portForwards: {forward}: {said}; is the port in use on this host?")


def remove_forward(execute: Execute, forward: PortForward) -> None:
    """Forward it no longer; connections through it go on. Raises QemuError."""
    rule = hostfwd(forward).rpartition("-")[0]
    said = _human(execute, f"hostfwd_remove {FIRST_NETDEV} {rule}")
    if "removed" not in said:
        raise QemuError(f"spec.portForwards: {forward}: {said}")


def move_vnc(execute: Execute, port: int) -> None:
    """Let VNC be served on this port of the loopback, and on no other; whoever is connected stays so.

    The agent listens, and hands the socket over: QEMU itself would be without any, were the port taken.
    Raises PortConflictError.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((VNC_HOST, port))
            listener.listen(VNC_BACKLOG)
        except OSError as error:
            raise PortConflictError(f"spec.vncPort: {port}: {error.strerror}; write another port") from error
        name = f"vnc{port:d}"
        execute("getfd", {"fdname": name}, fd=listener.fileno())
        execute("display-update", {"type": "vnc", "addresses": [{"type": "fd", "str": name}]})


def set_boot_order(execute: Execute, order: Sequence[BootDevice]) -> None:
    """Say what the next reset boots from. No two devices may have one place, so all leave theirs first."""
    for name in BOOT_DEVICES.values():
        if boot_index(execute, name) >= 0:
            _set_boot_index(execute, name, -1)
    for place, device in enumerate(order):
        _set_boot_index(execute, BOOT_DEVICES[device], place)


def _set_boot_index(execute: Execute, device: str, index: int) -> None:
    execute("qom-set", {"path": f"{PERIPHERAL}/{device}", "property": "bootindex", "value": index})


def _human(execute: Execute, command: str) -> str:
    return str(execute("human-monitor-command", {"command-line": command})).strip()
