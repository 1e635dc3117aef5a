"""Every manifest that we show to people is valid, and an editor finds its schema."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reconciler.manifest.decode import decode
from reconciler.manifest.schema import schema

ROOT = Path(__file__).resolve().parents[3]
SHOWN = sorted([*ROOT.glob("docs/examples/*.yaml"), *ROOT.glob("manifests/*.yaml")])
MODELINE = re.compile(r"# yaml-language-server: \$schema=(\S+)\n")


def test_there_are_examples() -> None:
    assert len(SHOWN) >= 6


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: path.name)
def test_an_example_is_valid_and_named_like_its_file(path: Path) -> None:
    decoded = decode(path.read_bytes(), path.name)
    assert decoded.problems == ()
    assert len(decoded.vms) > 1 or decoded.vms[0].name == path.stem


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: path.name)
def test_an_example_leads_an_editor_to_the_schema(path: Path) -> None:
    found = MODELINE.match(path.read_text("utf-8"))
    assert found is not None
    assert (path.parent / found[1]).resolve() == ROOT / "schemas" / "virtualmachine.schema.json"


def test_the_examples_show_every_field_but_those_of_the_operator() -> None:
    shown = " ".join(path.read_text("utf-8") for path in SHOWN)
    fields = set(schema()["properties"]["spec"]["properties"])
    missing = {name for name in fields if f"{name}:" not in shown}
    assert missing <= {"networkType", "accel", "restartedAt", "suspend", "deletionPolicy"}


def test_names_of_examples_are_all_different() -> None:
    names = [name for path in SHOWN for name in decode(path.read_bytes(), path.name).names]
    assert len(names) == len(set(names))
