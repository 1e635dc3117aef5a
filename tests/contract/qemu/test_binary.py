"""What the installed QEMU says of itself, and programs that are none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reconciler.model.errors import QemuError, SpawnError
from reconciler.qemu import binary
from tests.contract.qemu.live import QEMU


def test_the_version_is_qemus_with_the_distributions() -> None:
    assert re.match(r"\d+\.\d+\.\d+", binary.version(QEMU))


def test_the_machine_is_a_versioned_q35() -> None:
    assert re.fullmatch(r"pc-q35-\d+\.\d+", binary.machine_type(QEMU))


def test_a_machine_that_it_lacks_is_an_error() -> None:
    with pytest.raises(QemuError, match="knows no machine 'vax'"):
        binary.machine_type(QEMU, "vax")


def test_a_program_that_is_not_there_says_how_to_get_it() -> None:
    with pytest.raises(SpawnError, match="make setup"):
        binary.version("no-such-qemu")


@pytest.mark.parametrize(("text", "words"), [("echo hello", "is no QEMU"), ("exit 1", "failed")])
def test_a_program_that_is_no_qemu_is_told_apart(tmp_path: Path, text: str, words: str) -> None:
    program = tmp_path / "qemu"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    with pytest.raises(SpawnError, match=words):
        binary.version(str(program))
