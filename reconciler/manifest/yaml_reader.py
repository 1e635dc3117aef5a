"""Strict YAML in one pass over the parser's events: values, places, problems; nothing is built unchecked.

PyYAML's C composer recurses: 30,000 brackets crash it, and 395 bytes of merge keys keep it busy for seconds.
Its C parser is iterative, so depth, size, anchors and aliases are checked on its events. Its marks count
characters. Next: `reconciler.manifest.schema`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import yaml
from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
)

from reconciler.manifest.characters import characters
from reconciler.manifest.nodes import Document, Entry, Mapping, Node, Place, Reading, Scalar, Sequence
from reconciler.manifest.scalars import ScalarError, resolve
from reconciler.manifest.yaml_words import explain
from reconciler.model.errors import ManifestError
from reconciler.model.vm import Problem

MAX_BYTES = 256 * 1024
MAX_DEPTH = 64
MAX_DOCUMENTS = 500
MAX_NODES = 4_000
MAX_PROBLEMS = 100

_REST_OF_LINE = re.compile(r"[ \t]*(?:\r\n|\r|\n)")


def read_documents(data: bytes, file: str) -> tuple[Document, ...]:
    """The documents of a file, empty ones left out. Raises ManifestError with all that is wrong as YAML."""
    reading = read(data, file)
    if reading.problems:
        raise ManifestError(reading.problems)
    return reading.documents


def read(data: bytes, file: str) -> Reading:
    """What can be read of a file, and what is wrong with it as YAML. Never raises, whatever the bytes are."""
    if len(data) > MAX_BYTES:
        message = f"found a file of {len(data)} bytes, expected at most {MAX_BYTES} (256 KiB)"
        return Reading("", (), (Problem(file, 1, 1, "", message),))
    text, problems = characters(data, file)
    builder = _Builder(file, text, problems, sound=not problems)
    builder.run()
    ordered = sorted(problems, key=lambda problem: (problem.line, problem.column))
    return Reading(text, tuple(builder.documents), tuple(ordered[:MAX_PROBLEMS]))


class _Stop(Exception):  # noqa: N818  (no error: reading ends here, and the problem is noted)
    """Going on would cost too much."""


@dataclass(slots=True)
class _Open:
    """A mapping or list whose end has not come yet. `key` waits for its value."""

    place: Place
    is_mapping: bool
    flow: bool
    as_key: bool
    entries: list[Entry] = field(default_factory=list)
    items: list[Node] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)
    key: tuple[str, Place] | None = None

    def close(self, end: int) -> Node:
        """The finished node; `end` is the offset behind it."""
        place = Place(self.place.start, end, self.place.line, self.place.column)
        if self.is_mapping:
            return Mapping(place, tuple(self.entries), self.flow)
        return Sequence(place, tuple(self.items), self.flow)


@dataclass(slots=True)
class _Builder:
    """Turns events into documents; holds what is open."""

    file: str
    text: str
    problems: list[Problem]
    sound: bool
    documents: list[Document] = field(default_factory=list)
    stack: list[_Open] = field(default_factory=list)
    root: Node | None = None
    start: int = 0
    nodes: int = 0
    started: int = 0
    problems_before: int = 0

    def run(self) -> None:
        """Read to the end, or to where reading must stop; a broken document counts as far as it was read."""
        try:
            for event in yaml.parse(self.text, Loader=yaml.CSafeLoader):
                self.take(event, _place(event))
        except yaml.YAMLError as error:
            self.problems.append(explain(error, self.file))
            self.abandon()
        except _Stop:
            self.abandon()

    def take(self, event: Event, place: Place) -> None:
        """One event."""
        match event:
            case NodeEvent():
                self.check(event, place)
                self.open_or_add(event, place)
            case CollectionEndEvent():
                frame = self.stack.pop()
                self.add(frame.close(place.end), frame.as_key)
            case DocumentStartEvent():
                self.begin(event, place)
            case DocumentEndEvent():
                self.finish(place.start)

    def check(self, event: NodeEvent, place: Place) -> None:
        """Anchors, aliases, tags and size: all that must not pass."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self.complain(place, f"found a document of more than {MAX_NODES} values, expected fewer")
            raise _Stop
        if isinstance(event, AliasEvent):
            self.complain(place, f"found the alias *{event.anchor}, expected the value itself, written out")
        elif event.anchor is not None:
            self.complain(place, f"found the anchor &{event.anchor}, expected a value without one")
        elif isinstance(event, ScalarEvent | CollectionStartEvent) and event.tag is not None:
            self.complain(place, f"found the tag {event.tag}, expected a value without one")

    def open_or_add(self, event: NodeEvent, place: Place) -> None:
        """A collection is opened, a scalar added where it belongs."""
        top = self.stack[-1] if self.stack else None
        as_key = top is not None and top.is_mapping and top.key is None
        if not isinstance(event, CollectionStartEvent):
            self.add(self.scalar(event, place), as_key)
            return
        if len(self.stack) >= MAX_DEPTH:
            self.complain(place, f"found more than {MAX_DEPTH} levels of nesting, expected fewer")
            raise _Stop
        is_mapping = isinstance(event, MappingStartEvent)
        self.stack.append(_Open(place, is_mapping, bool(event.flow_style), as_key))

    def scalar(self, event: NodeEvent, place: Place) -> Scalar:
        """The scalar of an event; of an alias or a bad number, a stand-in that lets reading go on."""
        if not isinstance(event, ScalarEvent):
            return Scalar(place, None, "")
        if event.style:
            return Scalar(place, event.value, event.style)
        try:
            return Scalar(place, resolve(event.value), "")
        except ScalarError as error:
            self.complain(place, str(error))
            return Scalar(place, event.value, "")

    def add(self, node: Node, as_key: bool) -> None:
        """Put a finished node into what is open."""
        if not self.stack:
            self.root = node
            return
        top = self.stack[-1]
        if as_key:
            top.key = (self.key(node, top), node.place)
        elif top.key is not None:
            top.entries.append(Entry(*top.key, node))
            top.key = None
        else:
            top.items.append(node)

    def key(self, node: Node, top: _Open) -> str:
        """The text of a key, which must be text, no merge, and new in its mapping."""
        place = node.place
        if not isinstance(node, Scalar) or not isinstance(node.value, str):
            text = self.text[place.start : place.end].strip()
            found = text[:40] or "nothing"
            self.complain(place, f"found {found} as a field's name, expected text; quotes make text of it")
            return text
        text = node.value
        if text == "<<" and not node.style:
            self.complain(place, "found the merge key <<, expected the fields themselves, written out")
        elif text in top.lines:
            found = f"found {text[:40]} again (it stands on line {top.lines[text]} already)"
            self.complain(place, f"{found}, expected each field once")
        top.lines.setdefault(text, place.line)
        return text

    def begin(self, event: DocumentStartEvent, place: Place) -> None:
        """A document starts; behind its `---` where another document came before."""
        if self.documents or self.start:
            rest = _REST_OF_LINE.match(self.text, place.end)
            self.start = rest.end() if rest else place.end
        self.nodes, self.started = 0, self.started + 1
        self.problems_before = len(self.problems)
        if self.started > MAX_DOCUMENTS:
            self.complain(place, f"found more than {MAX_DOCUMENTS} documents, expected fewer: split the file")
            raise _Stop
        if event.tags or event.version not in (None, (1, 2)):
            self.complain(place, "found a % directive, expected none: manifests are read as YAML 1.2")

    def finish(self, end: int) -> None:
        """A document is complete; one that is empty is none."""
        if self.root is not None and not _is_empty(self.root):
            sound = self.sound and len(self.problems) == self.problems_before
            self.documents.append(Document(self.root, sound, self.start, end))
        self.root, self.start = None, end

    def abandon(self) -> None:
        """Keep what was read of the document in which reading stopped."""
        end = len(self.text)
        while self.stack:
            frame = self.stack.pop()
            if not frame.as_key:
                self.add(frame.close(end), False)
        self.finish(end)

    def complain(self, place: Place, message: str) -> None:
        """Note a problem, unless the document has more than anyone reads."""
        if len(self.problems) <= MAX_PROBLEMS + self.problems_before:
            self.problems.append(Problem(self.file, place.line, place.column, "", message))


def _place(event: Event) -> Place:
    # The stubs allow events without marks; a parser's events have them.
    first, last = event.start_mark, event.end_mark
    return Place(first.index, last.index, first.line + 1, first.column + 1)  # type: ignore[union-attr]


def _is_empty(node: Node) -> bool:
    return isinstance(node, Scalar) and node.value is None
