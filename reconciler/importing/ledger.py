"""Who has read what of an XML tree: reading is accounting, so that nothing is passed over in silence.

A conversion reads through `Node` and thereby ticks off what it reads. What nobody has read in the end is noted by
`reconciler.importing.leftovers`. Next: `reconciler.importing.machine`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NoReturn

from reconciler.importing.outcome import Kind, Note
from reconciler.importing.tree import Element
from reconciler.model.errors import ImportRefusedError

SHOWN_MAX = 300
SECRET = frozenset({"passwd", "password"})
_TEXT, _ELEMENT = "text()", "."
_NUMBER = re.compile(r"[0-9]{1,18}\Z", re.ASCII)


@dataclass(eq=False)
class Ledger:
    """What has been read, and what was noted on the way. `file` is the name that messages use."""

    file: str
    notes: list[Note] = field(default_factory=list)
    _read: set[tuple[Element, str]] = field(default_factory=set)

    def tick(self, element: Element, what: str = _ELEMENT) -> None:
        """An attribute (`@name`), the text, or the element itself has been read."""
        self._read.add((element, what))

    def ticked(self, element: Element, what: str = _ELEMENT) -> bool:
        """Whether somebody has read it."""
        return (element, what) in self._read

    def unread(self, element: Element) -> Iterator[tuple[str, str]]:
        """The attributes (`@name`) and the text of an element that nobody has read, with their values."""
        for name, value in element.attributes.items():
            if not self.ticked(element, f"@{name}"):
                yield f"@{name}", value
        if element.text and not self.ticked(element, _TEXT):
            yield _TEXT, element.text

    def note(self, kind: Kind, element: Element, message: str) -> None:
        """Write down what somebody has to know of a place."""
        self.notes.append(Note(kind, element.place or element.tag, element.line, printable(message)))


@dataclass(frozen=True)
class Node:
    """An element that is read through, and so ticked off, piece by piece."""

    element: Element
    ledger: Ledger

    def get(self, name: str) -> str | None:
        """An attribute."""
        self.ledger.tick(self.element, f"@{name}")
        return self.element.attributes.get(name)

    def number(self, name: str) -> int | None:
        """An attribute that is a whole number; any other stays unread, and so is noted."""
        value = self.element.attributes.get(name, "")
        if not _NUMBER.match(value):
            return None
        self.ledger.tick(self.element, f"@{name}")
        return int(value)

    def one_of(self, name: str, *words: str) -> str | None:
        """An attribute, if it is one of these words; any other stays unread, and so is noted."""
        value = self.element.attributes.get(name)
        if value not in words:
            return None
        return self.get(name)

    @property
    def text(self) -> str:
        """The text between the tags."""
        self.ledger.tick(self.element, _TEXT)
        return self.element.text

    @property
    def text_number(self) -> int:
        """The text as a whole number. Raises ImportRefusedError for any other."""
        if not _NUMBER.match(self.text):
            self.refuse(f'found "{self.text[:64]}", expected a whole number')
        return int(self.text)

    def child(self, tag: str) -> Node | None:
        """The first child of that name."""
        return next(iter(self.all(tag)[:1]), None)

    def all(self, tag: str) -> list[Node]:
        """All children of that name, in the order of the source; not ticked off before one is read."""
        return [Node(child, self.ledger) for child in self.element.children if child.tag == tag]

    def value(self, tag: str, attribute: str) -> str | None:
        """An attribute of the first child of that name."""
        child = self.child(tag)
        return child.enter().get(attribute) if child else None

    def enter(self) -> Node:
        """Tick the element off, but for its attributes, its text and its children."""
        self.ledger.tick(self.element)
        return self

    def done(self) -> None:
        """Tick off everything below: it means nothing here, or a note has said it in words."""
        for element in self.element.walk():
            self.ledger.tick(element)
            self.ledger.tick(element, _TEXT)
            for name in element.attributes:
                self.ledger.tick(element, f"@{name}")

    def note(self, kind: Kind, message: str) -> None:
        """Write down something about this place."""
        self.ledger.note(kind, self.element, message)

    @property
    def rest(self) -> str:
        """What nobody has read of this element and of all below it; empty where all was."""
        return shown_unread(self.element, self.ledger)

    def give_up(self, kind: Kind, message: str) -> None:
        """Note that nothing comes of this element, with what nobody has read of it, and tick it off."""
        self.note(kind, said(self.element, self.rest, message))
        self.done()

    def refuse(self, message: str) -> NoReturn:
        """Raise ImportRefusedError with this place."""
        where = f"{self.ledger.file}:{self.element.line}: {self.element.place or self.element.tag}"
        raise ImportRefusedError(printable(f"{where}: {message}"))


def shown_unread(element: Element, ledger: Ledger) -> str:
    """What nobody has read of an element, on one line; empty where all was."""
    own = shown_words(element, ledger)
    inner = [shown for child in element.children if (shown := shown_unread(child, ledger))]
    if not own and not inner and ledger.ticked(element):
        return ""
    return _short((own or element.tag) + (f" {{{', '.join(inner)}}}" if inner else ""))


def shown_words(element: Element, ledger: Ledger) -> str:
    """What nobody has read of an element's own attributes and text; empty where all was."""
    words = [
        f"{what[1:]}={_value(what, value)}" if what[0] == "@" else value
        for what, value in ledger.unread(element)
    ]
    return _short(" ".join((element.tag, *words))) if words else ""


def said(element: Element, shown: str, message: str) -> str:
    """What was found and what becomes of it; the tag is left out, since the place of a note ends with it."""
    found = shown.removeprefix(element.tag).strip()
    return f"{found}: {message}" if found else message


def printable(text: str) -> str:
    """Without characters that a terminal would obey."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_MAX else text[:SHOWN_MAX] + " …"


def _value(what: str, value: str) -> str:
    if what[1:] in SECRET:
        return "(not shown)"
    return f'"{value}"' if not value or " " in value else value
