"""The smallest change of a text that changes one field: every other character stays what it was.

The reader knows where each node stands, so a change is a few replaced ranges; comments, order, quotes, line
ends and indentation need no model of their own. Used by `reconciler.manifest.edit`, which checks the outcome.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

from reconciler.manifest.characters import BREAK
from reconciler.manifest.nodes import Entry, Mapping, Node, Scalar, Value, last_leaf
from reconciler.manifest.scalars import render

_COLON = re.compile(r"[ \t]*:")
_INDENTATION = 2


class Remove(Enum):
    """The change that takes a field away."""

    REMOVE = "remove"


REMOVE: Final = Remove.REMOVE
Change: TypeAlias = "Value | Remove"
Keys: TypeAlias = tuple[str, ...]


class NotASectionError(ValueError):
    """A path leads through something that has no fields; `path` is the way to it."""

    def __init__(self, path: Keys) -> None:
        super().__init__(".".join(path))
        self.path = path


class _Field(NamedTuple):
    """An entry and the mapping that it stands in."""

    parent: Mapping
    entry: Entry


class _Range(NamedTuple):
    """Characters to be replaced."""

    start: int
    end: int
    text: str


def splice(text: str, root: Node, path: Keys, change: Change) -> str:
    """The text with one field of the document `root` set, added or removed.

    Raises NotASectionError where the path leads through a value or a list.
    """
    for one in sorted(_Surgeon(text, root).ranges(path, change), reverse=True):
        text = text[: one.start] + one.text + text[one.end :]
    return text


class _Surgeon:
    """Finds what has to be replaced in one document."""

    def __init__(self, text: str, root: Node) -> None:
        self.text = text
        self.root = root
        first_break = BREAK.search(text)
        self.newline = first_break.group() if first_break else "\n"
        self.step = _step(root)

    def ranges(self, path: Keys, change: Change) -> list[_Range]:
        """Go down to the field; where the path ends early, the rest of it is new."""
        node, above = self.root, None
        for depth, key in enumerate(path):
            rest = path[depth:]
            if above is not None and _is_null(node):
                return [] if isinstance(change, Remove) else self.fill(above, rest, change)
            if not isinstance(node, Mapping):
                raise NotASectionError(path[:depth])
            entry = node.find(key)
            if entry is None:
                return [] if isinstance(change, Remove) else [self.insert(node, rest, change)]
            field = _Field(node, entry)
            if len(rest) == 1:
                return [self.remove(field, above) if isinstance(change, Remove) else self.set(field, change)]
            node, above = entry.node, field
        raise NotASectionError(path)

    def set(self, field: _Field, value: Value) -> _Range:
        """Another value for a field that is there."""
        node, flow = field.entry.node, field.parent.flow
        if _is_empty(node) or _is_block(node):
            start, colon = self.after_key(field.entry)
            end = start if _is_empty(node) else self.tail(node)
            return _Range(start, end, f"{colon} {render(value, flow=flow)}")
        style = node.style if isinstance(node, Scalar) else ""
        return _Range(node.place.start, node.place.end, render(value, flow=flow, style=style))

    def remove(self, field: _Field, above: _Field | None) -> _Range:
        """Take a field away; a section that has lost its last one becomes {}."""
        parent, entry = field
        if len(parent.entries) > 1:
            return self.cut_entry(parent, entry) if parent.flow else self.cut_lines(entry)
        if parent.flow or above is None:
            return _Range(parent.place.start, self.tail(parent), "{}")
        return self.set(above, {})

    def cut_entry(self, parent: Mapping, entry: Entry) -> _Range:
        """One of several fields in braces, with one comma."""
        index = parent.entries.index(entry)
        if index > 0:
            return _Range(self.entry_end(parent.entries[index - 1]), self.entry_end(entry), "")
        return _Range(entry.key_place.start, parent.entries[1].key_place.start, "")

    def cut_lines(self, entry: Entry) -> _Range:
        """A field on lines of its own."""
        end = self.line_end(self.entry_end(entry))
        after = BREAK.match(self.text, end)
        return _Range(self.line_start(entry.key_place.start), after.end() if after else end, "")

    def insert(self, node: Mapping, path: Keys, value: Value) -> _Range:
        """A new field behind the last one of its section."""
        if not node.entries:
            return _Range(*node.place[:2], render(_nested(path, value), flow=True))
        last = node.entries[-1]
        if node.flow:
            end = self.entry_end(last)
            return _Range(end, end, f", {_pairs(_nested(path, value))}")
        return self.lines_behind(self.insertion_point(last), path, value, last.key_place.column - 1)

    def fill(self, above: _Field, path: Keys, value: Value) -> list[_Range]:
        """The first field of a section that holds nothing, or null."""
        parent, entry = above
        if parent.flow:
            return [self.set(above, _nested(path, value))]
        start, _ = self.after_key(entry)
        end = max(start, entry.node.place.end)
        column = entry.key_place.column - 1 + self.step
        return [_Range(start, end, ""), self.lines_behind(end, path, value, column)]

    def lines_behind(self, offset: int, path: Keys, value: Value, column: int) -> _Range:
        """New lines below the one that holds `offset`; the way down to the value takes one line a step."""
        *sections, last = path
        lines = [" " * (column + self.step * depth) + f"{_key(key)}:" for depth, key in enumerate(sections)]
        indentation = " " * (column + self.step * len(sections))
        lines.append(f"{indentation}{_key(last)}: {render(value, flow=False)}")
        new = self.newline.join(lines)
        if offset > 0 and self.line_start(offset) == offset:
            return _Range(offset, offset, new + self.newline)
        end = self.line_end(offset)
        return _Range(end, end, self.newline + new)

    def after_key(self, entry: Entry) -> tuple[int, str]:
        """The offset behind a key's colon, and the colon itself where there is none yet."""
        colon = _COLON.match(self.text, entry.key_place.end)
        return (colon.end(), "") if colon else (entry.key_place.end, ":")

    def entry_end(self, entry: Entry) -> int:
        """The offset behind a field's last character."""
        return self.after_key(entry)[0] if _is_empty(entry.node) else self.tail(entry.node)

    def tail(self, node: Node) -> int:
        """The offset behind a node's last character; comments and blank lines below do not count."""
        match node:
            case Scalar(style="|" | ">"):
                return node.place.start + len(self.text[node.place.start : node.place.end].rstrip())
            case Scalar():
                return node.place.end
            case _ if node.flow:
                return node.place.end
            case Mapping():
                return self.entry_end(node.entries[-1])
            case _:
                return self.tail(node.items[-1])

    def insertion_point(self, entry: Entry) -> int:
        """Where to go on behind a field: blank lines that a `|+` keeps are part of it."""
        leaf = last_leaf(entry.node)
        if leaf is not None and leaf.style in ("|", ">"):
            header = BREAK.split(self.text[leaf.place.start : leaf.place.end], maxsplit=1)[0]
            if "+" in header.split("#")[0]:
                return leaf.place.end
        return self.entry_end(entry)

    def line_start(self, offset: int) -> int:
        """The offset of the first character of a line."""
        return max(self.text.rfind("\n", 0, offset), self.text.rfind("\r", 0, offset)) + 1

    def line_end(self, offset: int) -> int:
        """The offset behind the last character of a line."""
        found = BREAK.search(self.text, offset)
        return found.start() if found else len(self.text)


def _is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.value is None


def _is_empty(node: Node) -> bool:
    """Whether a node has no characters at all, as in `spec:`."""
    return _is_null(node) and node.place.start == node.place.end


def _is_block(node: Node) -> bool:
    """Whether a node stands on lines below its key."""
    return node.style in ("|", ">") if isinstance(node, Scalar) else not node.flow


def _step(root: Node) -> int:
    """How far the file indents: as its first section does."""
    for entry in root.entries if isinstance(root, Mapping) else ():
        section = entry.node
        if isinstance(section, Mapping) and not section.flow and section.entries:
            return section.entries[0].key_place.column - entry.key_place.column
    return _INDENTATION


def _nested(path: Keys, value: Value) -> dict[str, Value]:
    """{a: {b: value}} for the path a, b."""
    key, *rest = path
    return {key: _nested(tuple(rest), value) if rest else value}


def _pairs(value: dict[str, Value]) -> str:
    return render(value, flow=True)[1:-1]


def _key(key: str) -> str:
    return render(key, flow=True)
