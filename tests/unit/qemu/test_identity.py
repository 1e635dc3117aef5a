"""What a new VM's guest may rely on."""

from __future__ import annotations

import pytest

from reconciler.model.errors import QemuError
from reconciler.qemu.devices import SLOTS
from reconciler.qemu.identity import new_identity, versioned_machine

HELP = """Supported machines are:
microvm              microvm (i386)
q35                  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-7.2)
pc-q35-7.2           Standard PC (Q35 + ICH9, 2009)
pc                   Standard PC (i440FX + PIIX, 1996) (alias of pc-i440fx-7.2)
"""


def test_an_identity_holds_qemus_mac_prefix_and_the_slots_of_today() -> None:
    identity = new_identity("ABCDEF00-0000-4000-8000-000000000000", b"\x00\xfe\x01", "pc-q35-7.2")
    assert identity.mac_address == "52:54:00:00:fe:01"
    assert identity.uuid == "abcdef00-0000-4000-8000-000000000000"
    assert identity.slots == SLOTS
    assert identity.slots is not SLOTS
    assert identity.vnc_port is None


def test_a_mac_address_takes_three_random_bytes() -> None:
    with pytest.raises(ValueError, match="3 random bytes, not 2"):
        new_identity("u", b"\x00\x00", "m")


@pytest.mark.parametrize(("alias", "machine"), [("q35", "pc-q35-7.2"), ("pc", "pc-i440fx-7.2")])
def test_the_versioned_machine_stands_behind_the_alias(alias: str, machine: str) -> None:
    assert versioned_machine(HELP, alias) == machine


def test_an_alias_that_this_qemu_lacks_is_an_error() -> None:
    with pytest.raises(QemuError, match="'virt'"):
        versioned_machine(HELP, "virt")
