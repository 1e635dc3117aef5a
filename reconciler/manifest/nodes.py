"""The parts of a YAML file that know where they stand, so that a message can point and an edit can splice.

Offsets count characters of `Reading.text` from 0; lines and columns count from 1, as editors do.
Named tuples, since a file makes hundreds. Made by `reconciler.manifest.yaml_reader`, which comes next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from reconciler.model.vm import Problem

Atom: TypeAlias = bool | int | float | str | None
Value: TypeAlias = "Atom | list[Value] | dict[str, Value]"
FieldPath: TypeAlias = tuple[str | int, ...]
"""Keys and list indices from the root of a document; () is the root."""


class Place(NamedTuple):
    """From the first character of something to the one behind its last."""

    start: int
    end: int
    line: int
    column: int


class Scalar(NamedTuple):
    """A single value. `style` is empty for a plain one, else its first character: a quote, `|` or `>`."""

    place: Place
    value: Atom
    style: str


class Entry(NamedTuple):
    """One `key: value` of a mapping; the key's own place is the position of the field."""

    key: str
    key_place: Place
    node: Node


class Mapping(NamedTuple):
    """Fields; `flow` for those in braces. Without braces, its place ends where the next thing begins."""

    place: Place
    entries: tuple[Entry, ...]
    flow: bool

    def find(self, key: str) -> Entry | None:
        """The entry of this key."""
        return next((entry for entry in self.entries if entry.key == key), None)


class Sequence(NamedTuple):
    """A list; `flow` for one in brackets."""

    place: Place
    items: tuple[Node, ...]
    flow: bool


Node: TypeAlias = Scalar | Mapping | Sequence


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file. Not `sound`: it has a problem, and `root` is what could be read all the same.

    `start` and `end` are the bounds of its text, comments around it included.
    """

    root: Node
    sound: bool
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Reading:
    """All that could be read of a file, and all that is wrong with it as YAML."""

    text: str
    documents: tuple[Document, ...]
    problems: tuple[Problem, ...]


def value_of(node: Node) -> Value:
    """The node as Python's own None, bool, int, float, str, list and dict."""
    match node:
        case Scalar():
            return node.value
        case Mapping():
            return {entry.key: value_of(entry.node) for entry in node.entries}
        case Sequence():
            return [value_of(item) for item in node.items]


def node_at(root: Node, path: FieldPath) -> Node | None:
    """The node at a path, or None where the path leads nowhere."""
    node: Node | None = root
    for step in path:
        node = _child(node, step)
    return node


def place_of(root: Node, path: FieldPath) -> Place:
    """Where to point for a path: the field's key, a list's item, or the nearest of these that exists."""
    place, node = first_place(root), root
    for step in path:
        child = _child(node, step)
        if child is None:
            break
        entry = node.find(str(step)) if isinstance(node, Mapping) else None
        place = entry.key_place if entry else child.place
        node = child
    return place


def first_place(root: Node) -> Place:
    """The first key of a document; of one that is no mapping, its start."""
    return root.entries[0].key_place if isinstance(root, Mapping) and root.entries else root.place


def dotted(path: FieldPath) -> str:
    """A path as people write it: `spec.portForwards[0].hostPort`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def last_leaf(node: Node) -> Scalar | None:
    """The scalar with which a node ends, if it ends with one."""
    match node:
        case Scalar():
            return node
        case Mapping() if node.entries and not node.flow:
            return last_leaf(node.entries[-1].node)
        case Sequence() if node.items and not node.flow:
            return last_leaf(node.items[-1])
    return None


def _child(node: Node | None, step: str | int) -> Node | None:
    if isinstance(node, Mapping):
        entry = node.find(str(step))
        return entry.node if entry else None
    if isinstance(node, Sequence) and isinstance(step, int) and 0 <= step < len(node.items):
        return node.items[step]
    return None
