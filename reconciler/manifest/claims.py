"""Who describes which VM: what each file holds, as far as is known, and the names that two of them claim.

Pure. A file that broke, or is being written, counts as holding what it held.
Next: `reconciler.manifest.departures`, then `reconciler.manifest.holdings`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from reconciler.manifest.decode import Decoded
from reconciler.manifest.seen import Deferred, FileView, Scan
from reconciler.model.vm import DesiredVM, ManifestRef, Problem


class ClaimKind(Enum):
    """How it is known that a file holds a name."""

    DESCRIBED = auto()
    """By a document that can be used."""
    NAMED = auto()
    """By a document that has the name and is broken otherwise."""
    HELD = auto()
    """By memory: the file held it before it broke."""
    AWAITED = auto()
    """By memory: the file held it before somebody began to write it."""


@dataclass(frozen=True)
class Claim:
    """One file's claim to a name; `vm` where the claim can be used."""

    kind: ClaimKind
    place: ManifestRef
    vm: DesiredVM | None = None


@dataclass(frozen=True)
class FileMemory:
    """What a file holds, to be remembered for the scans to come; whether it ever was without a problem."""

    names: tuple[str, ...] = ()
    was_sound: bool = False


@dataclass(frozen=True)
class Claims:
    """All claims of one scan. `files` is what each file holds, to be remembered for the next.

    `unknown` are the files of which it is not known what they hold: while there is one, no name is gone.
    """

    by_name: Mapping[str, tuple[Claim, ...]]
    files: Mapping[str, FileMemory]
    unknown: tuple[str, ...]


def claims_of(scan: Scan, remembered: Mapping[str, FileMemory]) -> Claims:
    """Who holds what, where `remembered` is `Claims.files` of the scan before."""
    by_name: defaultdict[str, list[Claim]] = defaultdict(list)
    files: dict[str, FileMemory] = {}
    unknown: list[str] = []
    for file, view in _with_lost_directories(scan.files, remembered):
        memory = remembered.get(file, FileMemory())
        claims = _claims_in(file, view, memory.names)
        for name, claim in claims:
            by_name[name].append(claim)
        names = tuple(sorted({name for name, _ in claims}))
        files[file] = FileMemory(names, memory.was_sound or _is_sound(view))
        if not _is_known(view, memory):
            unknown.append(file)
    return Claims({n: tuple(c) for n, c in sorted(by_name.items())}, files, tuple(unknown))


def contested(claims: Claims) -> tuple[Problem, ...]:
    """A problem at each place of a name that several files claim, naming the other place."""
    return tuple(
        _dispute(name, claim.place, other)
        for name, rivals in claims.by_name.items()
        for claim in rivals
        if claim.kind in (ClaimKind.DESCRIBED, ClaimKind.NAMED)
        for other in rivals
        if other is not claim and other.kind is not ClaimKind.AWAITED
    )


def _dispute(name: str, place: ManifestRef, other: Claim) -> Problem:
    if other.kind is ClaimKind.HELD:
        why = f"{name!r} was described in {other.place.file}, which is broken now: mend or remove that file"
    else:
        why = f"{name!r} is described in {other.place} too, so neither counts: remove one of the two"
    message = f"{why}. Until then the VM stays on its last good version"
    return Problem(place.file, place.line, place.column, "metadata.name", message)


def _with_lost_directories(
    files: Mapping[str, FileView], remembered: Mapping[str, FileMemory]
) -> list[tuple[str, FileView]]:
    """The files of the scan, and those that are remembered below a directory that cannot be read now."""
    found = list(files.items())
    for directory in (f for f in files if f.endswith("/")):
        below = (f for f in remembered if f.startswith(directory) and f not in files)
        found += [(file, files[directory]) for file in below]
    return found


def _claims_in(file: str, view: FileView, held: tuple[str, ...]) -> list[tuple[str, Claim]]:
    if not isinstance(view, Decoded):
        kind = ClaimKind.AWAITED if isinstance(view, Deferred) else ClaimKind.HELD
        return [(name, Claim(kind, ManifestRef(file))) for name in held]
    claims = [(vm.name, Claim(ClaimKind.DESCRIBED, vm.source, vm)) for vm in view.vms]
    described = {name for name, _ in claims}
    named = dict.fromkeys(name for name in view.names if name not in described)
    claims += [(name, Claim(ClaimKind.NAMED, ManifestRef(file))) for name in named]
    if view.problems:
        lost = [name for name in held if name not in described and name not in named]
        claims += [(name, Claim(ClaimKind.HELD, ManifestRef(file))) for name in lost]
    return claims


def _is_known(view: FileView, memory: FileMemory) -> bool:
    """Whether it can be said what the file holds: by its own words, or else by what it held when it was sound."""
    if isinstance(view, Decoded) and (view.names or not view.problems):
        return True
    return memory.was_sound and bool(memory.names)


def _is_sound(view: FileView) -> bool:
    return isinstance(view, Decoded) and not view.problems
