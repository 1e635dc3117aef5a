"""Domains as `virsh dumpxml` prints them, and small ones made of pieces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from reconciler.importing.libvirt import convert, parse
from reconciler.importing.outcome import Imported, Kind

DOMAINS = Path(__file__).parent / "domains"
NAMES = ("linux", "windows", "minimal", "odd")


def data(name: str) -> bytes:
    """One of the files."""
    return (DOMAINS / f"{name}.xml").read_bytes()


def imported(xml: bytes | str, name: str | None = None, sizes: Mapping[str, int] | None = None) -> Imported:
    """What becomes of a domain."""
    given = xml if isinstance(xml, bytes) else xml.encode()
    return convert(parse(given, "x.xml"), "x.xml", name=name, sizes=sizes or {})


def domain(inner: str = "", devices: str = "", system: str = "<type machine='q35'>hvm</type>") -> str:
    """A small domain with these pieces; nothing of what it has besides is noted."""
    memory = "" if "<memory" in inner else "<memory>131072</memory>"
    return (
        f"<domain type='kvm'><name>web</name>{memory}<os>{system}</os>{inner}"
        f"<devices>{devices}</devices></domain>"
    )


def noted(found: Imported, place: str) -> str:
    """All that is said of one place, on a line each."""
    return "\n".join(note.message for note in found.notes if note.place == place)


def places(found: Imported, kind: Kind) -> list[str]:
    """The places of one kind of note, in the order of the source."""
    return [note.place for note in found.noted(kind)]
