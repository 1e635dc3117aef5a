"""libvirt's sizes in our units, rounded where they must be, and never in silence.

The limits are those of the JSON Schema; a test holds them together.
"""

from __future__ import annotations

from reconciler.importing.ledger import Node
from reconciler.importing.outcome import Kind
from reconciler.model.vm import GIB

MIB = 1024**2
MEGABYTE = 10**6
MEMORY_MIN_MIB, MEMORY_MAX_MIB = 16, 16_777_216
DISK_MAX_GIB = 65_536
IOPS_MAX, MBPS_MAX = 10_000_000, 1_000_000
_POWERS = "kmgtpe"


def unit_bytes(unit: str) -> int | None:
    """What a unit of libvirt's is worth: `KB` is 1000 bytes, `K` and `KiB` are 1024. None: there is no such unit."""
    word = unit.lower()
    if word in {"b", "byte", "bytes"}:
        return 1
    power = _POWERS.find(word[:1]) + 1 if word else 0
    if power and word[1:] in {"", "ib"}:
        return int(1024**power)
    if power and word[1:] == "b":
        return int(1000**power)
    return None


def memory_mib(node: Node) -> int:
    """A memory size as whole MiB, within what a manifest may say. Raises ImportRefusedError for what is none."""
    unit = node.enter().get("unit") or "KiB"
    worth = unit_bytes(unit)
    if worth is None:
        node.refuse(f'found unit="{unit[:64]}", expected one of libvirt\'s, such as KiB, MiB or GiB')
    size_bytes = node.text_number * worth
    mib = min(max(-(-size_bytes // MIB), MEMORY_MIN_MIB), MEMORY_MAX_MIB)
    if mib * MIB != size_bytes:
        node.note(Kind.CHANGED, f"{node.text} {unit} becomes {mib} MiB: memory is given in whole MiB here")
    return mib


def disk_gib(size_bytes: int) -> int:
    """A disk of at least that size, within what a manifest may say."""
    return min(max(-(-size_bytes // GIB), 1), DISK_MAX_GIB)


def megabytes(node: Node) -> int:
    """The text of a node, bytes in a second, as whole megabytes; 0 stays 0, which is no limit."""
    size_bytes = node.text_number
    most = min(-(-size_bytes // MEGABYTE), MBPS_MAX)
    if most * MEGABYTE != size_bytes:
        node.note(Kind.CHANGED, f"{size_bytes} bytes a second become mbps: {most}")
    return most
