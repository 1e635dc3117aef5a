"""Nothing of a domain is passed over in silence: whatever is changed or added shows in what comes out of it.

One thing may not show, and is named in one place for it: what `HARMLESS` lists.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from reconciler.importing.leftovers import HARMLESS, harmless
from reconciler.importing.libvirt import convert, parse
from reconciler.importing.outcome import Imported
from reconciler.importing.tree import Element
from reconciler.model.errors import ImportRefusedError
from tests.unit.importing.samples import NAMES, data

HARMLESS_TWICE = {"clock", "features", "metadata", "pm", "resource"}  # one adds nothing to the other
SECRET_PLACES = {("devices", "graphics", "@passwd")}  # that there is one shows; what it is must not


@dataclass(frozen=True)
class Spot:
    """An attribute or the text of the n-th element, in the order of the source."""

    number: int
    path: tuple[str, ...]
    what: str


def spots(root: Element) -> Iterator[Spot]:
    for number, element in enumerate(root.walk()):
        if under_harmless(element.path):
            continue
        words = [f"@{name}" for name in element.attributes] + (["text()"] if element.text else [])
        for what in words:
            path = (*element.path, what)
            if (
                HARMLESS.get("/".join(path), "") is not None
                and path not in SECRET_PLACES
                and "xmlns" not in what
            ):
                yield Spot(number, element.path, what)


def under_harmless(path: tuple[str, ...]) -> bool:
    return any(harmless(path[:length], "") for length in range(1, len(path) + 1))


def outcome(root: ET.Element) -> Imported | str:
    """All that an import says, lines left out: those move with every change."""
    text = ET.tostring(root)
    try:
        found = convert(parse(text, "x.xml"), "x.xml", sizes={})
    except ImportRefusedError as error:
        return str(error)
    return found


def told(found: Imported | str) -> object:
    if isinstance(found, str):
        return found
    said = sorted((note.kind, note.place, note.message) for note in found.notes)
    return found.name, found.spec, sorted(found.labels.items()), found.images, said


def tree(name: str) -> ET.Element:
    """The file for the standard library, which would take a prefix apart: it is made a part of the name."""
    text = data(name).decode("iso-8859-1" if name == "odd" else "utf-8")
    text = text[text.index("<domain") :]
    for prefix in ("libosinfo", "backup", "qemu"):
        text = text.replace(f"<{prefix}:", f"<{prefix}-").replace(f"</{prefix}:", f"</{prefix}-")
        text = text.replace(f"xmlns:{prefix}", f"xmlns-{prefix}")
    return ET.fromstring(text)  # noqa: S314 -- our own file


def changed_value(element: ET.Element, what: str) -> str:
    """Another value; 0 for the place in an order, where a higher number may well be the same place."""
    if what == "@order":
        return "0"
    return f"{(element.text or '').strip() if what == 'text()' else element.get(what[1:], '')}7"


@pytest.mark.parametrize("name", NAMES)
def test_every_value_that_is_changed_changes_what_is_said(name: str) -> None:
    before = told(outcome(tree(name)))
    silent = []
    for spot in spots(parse(ET.tostring(tree(name)), "x.xml")):
        changed = tree(name)
        element = list(changed.iter())[spot.number]
        name_of, value = spot.what[1:], changed_value(element, spot.what)
        if harmless((*spot.path, spot.what), value):
            continue
        if spot.what == "text()":
            element.text = value
        else:
            element.set(name_of, value)
        if told(outcome(changed)) == before:
            silent.append(f"{'/'.join(spot.path)}/{spot.what}")
    assert not silent, "\n".join(silent)


@pytest.mark.parametrize("name", NAMES)
def test_every_element_that_is_added_is_noted_where_it_stands(name: str) -> None:
    root = parse(ET.tostring(tree(name)), "x.xml")
    silent = []
    for number, element in enumerate(root.walk()):
        if under_harmless(element.path):
            continue
        changed = tree(name)
        ET.SubElement(list(changed.iter())[number], "frob")
        found = outcome(changed)
        assert isinstance(found, Imported)
        if not any("frob" in note.place + note.message for note in found.notes):
            silent.append(element.place)
    assert not silent, "\n".join(silent)


@pytest.mark.parametrize("name", NAMES)
def test_every_attribute_that_is_added_is_noted_where_it_stands(name: str) -> None:
    root = parse(ET.tostring(tree(name)), "x.xml")
    silent = []
    for number, element in enumerate(root.walk()):
        if under_harmless(element.path):
            continue
        changed = tree(name)
        list(changed.iter())[number].set("frob", "1")
        found = outcome(changed)
        assert isinstance(found, Imported)
        if not any("frob=1" in note.message for note in found.notes):
            silent.append(element.place)
    assert not silent, "\n".join(silent)


@pytest.mark.parametrize("name", NAMES)
def test_an_element_twice_is_no_secret_either(name: str) -> None:
    """A second `<memory>` is no domain that libvirt would write, and is not taken for the first."""
    root = parse(ET.tostring(tree(name)), "x.xml")
    before = told(outcome(tree(name)))
    silent = []
    for number, element in enumerate(root.walk()):
        if len(element.path) != 1 or under_harmless(element.path) or element.tag in HARMLESS_TWICE:
            continue
        changed = tree(name)
        changed.append(list(tree(name).iter())[number])
        if told(outcome(changed)) == before:
            silent.append(element.place)
    assert not silent, "\n".join(silent)


def test_the_table_of_harmless_things_is_used_whole() -> None:
    """An entry that no fixture has is one that nobody has tried."""
    unused = set(HARMLESS)
    for name in NAMES:
        for element in parse(data(name), "x.xml").walk():
            for what in ("", *(f"@{key}" for key in element.attributes), "text()"):
                path = (*element.path, what) if what else element.path
                unused -= {pattern for pattern in HARMLESS if fits(path, pattern)}
    assert not unused, "\n".join(sorted(unused))


def fits(path: tuple[str, ...], pattern: str) -> bool:
    from fnmatch import fnmatchcase

    parts = pattern.split("/")
    return len(parts) == len(path) and all(map(fnmatchcase, path, parts))
