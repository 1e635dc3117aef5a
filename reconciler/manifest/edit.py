"""Changes fields of a manifest and nothing else of its file, and proves it by reading the outcome.

Pure: bytes in, bytes out. Next: `reconciler.manifest.store`, which does it to files.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping

from reconciler.manifest.decode import decode
from reconciler.manifest.nodes import Document, Reading, Value, node_at, place_of, value_of
from reconciler.manifest.scalars import render
from reconciler.manifest.splice import REMOVE, Change, Keys, NotASectionError, Remove, splice
from reconciler.manifest.yaml_reader import read
from reconciler.model.errors import ManifestError
from reconciler.model.vm import Problem

__all__ = ["REMOVE", "Change", "Changes", "Keys", "Remove", "edit", "render_new", "without"]

Changes = Mapping[Keys, Change]

_MODELINE = "# yaml-language-server: $schema=../schemas/virtualmachine.schema.json"


def edit(data: bytes, file: str, name: str, changes: Changes) -> bytes:
    """The file with fields of one VM set, or removed where the change is REMOVE.

    A path is ("spec", "memory"); sections that are missing are made. Lists and new sections go on one line.
    Raises ManifestError where the VM is not in the file, is broken there, or would be by the changes.
    """
    reading = read(data, file)
    index = _index(reading, file, name)
    text = reading.text
    wanted = [value_of(document.root) for document in reading.documents]
    for path, change in changes.items():
        for step, value in _steps(path, wanted[index], change):
            text = _spliced(text, file, index, step, value)
            wanted[index] = _changed(wanted[index], step, value)
    edited = _bom(data) + text.encode()
    _must_hold(edited, file, wanted)
    _must_be_a_vm(edited, file, index)
    return edited


def without(data: bytes, file: str, name: str) -> bytes | None:
    """The file without the document of one VM; None if nothing but comments would be left.

    Raises ManifestError where the VM is not in the file exactly once, or something there cannot be read.
    """
    reading = read(data, file)
    if reading.problems:
        raise ManifestError(reading.problems)
    index = _index(reading, file, name)
    documents = reading.documents
    if len(documents) == 1:
        return None
    first = index == 0
    start = 0 if first else documents[index - 1].end
    end = documents[1].start if first else documents[index].end
    edited = _bom(data) + (reading.text[:start] + reading.text[end:]).encode()
    _must_hold(edited, file, [value_of(one.root) for one in documents if one is not documents[index]])
    return edited


def render_new(name: str, spec: Mapping[str, Value], labels: Mapping[str, str] | None = None) -> str:
    """A fresh manifest, as a person would write it."""
    lines = [_MODELINE, "apiVersion: reconciler/v1", "kind: VirtualMachine", "metadata:"]
    lines.append(f"  name: {render(name, flow=False)}")
    if labels:
        lines.append("  labels:")
        lines += (
            f"    {render(key, flow=False)}: {render(text, flow=False)}" for key, text in labels.items()
        )
    if spec:
        lines.append("spec:")
        lines += (f"  {key}: {render(value, flow=False)}" for key, value in spec.items())
    return "\n".join(lines) + "\n"


def _index(reading: Reading, file: str, name: str) -> int:
    """Which document of the file is the VM's."""
    found = [index for index, document in enumerate(reading.documents) if _name(document) == name]
    if len(found) == 1 and reading.documents[found[0]].sound:
        return found[0]
    missing = f"found no VM {name} that can be edited, expected its document exactly once in this file"
    raise ManifestError(reading.problems or (Problem(file, 1, 1, "metadata.name", missing),))


def _name(document: Document) -> Value:
    node = node_at(document.root, ("metadata", "name"))
    return value_of(node) if node else None


def _steps(path: Keys, root: Value, change: Change) -> Iterator[tuple[Keys, Change]]:
    """The change as the fewest fields: a section is compared with the one that is there, field by field."""
    present = _at(root, path)
    if not isinstance(change, dict) or not isinstance(present, dict) or not change or not present:
        if isinstance(change, Remove) or not _same(present, change):
            yield path, change
        return
    # New fields first, so that no section is empty in between.
    for key, value in change.items():
        yield from _steps((*path, key), root, value)
    for key in present.keys() - change.keys():
        yield (*path, key), REMOVE


def _spliced(text: str, file: str, index: int, path: Keys, change: Change) -> str:
    reading = read(text.encode(), file)
    if index >= len(reading.documents):
        raise _unsafe(file)
    document = reading.documents[index]
    try:
        return splice(text, document.root, path, change)
    except NotASectionError as error:
        place = place_of(document.root, error.path)
        message = "found no section of fields, expected one"
        problem = Problem(file, place.line, place.column, ".".join(error.path), message)
        raise ManifestError((problem,)) from error


class _Absent:
    """What is at a path that leads nowhere; equal to no value."""


def _at(value: Value, path: Keys) -> Value | _Absent:
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return _Absent()
        value = value[key]
    return value


def _same(one: Value | _Absent, other: Value) -> bool:
    """Whether two values are written the same; Python's own equality takes True for 1."""
    if isinstance(one, _Absent):
        return False
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _changed(value: Value, path: Keys, change: Change) -> dict[str, Value]:
    """The value with one field set or removed."""
    fields = dict(value) if isinstance(value, dict) else {}
    key, *rest = path
    if rest and (key in fields or not isinstance(change, Remove)):
        inner = fields.get(key)
        if inner is not None or not isinstance(change, Remove):
            fields[key] = _changed(inner, tuple(rest), change)
    elif isinstance(change, Remove):
        fields.pop(key, None)
    else:
        fields[key] = change
    return fields


def _unsafe(file: str) -> ManifestError:
    message = "found a form of YAML that cannot be edited safely, expected plain fields: edit it by hand"
    return ManifestError((Problem(file, 1, 1, "", message),))


def _bom(data: bytes) -> bytes:
    return codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""


def _must_hold(edited: bytes, file: str, wanted: list[Value]) -> None:
    """Read the outcome as strictly as anything, and compare it with what was asked for."""
    values: list[Value] = [value_of(document.root) for document in read(edited, file).documents]
    if not _same(values, wanted):
        raise _unsafe(file)


def _must_be_a_vm(edited: bytes, file: str, index: int) -> None:
    name = _name(read(edited, file).documents[index])
    decoded = decode(edited, file)
    if name not in {vm.name for vm in decoded.vms}:
        raise ManifestError(decoded.problems)
