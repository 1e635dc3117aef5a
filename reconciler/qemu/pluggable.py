"""Disks and network cards that come and go while a guest runs, each in a hot-plug port of its own.

A port takes one device, and QEMU accepts a second that the guest never sees: so the identity of a VM says which device
has which port. The pieces are the same for a command line and for QMP. Next: `reconciler.qemu.live`.
"""

from __future__ import annotations

import json
from dataclasses import replace

from reconciler.model.errors import StateError
from reconciler.model.observed import Identity
from reconciler.model.vm import PLUGGABLE_MAX, Profile, VMSpec
from reconciler.qemu.devices import (
    EXTRA_MEMORY,
    PORTS,
    SLOTS,
    WATCHDOG,
    Argv,
    Properties,
    add_file,
    disk_node,
    option,
)
from reconciler.qemu.machine import FdSet, Machine

_NETWORK = "10.0.{}.0/24"
_FIRST_NETWORK = 3  # QEMU's own, of the first card, is 10.0.2.0/24
_CHASSIS = 16  # any numbers that no other port has


FIRST_PORT = "port0"
"""A board that has this one has them all."""


def disk_id(name: str) -> str:
    """The device and the block node of a data disk."""
    return f"disk-{name}"


def nic_id(name: str) -> str:
    """The device of a further network card."""
    return f"nic-{name}"


def netdev_id(name: str) -> str:
    """The network behind it."""
    return f"net-{name}"


def wanted_ids(spec: VMSpec) -> tuple[str, ...]:
    """The devices of a spec that need a port."""
    return (*(disk_id(d.name) for d in spec.disks), *(nic_id(n.name) for n in spec.nics))


def with_ports(identity: Identity, spec: VMSpec) -> Identity:
    """The identity with a slot and a port for all that a spec asks for; what it has stays where it is."""
    slots = dict(identity.slots)
    slots |= {device: slot for device, slot in SLOTS.items() if device in _asked_for(spec)}
    wanted = wanted_ids(spec)
    ports = {device: port for device, port in identity.ports.items() if device in wanted}
    for device in wanted:
        if device not in ports:
            ports[device] = free_port(frozenset(ports.values()))
    return replace(identity, slots=slots, ports=ports)


def free_port(taken: frozenset[int]) -> int:
    """The lowest port that is not taken. Raises StateError."""
    for port in range(PLUGGABLE_MAX):
        if port not in taken:
            return port
    raise StateError(f"all {PLUGGABLE_MAX} hot-plug ports are taken; take out a disk or a network card first")


def pieces(machine: Machine) -> Argv:
    """The ports, and what is plugged into them from the start."""
    if PORTS not in machine.identity.slots:
        return ()
    disks = [argument for disk in machine.spec.disks for argument in _disk(machine, disk.name)]
    nics = [argument for nic in machine.spec.nics for argument in _nic(machine, nic.name)]
    return (*_ports(machine), *disks, *nics)


def disk_device(profile: Profile, name: str, port: int) -> Properties:
    """The device of a data disk; also the arguments of `device_add`. A guest finds it by its serial number."""
    driver = "nvme" if profile is Profile.COMPATIBLE else "virtio-blk-pci"
    node = disk_id(name)
    return {"driver": driver, "id": node, "drive": node, "serial": name, "bus": _port(port)}


def nic_device(profile: Profile, name: str, port: int, mac_address: str) -> Properties:
    """The device of a further network card; also the arguments of `device_add`."""
    driver = "e1000e" if profile is Profile.COMPATIBLE else "virtio-net-pci"
    card = {"driver": driver, "id": nic_id(name), "netdev": netdev_id(name), "mac": mac_address}
    return {**card, "bus": _port(port), "romfile": ""}


def netdev(name: str, port: int) -> Properties:
    """Its network; also the arguments of `netdev_add`."""
    return {"type": "user", "id": netdev_id(name), "net": _NETWORK.format(_FIRST_NETWORK + port)}


def _asked_for(spec: VMSpec) -> frozenset[str]:
    """The devices with a fixed slot that a spec names; a VM may be older than they are."""
    asked = {
        EXTRA_MEMORY: spec.max_memory_mib is not None,
        WATCHDOG: spec.watchdog is not None,
        PORTS: bool(spec.disks or spec.nics),
    }
    return frozenset(device for device, needed in asked.items() if needed)


def _ports(machine: Machine) -> Argv:
    slot = machine.identity.slots[PORTS]
    return tuple(
        argument
        for port in range(PLUGGABLE_MAX)
        for argument in option(
            "-device",
            driver="pcie-root-port",
            id=_port(port),
            bus="pcie.0",
            addr=f"{slot:#x}.{port:d}",
            multifunction=True,
            chassis=_CHASSIS + port,
            slot=_CHASSIS + port,
            port=port,
        )
    )


def _disk(machine: Machine, name: str) -> Argv:
    port = machine.identity.ports[disk_id(name)]
    fdset = FdSet.FIRST_PORT + port
    return (
        *add_file(machine.data_disk_fds[name], fdset, disk_id(name)),
        *("-blockdev", json.dumps(disk_node(disk_id(name), fdset))),
        *("-device", json.dumps(disk_device(machine.spec.profile, name, port))),
    )


def _nic(machine: Machine, name: str) -> Argv:
    port, mac = machine.identity.ports[nic_id(name)], machine.identity.macs[nic_id(name)]
    return (
        *("-netdev", json.dumps(netdev(name, port))),
        *("-device", json.dumps(nic_device(machine.spec.profile, name, port, mac))),
    )


def _port(number: int) -> str:
    return f"port{number:d}"
