"""Reads settings from flags, environment and config file, checks their form, remembers their origin.

Next: `reconciler.cli.config`, which says what is in force.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from reconciler.cli.options import SETTINGS, Kind, Setting
from reconciler.model.errors import ManifestError, SettingsError

Found = str | float | Path | tuple[str, ...] | tuple[Path, ...]

EXPECTED = {
    Kind.TEXT: "text",
    Kind.PATH: "a path",
    Kind.TEXTS: "a list of texts",
    Kind.PATHS: "a list of paths",
    Kind.SECONDS: "a number of seconds above 0",
    Kind.COUNT: "a whole number above 0",
}


@dataclass(frozen=True)
class Given:
    """A setting that was given, and where: a flag, a variable, a line of the file."""

    value: Found
    origin: str


def from_text(setting: Setting, text: str, origin: str, base: Path) -> Given:
    """A setting from a flag or a variable. `base` is where relative paths start. Raises SettingsError."""
    value: object = text
    if setting.kind in {Kind.TEXTS, Kind.PATHS}:
        value = [part.strip() for part in text.split(",") if part.strip()]
    elif setting.kind in {Kind.SECONDS, Kind.COUNT}:
        value = _number(text)
    return _given(setting, value, text, origin, base)


def from_file(path: Path) -> Iterator[tuple[str, Given]]:
    """The settings in a config file. Raises SettingsError that names file, line and key."""
    from reconciler.manifest.nodes import Mapping as Fields
    from reconciler.manifest.nodes import value_of
    from reconciler.manifest.yaml_reader import read_documents

    try:
        documents = read_documents(path.read_bytes(), str(path))
    except OSError as error:
        raise SettingsError(f"{path}: the config file cannot be read: {error.strerror}") from error
    except ManifestError as error:
        raise SettingsError(str(error)) from error
    if not documents:
        return
    root = documents[0].root
    if len(documents) > 1 or not isinstance(root, Fields):
        raise SettingsError(f"{path}: expected one document of `key: value` lines")
    for entry in root.entries:
        origin = f"{path}:{entry.key_place.line}: {entry.key}"
        if entry.key not in SETTINGS:
            raise SettingsError(f"{origin}: there is no such setting; there are {', '.join(SETTINGS)}")
        value = value_of(entry.node)
        yield entry.key, _given(SETTINGS[entry.key], value, value, origin, path.parent)


def given_by(
    flags: Mapping[str, str | None], environ: Mapping[str, str], base: Path
) -> Iterator[tuple[str, Given]]:
    """The settings in environment and flags; a later one of the same key wins. Empty ones are not given."""
    for key, setting in SETTINGS.items():
        if text := environ.get(setting.variable):
            yield key, from_text(setting, text, setting.variable, base)
        if text := flags.get(key):
            yield key, from_text(setting, text, setting.flag, base)


def _number(text: str) -> object:
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() else number


def _given(setting: Setting, value: object, shown: object, origin: str, base: Path) -> Given:
    converted = _converted(setting.kind, value, base)
    if converted is None:
        raise SettingsError(f"{origin}: found {shown!r}, expected {EXPECTED[setting.kind]}")
    return Given(converted, origin)


def _converted(kind: Kind, value: object, base: Path) -> Found | None:
    """The value in its form, or None where it has another."""
    match kind, value:
        case Kind.TEXT, str() if value:
            return value
        case Kind.PATH, str() if value:
            return base / Path(value).expanduser()
        case Kind.TEXTS, list() if all(isinstance(v, str) and v for v in value):
            return tuple(value)
        case Kind.PATHS, list() if all(isinstance(v, str) and v for v in value):
            return tuple(base / Path(v).expanduser() for v in value)
        case Kind.SECONDS, (int() | float()) if not isinstance(value, bool) and 0 < value < float("inf"):
            return float(value)
        case Kind.COUNT, int() if not isinstance(value, bool) and value > 0:
            return value
    return None
