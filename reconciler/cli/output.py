"""How commands print: data to stdout, words for people to stderr; tables that are never cut when piped.

Colour and rich tables are for terminals, without NO_COLOR; rich is loaded there only.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import click

STATE_STYLES = {
    "running": "green",
    "stopped": "dim",
    "starting": "cyan",
    "stopping": "cyan",
    "paused": "yellow",
    "failed": "bold red",
    "unknown": "magenta",
}


def say(message: str) -> None:
    """Words for people."""
    click.echo(message, err=True)


def counted(number: int, what: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def put(text: str) -> None:
    """Data."""
    click.echo(text)


def put_json(value: object) -> None:
    """Data as JSON, for programs."""
    put(json.dumps(value, ensure_ascii=False, indent=2))


def put_yaml(value: object) -> None:
    """Data as YAML."""
    import yaml

    put(yaml.safe_dump(value, sort_keys=False, allow_unicode=True).rstrip("\n"))


def put_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns: on a terminal as rich draws them, else plain and whole."""
    if sys.stdout.isatty():
        _put_rich(header, rows)
    else:
        put("\n".join(plain_table(header, rows)))


def plain_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table, each cell as wide as the widest of its column."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return [
        "   ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines
    ]


def _put_rich(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in header:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=STATE_STYLES.get(cell, "")) for cell in row))
    Console().print(table)
