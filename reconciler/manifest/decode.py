"""From the bytes of a manifest to desired VMs: read, check, fill in the defaults, or say what is wrong.

Decoding never raises for what a file holds, and one broken document of a file spoils no other.
Next: `reconciler.manifest.scan`, which decodes a directory, and `reconciler.manifest.edit`, the way back.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from reconciler.manifest.cross_check import cross_check
from reconciler.manifest.fields import spec_of
from reconciler.manifest.nodes import (
    Document,
    Mapping,
    Reading,
    Scalar,
    Value,
    first_place,
    value_of,
)
from reconciler.manifest.schema import Complaint, complaints, problems
from reconciler.manifest.yaml_reader import MAX_PROBLEMS, read
from reconciler.model.vm import DesiredVM, ManifestRef, Problem, is_vm_name

_GENERATION_DIGITS = 12


@dataclass(frozen=True)
class Decoded:
    """What a file holds.

    `vms` are the good ones, `problems` everything wrong, both in the order of the file. `names` are all the
    VM names that can be read from it, those of broken documents included.
    """

    vms: tuple[DesiredVM, ...] = ()
    problems: tuple[Problem, ...] = ()
    names: tuple[str, ...] = ()


def decode(data: bytes, file: str) -> Decoded:
    """The VMs and the problems of a manifest. `file` is the path that messages name."""
    reading = read(data, file)
    named = [(document, _names(document)) for document in reading.documents]
    count = Counter(name for _, names in named for name in names)
    vms: list[DesiredVM] = []
    wrong = list(reading.problems)
    for document, names in named:
        value = value_of(document.root)
        found = (*_judged(document, value), *_doubles(names, count))
        wrong += problems(found, document, file)
        if document.sound and not found and isinstance(value, dict):
            vms.append(_vm(value, document, reading, file))
    return Decoded(tuple(vms), _first(wrong, file), tuple(count))


def _names(document: Document) -> tuple[str, ...]:
    """The VM names in a document: one, or none, or more where a broken document says it twice."""
    values = (node.value for node in _fields(document.root, "metadata", "name") if isinstance(node, Scalar))
    return tuple({value: None for value in values if isinstance(value, str) and is_vm_name(value)})


def _fields(root: object, section: str, name: str) -> Iterator[object]:
    """Every node at section.name; in a sound document there is at most one."""
    sections = (
        (entry.node for entry in root.entries if entry.key == section) if isinstance(root, Mapping) else ()
    )
    for node in sections:
        if isinstance(node, Mapping):
            yield from (entry.node for entry in node.entries if entry.key == name)


def _judged(document: Document, value: Value) -> tuple[Complaint, ...]:
    """What the schema and the checks between fields have against a document that is sound YAML."""
    if not document.sound:
        return ()
    spec = value.get("spec") if isinstance(value, dict) else None
    return (*complaints(value), *(cross_check(spec) if isinstance(spec, dict) else ()))


def _doubles(names: tuple[str, ...], count: Counter[str]) -> Iterator[Complaint]:
    for name in names:
        if count[name] > 1:
            found = f"{name} in {count[name]} documents of this file"
            yield Complaint(("metadata", "name"), found, "a name of its own for each VM")


def _first(wrong: list[Problem], file: str) -> tuple[Problem, ...]:
    """The problems in the order of the file; beyond what anyone reads, how many more there are."""
    ordered = sorted(wrong, key=lambda problem: (problem.line, problem.column))
    shown, more = ordered[:MAX_PROBLEMS], ordered[MAX_PROBLEMS:]
    if more:
        message = f"and {len(more)} more problems from here on"
        shown.append(Problem(file, more[0].line, more[0].column, "", message))
    return tuple(shown)


def _vm(value: dict[str, Any], document: Document, reading: Reading, file: str) -> DesiredVM:
    # Any: the schema has accepted it.
    spec, labels = value.get("spec") or {}, value["metadata"].get("labels") or {}
    place = first_place(document.root)
    return DesiredVM(
        name=value["metadata"]["name"],
        spec=spec_of(spec),
        generation=_generation(spec, labels),
        source=ManifestRef(file, place.line, place.column),
        labels=labels,
        text=reading.text[document.start : document.end],
    )


def _generation(spec: Value, labels: Value) -> str:
    written = json.dumps({"spec": spec, "labels": labels}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(written.encode()).hexdigest()[:_GENERATION_DIGITS]
