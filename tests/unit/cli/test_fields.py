"""`fields`, and the page of the documentation that is made from it."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from reconciler.cli.fields import fields
from reconciler.converge.fields import FIELDS

PAGE = Path(__file__).resolve().parents[3] / "docs" / "fields.md"


def shown(output: str) -> str:
    done = CliRunner().invoke(fields, ["-o", output])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_page_is_what_the_command_prints() -> None:
    assert PAGE.read_text("utf-8") == shown("markdown"), "run `make docs`"


def test_every_field_is_there_in_every_form() -> None:
    names = [field.name for field in FIELDS]
    assert [row["field"] for row in json.loads(shown("json"))] == names
    assert [line.split()[0] for line in shown("table").splitlines()[1:]] == names
    assert all(f"| `{name}` |" in shown("markdown") for name in names)
