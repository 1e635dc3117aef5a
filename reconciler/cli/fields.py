"""`fields`: how a change of each field of a manifest reaches a VM that runs. docs/fields.md is its output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from reconciler.cli.output import put, put_json, put_table
from reconciler.converge.fields import FIELDS, Field, Reach
from reconciler.manifest.schema import schema

HEAD = """# Fields, and how a change of each reaches a VM that runs

Made by `make docs` from the one table that the agent itself plans by (`reconciler/converge/fields.py`) and from the
JSON Schema of manifests. `reconciler explain NAME` shows the same fields of one VM: what its manifest says, what its
QEMU was launched with, what QEMU says now.

- **live**: at once. What the guest has to agree to (giving back memory, letting go of a disk) is asked for, and said
  when it takes longer than 30 seconds.
- **guest-reboot**: QEMU is told at once; the guest finds it when it boots next.
- **restart**: with the VM's next QEMU. Until then `requiresRestart` is true and names the field; `updatePolicy` says
  when that restart comes.
- **none**: it is the agent's own policy, in force from its next look.

Only `metadata.name` is fixed for ever: another name is another VM (`reconciler rename` renames one).
"""


@click.command(short_help="Say how a change of each field reaches a VM that runs.")
@click.option(
    "-o", "--output", type=click.Choice(["table", "markdown", "json"]), default="table", show_default=True
)
def fields(output: str) -> None:
    """Say how a change of each field of a manifest reaches a VM that runs."""
    rows = [_row(field) for field in FIELDS]
    match output:
        case "json":
            put_json([dict(zip(("field", "reach", "by", "default"), row, strict=True)) for row in rows])
        case "markdown":
            put("\n".join((HEAD, *_markdown(rows))))
        case _:
            put_table(["FIELD", "REACH", "BY", "DEFAULT"], rows)


def _row(field: Field) -> list[str]:
    return [field.name, field.reach.value, field.how, _default(field)]


def _default(field: Field) -> str:
    # Any: the JSON Schema, as it was read.
    described: dict[str, Any] = schema()["properties"]["spec"]["properties"][field.name]
    default = described.get("default", "")
    match default:
        case bool():
            return "true" if default else "false"
        case []:
            return "none"
    return str(default)


def _markdown(rows: list[list[str]]) -> Iterator[str]:
    for reach in Reach:
        found = [row for row in rows if row[1] == reach.value]
        yield f"## {reach.value}\n"
        yield "| field | default | a change of it | what it is |"
        yield "|---|---|---|---|"
        for name, _, how, default in found:
            yield f"| `{name}` | {default or '–'} | {how} | {_described(name)} |"
        yield ""


def _described(name: str) -> str:
    described: dict[str, Any] = schema()["properties"]["spec"]["properties"][name]
    return f"{described['title']}. {described['description']}".replace("|", "\\|")
