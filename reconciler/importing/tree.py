"""XML from anybody, read without trusting it: elements with their places, and nothing that XML can do besides.

A document type is refused, and with it every entity: those that grow without end and those that read files. Size,
depth and number of elements are bounded. Prefixes (`qemu:commandline`) stay as they are written. Next:
`reconciler.importing.ledger`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

from reconciler.model.errors import ImportRefusedError

MAX_BYTES = 1024**2
MAX_DEPTH = 64
MAX_ELEMENTS = 20_000


@dataclass(frozen=True, eq=False)
class Element:
    """One element. `path` names it and those above it, below the root; `place` numbers them where it must."""

    tag: str
    path: tuple[str, ...]
    place: str
    line: int
    attributes: Mapping[str, str]
    text: str
    children: tuple[Element, ...]

    def walk(self) -> Iterator[Element]:
        """This one and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()


def parse(data: bytes, file: str) -> Element:
    """The root of a document. Raises ImportRefusedError, which names `file` and the line."""
    if len(data) > MAX_BYTES:
        raise ImportRefusedError(f"{file}: found more than {MAX_BYTES} bytes, expected the XML of one domain")
    builder = _Builder(file)
    try:
        builder.parser.Parse(data, True)
    except expat.ExpatError as error:
        found = f"not XML: {expat.ErrorString(error.code)}"
        raise ImportRefusedError(f"{file}:{error.lineno}:{error.offset + 1}: {found}") from error
    except (LookupError, ValueError) as error:  # an encoding that Python lacks, or that expat cannot use
        raise ImportRefusedError(f"{file}: not XML that can be read: {error}; save it as UTF-8") from error
    return _placed(builder.roots[0], (), "")


@dataclass
class _Raw:
    """An element while it is read."""

    tag: str
    attributes: dict[str, str]
    line: int
    text: list[str] = field(default_factory=list)
    children: list[_Raw] = field(default_factory=list)


class _Builder:
    """What expat calls."""

    def __init__(self, file: str) -> None:
        self.roots: list[_Raw] = []
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.StartDoctypeDeclHandler = self._doctype
        self._file = file
        self._open: list[_Raw] = []
        self._count = 0

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if len(self._open) >= MAX_DEPTH or self._count > MAX_ELEMENTS:
            raise self._refused(f"found more than {MAX_DEPTH} levels or {MAX_ELEMENTS} elements")
        raw = _Raw(tag, attributes, self.parser.CurrentLineNumber)
        (self._open[-1].children if self._open else self.roots).append(raw)
        self._open.append(raw)

    def _end(self, _tag: str) -> None:
        self._open.pop()

    def _characters(self, text: str) -> None:
        self._open[-1].text.append(text)

    def _doctype(self, *_declared: object) -> None:
        raise self._refused("found a document type (<!DOCTYPE …>), which virsh never writes")

    def _refused(self, found: str) -> ImportRefusedError:
        expected = "expected the output of `virsh dumpxml`"
        return ImportRefusedError(f"{self._file}:{self.parser.CurrentLineNumber}: {found}, {expected}")


def _placed(raw: _Raw, path: tuple[str, ...], place: str) -> Element:
    total, seen = Counter(child.tag for child in raw.children), Counter[str]()
    children = []
    for child in raw.children:
        seen[child.tag] += 1
        number = f"[{seen[child.tag]}]" if total[child.tag] > 1 else ""
        below = f"{place}/{child.tag}{number}" if place else f"{child.tag}{number}"
        children.append(_placed(child, (*path, child.tag), below))
    text = " ".join("".join(raw.text).split())
    return Element(raw.tag, path, place, raw.line, raw.attributes, text, tuple(children))
