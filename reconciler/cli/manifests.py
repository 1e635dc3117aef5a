"""`validate` and `schema`: manifests without an agent, for editors, hooks and pipelines."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from reconciler.cli.config import Host, load
from reconciler.cli.options import settings_options
from reconciler.cli.output import counted, put, put_json, say
from reconciler.model.vm import DesiredVM, Problem

STDIN = "-"


@dataclass(frozen=True)
class Verdict:
    """What was found in all files together."""

    files: int
    vms: tuple[DesiredVM, ...]
    problems: tuple[Problem, ...]


@click.command(short_help="Check manifests, without an agent.")
@click.argument("paths", nargs=-1)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    show_default=True,
    help="`github` makes annotations of a workflow.",
)
@settings_options(("manifests",))
def validate(paths: tuple[str, ...], form: str, **flags: str | None) -> int:
    """Check manifests: files, whole directories, or - for standard input. Needs no agent.

    Without PATHS, the directory of manifests. Exits with 1 if anything is wrong.
    """
    chosen = paths or (str(load(flags, Host.current()).manifests),)
    verdict = check(tuple(_files(chosen)))
    match form:
        case "json":
            problems = [vars(problem) for problem in verdict.problems]
            put_json({"files": verdict.files, "vms": [vm.name for vm in verdict.vms], "problems": problems})
        case "github":
            for problem in verdict.problems:
                put(annotation(problem))
        case _:
            for problem in verdict.problems:
                put(str(problem))
    counts = (verdict.files, "file"), (len(verdict.vms), "VM"), (len(verdict.problems), "problem")
    say(", ".join(counted(number, what) for number, what in counts))
    return 1 if verdict.problems else 0


@click.command()
def schema() -> None:
    """Print the JSON Schema of manifests, for editors and tools."""
    from reconciler.manifest.schema import schema as manifest_schema

    put_json(manifest_schema())


def check(files: tuple[tuple[str, Path | None], ...]) -> Verdict:
    """Check these files: the name that messages use, and the path; None for standard input."""
    from reconciler.manifest.decode import decode
    from reconciler.manifest.dependencies import settled

    vms: list[DesiredVM] = []
    problems: list[Problem] = []
    for shown, path in files:
        try:
            data = path.read_bytes() if path else sys.stdin.buffer.read()
        except OSError as error:
            problems.append(Problem(shown, 1, 1, "", f"cannot be read: {error.strerror}"))
            continue
        decoded = decode(data, shown)
        vms += decoded.vms
        problems += decoded.problems
    in_order = settled({vm.name: vm for vm in vms}, {})
    return Verdict(len(files), tuple(vms), (*problems, *doubles(vms), *in_order.problems))


def doubles(vms: list[DesiredVM]) -> Iterator[Problem]:
    """A problem for each VM whose name another file gives as well: of two, neither would count."""
    places = defaultdict(list)
    for vm in vms:
        places[vm.name].append(vm.source)
    for vm in vms:
        others = [str(place) for place in places[vm.name] if place != vm.source]
        if others:
            found = f"{vm.name}, which {', '.join(others)} describes as well"
            message = f"found {found}, expected one place for each VM"
            yield Problem(vm.source.file, vm.source.line, vm.source.column, "metadata.name", message)


def annotation(problem: Problem) -> str:
    """The problem as a GitHub workflow command."""
    text = f"{problem.field}: {problem.message}" if problem.field else problem.message
    where = f"file={_escaped(problem.file, ',:')},line={problem.line},col={problem.column}"
    return f"::error {where}::{_escaped(text, '')}"


def _escaped(text: str, more: str) -> str:
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def _files(paths: tuple[str, ...]) -> Iterator[tuple[str, Path | None]]:
    from reconciler.manifest.walk import walk

    for text in paths:
        path = Path(text)
        if text == STDIN:
            yield "<stdin>", None
        elif path.is_dir():
            for candidate in walk(path).candidates:
                yield str(path / candidate.shown), Path(candidate.path)
        elif path.exists():
            yield text, path
        else:
            raise click.UsageError(f"{text}: there is no such file or directory; name the manifests' place")
