"""The smallest guest: a bootable CD of a few instructions, up in a moment, for tests that need a guest's will only.

It says `U` on its serial port when it is up, and then what is typed on its keyboard. It powers itself off when a byte
comes in on that port, or when the power button is pressed, and sleeps else. Ctrl-Alt-Del is the firmware's: a reset.
"""

from __future__ import annotations

import socket
from pathlib import Path

from tests.e2e.site import Site

SECTOR = 2048
CATALOG, CODE = 18, 19  # sectors; 16 and 17 are those of the two descriptors

# Real mode, at 0x7c00. 0x602 and 0x600: enable and status of ACPI events on q35, bit 8 is the power button;
# 0x604: its sleep control, where 0x2000 is soft off; 0x3fd: whether the serial port has a byte; 0x3f8: the port.
PROGRAM = bytes.fromhex(
    "ba0206 b80001 ef"  # enable the power button
    "baf803 b055 ee"  # write 'U': up
    "fb f4"  # next: sleep until the next interrupt, the clock's at the latest
    "b401 cd16 740a"  # typed: the firmware has no key: look at the serial port
    "b400 cd16 baf803 ee ebf0"  # write the key: typed
    "bafd03 ec a801 7509"  # a byte on the serial port: off
    "ba0006 ed f6c401 74dd"  # the power button not pressed: next
    "ba0406 b80020 ef"  # off
    "ebfe"
)


def iso(site: Site, name: str = "tiny.iso") -> str:
    """Put the guest's ISO into the site; returns its name for `isoPath`."""
    (site.state / "iso" / name).write_bytes(image())
    return name


def wait_up(site: Site, name: str) -> None:
    """Wait until the guest has said that it is up."""
    site.wait_serial(name, "U")


def power_off(site: Site, name: str) -> None:
    """Have the guest power itself off."""
    with socket.socket(socket.AF_UNIX) as serial:
        serial.connect(str(site.run / "by-name" / name / "serial.sock"))
        serial.sendall(b"x")


def image() -> bytes:
    """The CD: ISO 9660 as far as a BIOS looks at it, El Torito without emulation."""
    primary = b"\x01CD001\x01\0" + b"TINY".ljust(32) + b"TINY".ljust(32)
    record = b"\x00CD001\x01" + b"EL TORITO SPECIFICATION".ljust(64, b"\0") + CATALOG.to_bytes(4, "little")
    validation = bytearray(b"\x01".ljust(30, b"\0") + b"\x55\xaa")
    total = sum(int.from_bytes(validation[at : at + 2], "little") for at in range(0, 32, 2))
    validation[28:30] = (-total & 0xFFFF).to_bytes(2, "little")
    entry = bytes([0x88, 0, 0, 0, 0, 0]) + (4).to_bytes(2, "little") + CODE.to_bytes(4, "little")
    sectors = {16: primary, 17: record, CATALOG: bytes(validation) + entry, CODE: PROGRAM}
    disc = bytearray(SECTOR * 32)
    for number, data in sectors.items():
        disc[number * SECTOR : number * SECTOR + len(data)] = data
    return bytes(disc)


def path(site: Site, name: str = "tiny.iso") -> Path:
    """Where the guest's ISO lies, for who must name it in full."""
    return site.state / "iso" / iso(site, name)
