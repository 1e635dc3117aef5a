"""A model of QEMU and its guest: what each adjustment does to what QEMU says next.

The real one is tried in tests/e2e/test_live.py.
"""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.adjust import (
    AddForward,
    Adjust,
    DropNetdev,
    DropNode,
    LimitDisk,
    MoveVnc,
    NoteVnc,
    PlugCpus,
    PlugDisk,
    PlugNic,
    RemoveForward,
    ResizeDisk,
    SetBootOrder,
    SetLink,
    SetMemory,
    SetReboot,
    SetWatchdog,
    Unplug,
    UseCpus,
)
from reconciler.model.observed import DiskView, Hardware, Identity
from reconciler.qemu.pluggable import disk_id, netdev_id, nic_id

GIB, MB = 1024**3, 10**6


def with_disk(hardware: Hardware, name: str, size_bytes: int) -> Hardware:
    """A data disk plugged in."""
    device = disk_id(name)
    disk = DiskView(device, f"/machine/peripheral/{device}/virtio-backend", device, size_bytes)
    nodes = hardware.nodes | {device, f"{device}_file"}
    return replace(hardware, disks=(*hardware.disks, disk), devices=hardware.devices | {device}, nodes=nodes)


def with_nic(hardware: Hardware, name: str) -> Hardware:
    """A network card plugged in."""
    return replace(
        hardware,
        devices=hardware.devices | {nic_id(name)},
        netdevs=hardware.netdevs | {netdev_id(name)},
    )


def with_port(identity: Identity, action: PlugDisk | PlugNic) -> Identity:
    """What is written down of a port: no two devices that are there may share one."""
    device = disk_id(action.disk.name) if isinstance(action, PlugDisk) else nic_id(action.nic.name)
    ports = {one: port for one, port in identity.ports.items() if port != action.port}
    return replace(identity, ports={**ports, device: action.port})


def adjusted(hardware: Hardware, action: Adjust, *, obeys: bool) -> Hardware:
    """What QEMU says after this action; a guest that does not obey keeps its devices and its memory."""
    match action:
        case PlugDisk(disk=disk):
            assert disk_id(disk.name) not in hardware.devices, "plugged in twice"
            return with_disk(hardware, disk.name, disk.size_gib * GIB)
        case PlugNic(nic=nic):
            assert nic_id(nic.name) not in hardware.devices, "plugged in twice"
            return with_nic(hardware, nic.name)
        case Unplug(device=device):
            return _without(hardware, device) if obeys else hardware
        case UseCpus(cores=cores):
            return replace(hardware, cpus_online=cores) if obeys else hardware
        case SetMemory():
            return _with_memory(hardware, action) if obeys else _asked_for_memory(hardware, action)
        case SetLink() | SetReboot() | NoteVnc() | SetWatchdog():
            return hardware
        case _:
            return _done_by_qemu_alone(hardware, action)


def _done_by_qemu_alone(hardware: Hardware, action: Adjust) -> Hardware:
    match action:
        case ResizeDisk(node_name=node, size_bytes=size):
            return _with_disks(hardware, node, size_bytes=size)
        case LimitDisk(device=device, throttle=throttle):
            return _with_disks(hardware, device, limits=(throttle.mbps * MB, 0, 0, throttle.iops, 0, 0))
        case DropNode(node_name=node):
            assert node not in hardware.devices, "closed in use"
            return replace(hardware, nodes=hardware.nodes - {node, f"{node}_file"})
        case DropNetdev(netdev=netdev):
            return replace(hardware, netdevs=hardware.netdevs - {netdev})
        case PlugCpus(cores=cores):
            assert hardware.cpus < cores <= hardware.cpus_max
            return replace(hardware, cpus=cores, cpus_online=cores)
        case AddForward(forward=forward):
            return replace(hardware, forwards=tuple(sorted({*hardware.forwards, forward})))
        case RemoveForward(forward=forward):
            return replace(hardware, forwards=tuple(f for f in hardware.forwards if f != forward))
        case MoveVnc(port=port):
            return replace(hardware, vnc_port=port)
        case SetBootOrder(order=order):
            return replace(hardware, boot_order=order)
    raise AssertionError(f"the model knows no {action!r}")


def _with_disks(hardware: Hardware, device: str, **changes: object) -> Hardware:
    disks = tuple(replace(d, **changes) if d.device == device else d for d in hardware.disks)  # type: ignore[arg-type]
    return replace(hardware, disks=disks)


def _without(hardware: Hardware, device: str) -> Hardware:
    disks = tuple(disk for disk in hardware.disks if disk.device != device)
    return replace(hardware, disks=disks, devices=hardware.devices - {device})


def _asked_for_memory(hardware: Hardware, action: SetMemory) -> Hardware:
    requested = action.requested_bytes or 0
    return replace(hardware, memory=replace(hardware.memory, requested_bytes=requested))


def _with_memory(hardware: Hardware, action: SetMemory) -> Hardware:
    requested = action.requested_bytes or 0
    assert requested <= hardware.memory.pluggable_bytes
    memory = replace(hardware.memory, requested_bytes=requested, plugged_bytes=requested)
    return replace(hardware, memory=replace(memory, balloon_bytes=action.balloon_bytes))
