"""What a QEMU says of itself that nobody here started: as it is, in its own names.

Made by `reconciler.qemu.survey`, read by `reconciler.importing.qemu`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconciler.model.vm import PortForward


@dataclass(frozen=True)
class Medium:
    """What lies in a drive: its block node, the file by QEMU's own word, and its format."""

    node_name: str
    file: str
    format: str
    size_bytes: int
    limits: tuple[int, ...]
    read_only: bool = False


@dataclass(frozen=True)
class Drive:
    """A disk or a CD drive. `qdev` is what QMP's commands address it by, `path` its device's place in QOM."""

    qdev: str
    path: str
    driver: str
    medium: Medium | None
    boot_index: int = -1


@dataclass(frozen=True)
class Card:
    """A network card, and what is behind it."""

    path: str
    driver: str
    mac_address: str
    netdev: str
    boot_index: int = -1


@dataclass(frozen=True)
class Screen:
    """A VNC server: the port on IPv4, the address it listens on, and how it asks who comes."""

    port: int
    host: str
    auth: str


@dataclass(frozen=True)
class Survey:
    """All that is asked. `uuid` is zeros where it was given none; `user_networks` are netdevs and their forwards.

    `devices` are the drivers of all devices that it was given, by their place in QOM.
    """

    name: str | None
    uuid: str
    version: str
    run_state: str
    machine: str
    kvm: bool
    cpus: int
    cpus_max: int
    base_bytes: int
    plugged_bytes: int = 0
    balloon_bytes: int | None = None
    disks: tuple[Drive, ...] = ()
    cd_drives: tuple[Drive, ...] = ()
    cards: tuple[Card, ...] = ()
    user_networks: Mapping[str, tuple[PortForward, ...]] = field(default_factory=dict)
    screen: Screen | None = None
    devices: Mapping[str, str] = field(default_factory=dict)
