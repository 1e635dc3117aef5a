"""XML that would do harm, or is none: refused, with the line."""

from __future__ import annotations

import time

import pytest

from reconciler.importing.libvirt import parse
from reconciler.importing.tree import MAX_BYTES, MAX_DEPTH, MAX_ELEMENTS
from reconciler.model.errors import ImportRefusedError

BOMB = (
    "<?xml version='1.0'?>\n<!DOCTYPE domain [\n<!ENTITY a 'ha'>\n"
    + "".join(f"<!ENTITY {chr(98 + n)} '{f'&{chr(97 + n)};' * 10}'>\n" for n in range(12))
    + "]>\n<domain><name>&m;</name></domain>"
)
OUTSIDE = "<!DOCTYPE domain [<!ENTITY x SYSTEM 'file:///etc/hostname'>]><domain><name>&x;</name></domain>"


def refusal(xml: bytes | str) -> str:
    with pytest.raises(ImportRefusedError) as caught:
        parse(xml if isinstance(xml, bytes) else xml.encode(), "web.xml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("xml", "line"),
    [
        (BOMB, 2),
        (OUTSIDE, 1),
        ("<!DOCTYPE domain SYSTEM 'http://127.0.0.1:1/x.dtd'>\n<domain/>", 1),
        ("<!DOCTYPE domain>\n<domain/>", 1),
    ],
    ids=["bomb", "a file as entity", "a DTD from elsewhere", "an empty one"],
)
def test_any_document_type_is_refused_before_an_entity_is_read(xml: str, line: int) -> None:
    before = time.process_time()
    assert refusal(xml).startswith(f"web.xml:{line}: found a document type")
    assert time.process_time() - before < 1


def test_an_entity_that_nobody_declared_is_an_error_at_its_line() -> None:
    assert refusal("<domain>\n<name>&x;</name></domain>").startswith("web.xml:2:7: not XML: undefined entity")


@pytest.mark.parametrize(
    ("xml", "where"),
    [
        ("", "web.xml:1:1: not XML"),
        ("name: web\n", "web.xml:1:1: not XML"),
        ("<domain>\n  <name>web</nam>\n</domain>", "web.xml:2:14: not XML: mismatched tag"),
        ("<domain>\n<name>web</name>\n", "web.xml:3:1: not XML: no element found"),
        ("<domain/>\n<domain/>", "web.xml:2:1: not XML: junk after document element"),
        (b"<domain>\n\xff</domain>", "web.xml:2:1: not XML: not well-formed"),
        ("<domain a='1' a='2'/>", "web.xml:1:15: not XML: duplicate attribute"),
    ],
)
def test_what_is_no_xml_is_refused_at_its_place(xml: bytes | str, where: str) -> None:
    assert refusal(xml).startswith(where)


def test_an_encoding_that_nobody_knows_is_refused_in_words() -> None:
    said = refusal("<?xml version='1.0' encoding='klingon'?><domain/>")
    assert said.startswith("web.xml:")
    assert "encoding" in said


@pytest.mark.parametrize("root", ["network", "domainsnapshot", "pool"])
def test_another_root_than_a_domain_is_refused(root: str) -> None:
    assert refusal(f"<!-- x -->\n<{root}/>") == (
        f"web.xml:2: found <{root}>, expected <domain>, as `virsh dumpxml NAME` prints it"
    )


def test_what_is_too_long_deep_or_numerous_is_refused() -> None:
    assert "bytes" in refusal("<domain>" + " " * MAX_BYTES + "</domain>")
    assert "levels" in refusal("<domain>" + "<a>" * MAX_DEPTH + "</a>" * MAX_DEPTH + "</domain>")
    assert "elements" in refusal("<domain>" + "<a/>" * MAX_ELEMENTS + "</domain>")


def test_the_deepest_that_is_taken_is_read_whole() -> None:
    root = parse(
        ("<domain>" + "<a>" * (MAX_DEPTH - 1) + "</a>" * (MAX_DEPTH - 1) + "</domain>").encode(), "x"
    )
    assert sum(1 for _ in root.walk()) == MAX_DEPTH


def test_places_are_numbered_where_there_are_several_and_lines_are_kept() -> None:
    root = parse(b"<domain>\n<a>\n<b/><b><c/></b>\n</a></domain>", "x")
    found = [(each.place, each.line) for each in root.walk()]
    assert found == [("", 1), ("a", 2), ("a/b[1]", 3), ("a/b[2]", 3), ("a/b[2]/c", 3)]
