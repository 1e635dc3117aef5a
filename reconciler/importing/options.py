"""The command line of a QEMU that somebody started: what of it no question to QEMU answers.

Most options are seen in what QEMU has; those are known here by name. All others are listed, so that nothing is passed
over in silence. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reconciler.model.vm import BootDevice

LETTERS = {"c": BootDevice.HD, "d": BootDevice.CD, "n": BootDevice.NET}
ASKED_FOR = frozenset(
    {
        "m",
        "smp",
        "name",
        "uuid",
        "machine",
        "M",
        "accel",
        "enable-kvm",
        "drive",
        "blockdev",
        "hda",
        "hdb",
        "hdc",
    }
    | {"hdd", "cdrom", "device", "netdev", "nic", "net", "vnc", "boot"}
)
"""What QEMU has, it says when it is asked."""
OF_THE_BOOT = frozenset(
    {"kernel", "initrd", "append", "dtb", "bios", "pflash", "snapshot", "loadvm", "incoming"}
)
"""What this run was begun with, and without which the next one may come to nothing."""
OF_NO_MATTER = frozenset(
    {"S", "display", "nographic", "daemonize", "pidfile", "qmp", "qmp-pretty", "nodefaults", "no-user-config"}
    | {"msg", "sandbox", "no-fd-bootchk", "runas", "D"}
)
"""What says how that process runs, and nothing of the VM."""


def options(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each option without its dashes, and its value. A word that belongs to none is an image for the first disk."""
    words = list(argv[1:])
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            yield "hda", word
            continue
        takes = words and not words[0].startswith("-")
        yield word.lstrip("-"), words.pop(0) if takes else ""


def left_over(argv: Sequence[str]) -> Iterator[str]:
    """The options that count, and are in nothing that QEMU was asked for."""
    for name, value in options(argv):
        if name not in ASKED_FOR | OF_NO_MATTER and not _of_the_boot(name, value):
            yield f"-{name} {value}".rstrip()


def of_the_boot(argv: Sequence[str]) -> Iterator[str]:
    """The options that say what is booted, apart from disks, CDs and networks."""
    for name, value in options(argv):
        if _of_the_boot(name, value):
            yield f"-{name} {value}".rstrip()


def _of_the_boot(name: str, value: str) -> bool:
    return name in OF_THE_BOOT or (name == "drive" and "if=pflash" in value.split(","))


def boot_letters(argv: Sequence[str]) -> tuple[BootDevice, ...]:
    """What `-boot` names, first things first: `-boot d`, `-boot order=dc,menu=on`."""
    for name, value in options(argv):
        if name == "boot":
            parts = dict(
                (part if "=" in part else f"order={part}").split("=", 1) for part in value.split(",")
            )
            return tuple(LETTERS[letter] for letter in parts.get("order", "") if letter in LETTERS)
    return ()
