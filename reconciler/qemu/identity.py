"""A new VM's identity: what its guest may rely on for ever. Pure; UUID and random bytes are handed in.

The machine type is written down with its version, because the bare name means another machine after each
upgrade of QEMU. Read `reconciler.model.observed.Identity` for what is kept.
"""

from __future__ import annotations

import re

from reconciler.model.errors import QemuError
from reconciler.model.observed import Identity
from reconciler.qemu.devices import SLOTS

MAC_PREFIX = b"\x52\x54\x00"  # locally administered, and QEMU's by custom
MAC_RANDOM_BYTES = 3


def new_identity(uuid: str, mac_bytes: bytes, machine: str) -> Identity:
    """The identity of a VM that never was. `mac_bytes` are three random bytes, `machine` a versioned type."""
    return Identity(uuid.lower(), mac_address(mac_bytes), machine, dict(SLOTS))


def mac_address(mac_bytes: bytes) -> str:
    """A MAC address from three random bytes."""
    if len(mac_bytes) != MAC_RANDOM_BYTES:
        raise ValueError(f"a MAC address takes {MAC_RANDOM_BYTES} random bytes, not {len(mac_bytes)}")
    return (MAC_PREFIX + mac_bytes).hex(":")


def versioned_machine(machine_help: str, alias: str = "q35") -> str:
    """The versioned name behind an alias, read from the output of `-machine help`. Raises QemuError."""
    line = re.search(rf"^{re.escape(alias)}\s.*\(alias of (\S+)\)", machine_help, re.MULTILINE)
    if line is None:
        raise QemuError(f"this QEMU knows no machine {alias!r} (`-machine help`)")
    return line[1]
