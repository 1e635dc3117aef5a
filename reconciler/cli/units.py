"""The units for systemd, from the templates in `systemd/`. Pure: the same place gives the same text.

A template holds `@NAME@` for what depends on the host, and begins lines with `[root]` or `[user]` that are for an
agent of root's or of another user's alone. A line whose value comes out empty is left out, and so is a comment that
stood above it. Next: `reconciler.cli.systemd`, which prints and installs them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import reconciler
from reconciler.model.errors import SettingsError

AGENT, GUESTS = "reconciler.service", "reconciler-guests.service"
VMS_TIMEOUT_S = 120  # for all VMs together, within the TimeoutStopSec of the template

_PLACEHOLDER = re.compile(r"@([A-Z_]+)@")
_VARIANT = re.compile(r"\[(root|user)\] ")
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
_TMPS = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 -- asked about, not used


@dataclass(frozen=True)
class Place:
    """Where an agent lives. `user` is None for root; `flags` go behind the command as they stand.

    `uses` is all that the agent reads or runs besides its own directories.
    """

    program: Sequence[str]
    manifests: Path
    state_dir: Path
    run_dir: Path
    flags: Sequence[str]
    uses: Sequence[Path]
    user: str | None = None
    groups: Sequence[str] = ()


def units(place: Place) -> dict[str, str]:
    """The text of each unit, by its name. Raises SettingsError for a path that no unit can hold."""
    values = _values(place)
    values["SANDBOX"] = _filled("sandbox.in", place, values)
    return {name: _filled(f"{name}.in", place, values) + "\n" for name in (AGENT, GUESTS)}


def _values(place: Place) -> dict[str, str]:
    own = (place.manifests, place.state_dir, place.run_dir)
    everything = (*own, *place.uses)
    directories = ("--manifests", own[0], "--state-dir", own[1], "--run-dir", own[2])
    tail = [*map(str, directories), *place.flags]
    shutdown = [*place.program, "host-shutdown", "--timeout", str(VMS_TIMEOUT_S), *tail]
    return {
        "RUN": _command([*place.program, "run", *tail]),
        "HOST_SHUTDOWN": _command(shutdown),
        "TRUE": "/bin/true",
        "MOUNTS": _paths(own[:2]),
        "WRITABLE": _paths(own),
        "STATE_DIRECTORY": _below(place.state_dir, Path("/var/lib")),
        "RUNTIME_DIRECTORY": _below(place.run_dir, Path("/run")),
        "PROTECT_HOME": "read-only" if _any_in(everything, _HOMES) else "yes",
        "PRIVATE_TMP": "no" if _any_in(everything, _TMPS) else "yes",
        "USER": place.user or "",
        "GROUPS": " ".join(place.groups),
    }


def _filled(file: str, place: Place, values: Mapping[str, str]) -> str:
    variant = "user" if place.user else "root"
    return "\n".join(_lines(_template(file).splitlines(), variant, values))


def _lines(template: Sequence[str], variant: str, values: Mapping[str, str]) -> Iterator[str]:
    comment: list[str] = []
    for line in template:
        if line.startswith("#"):
            comment.append(line)
            continue
        text = _line(line, variant, values)
        if text is not None:
            yield from comment
            yield text
        comment = []


def _line(line: str, variant: str, values: Mapping[str, str]) -> str | None:
    """One line filled in, or None where it is for the other variant, or has nothing to say."""
    marked = _VARIANT.match(line)
    if marked and marked[1] != variant:
        return None
    bare = line[marked.end() :] if marked else line
    text = _PLACEHOLDER.sub(lambda found: values[found[1]], bare)
    return None if text != bare and text.endswith("=") else text


def _template(file: str) -> str:
    """From the installed package, else from the checkout's `systemd/`."""
    package = Path(reconciler.__file__).parent
    inside, beside = (root / "systemd" / file for root in (package, package.parent))
    return (inside if inside.is_file() else beside).read_text("utf-8")


def _command(words: Sequence[str]) -> str:
    return " ".join(_quoted(word).replace("$", "$$") for word in words)


def _paths(paths: Sequence[Path]) -> str:
    return " ".join(_quoted(str(path)) for path in paths)


def _quoted(word: str) -> str:
    """A word as systemd.syntax(7) reads it back."""
    if not word.isprintable():
        raise SettingsError(f"{word!r} cannot stand in a unit: it holds a character that cannot be printed")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return escaped if re.fullmatch(r"[\w@%+=:,./-]+", escaped) else f'"{escaped}"'


def _below(path: Path, base: Path) -> str:
    """What systemd is to make below its own directory of this kind; nothing where the path lies elsewhere."""
    inside = path.is_relative_to(base) and path != base and not _any_in((path,), _HOMES)
    return _quoted(str(path.relative_to(base))) if inside else ""


def _any_in(paths: Sequence[Path], directories: Sequence[Path]) -> bool:
    return any(path.is_relative_to(directory) for path in paths for directory in directories)
