"""Strict YAML: values, places, and what is refused."""

from __future__ import annotations

import pytest

from reconciler.manifest.nodes import Place, Value, node_at, place_of, value_of
from reconciler.manifest.yaml_reader import MAX_BYTES, MAX_DEPTH, read, read_documents
from reconciler.model.errors import ManifestError


def values(data: bytes) -> list[Value]:
    return [value_of(document.root) for document in read_documents(data, "f.yaml")]


def problems(data: bytes) -> list[str]:
    return [str(problem) for problem in read(data, "f.yaml").problems]


def test_documents_are_read_as_plain_python_values() -> None:
    data = b"a: 1\nb: [x, 'y', {z: ~}]\nc:\n  d: no\n  e: 'true'\n"
    assert values(data) == [{"a": 1, "b": ["x", "y", {"z": None}], "c": {"d": "no", "e": "true"}}]


def test_empty_documents_and_comments_are_no_documents() -> None:
    assert values(b"") == []
    assert values(b"# nothing\n---\n---\n# more\n--- ~\n") == []
    assert values(b"---\na: 1\n---\n---\nb: 2\n...\n") == [{"a": 1}, {"b": 2}]


def test_places_count_characters_lines_and_columns_whatever_the_alphabet_and_line_ends() -> None:
    text = "# é😀\r\nä: 'ß😀'  # 😀\r\nlist: [😀, 2]\r\n"
    (document,) = read_documents(text.encode(), "f.yaml")
    for path, shown in {("ä",): "'ß😀'", ("list", 0): "😀", ("list", 1): "2"}.items():
        node = node_at(document.root, path)
        assert node is not None
        assert text[node.place.start : node.place.end] == shown
    assert place_of(document.root, ("list",)) == Place(text.index("list"), text.index("list") + 4, 3, 1)
    assert place_of(document.root, ("list", 1))[2:] == (3, 11)


def test_a_path_that_leads_nowhere_is_placed_at_the_nearest_that_exists() -> None:
    (document,) = read_documents(b"a: 1\nb:\n  c: 2\n", "f.yaml")
    assert place_of(document.root, ("b", "x", "y"))[2:] == (2, 1)
    assert place_of(document.root, ("x",))[2:] == (1, 1)


def test_a_byte_order_mark_is_accepted_and_counts_for_nothing() -> None:
    (document,) = read_documents(b"\xef\xbb\xbfa: 1\n", "f.yaml")
    assert place_of(document.root, ("a",)) == Place(0, 1, 1, 1)


def test_the_text_of_a_document_goes_from_separator_to_separator() -> None:
    text = "# one\na: 1\n--- # two\n# head\nb: 2\n# tail\n---\nc: 3"
    slices = [text[one.start : one.end] for one in read(text.encode(), "f").documents]
    assert slices == ["# one\na: 1\n", " # two\n# head\nb: 2\n# tail\n", "c: 3"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"a: &x 1\n", "f.yaml:1:4: found the anchor &x"),
        (b"a: 1\nb: *x\n", "f.yaml:2:4: found the alias *x"),
        (b"a: !!str 1\n", "f.yaml:1:4: found the tag tag:yaml.org,2002:str"),
        (b"a: !mine {}\n", "f.yaml:1:4: found the tag !mine"),
        (b"a: 1\na: 2\n", "f.yaml:2:1: found a again (it stands on line 1 already)"),
        (b"<<: {a: 1}\n", "f.yaml:1:1: found the merge key <<"),
        (b"a: 010\n", "f.yaml:1:4: found 010 with a leading zero"),
        (b"a:\n  1: x\n", "f.yaml:2:3: found 1 as a field's name, expected text"),
        (b"[a]: x\n", "f.yaml:1:1: found [a] as a field's name"),
        (b"? {a: b}\n: x\n", "f.yaml:1:3: found {a: b} as a field's name"),
        (b"%YAML 1.1\n---\na: 1\n", "f.yaml:1:1: found a % directive"),
        (b"%TAG ! tag:x,2000:\n---\na: 1\n", "f.yaml:1:1: found a % directive"),
        (b"a: 1\n\tb: 2\n", "f.yaml:2:1: found a tab, expected spaces"),
        (b"a: b: c\n", 'f.yaml:1:5: found a ":" where none may be'),
        (
            b"a: {b: 1\n",
            'f.yaml:2:1: found no "," or "}", expected the brace to be closed (the brace is opened on line 1',
        ),
        (b"a: 'x\n", "f.yaml:2:1: found the end of the file within quotes"),
        (b"a: 1\n  b: 2\n", 'f.yaml:2:4: found a ":" where none may be'),
        (b"a: 1\nb: x\0y\n", "f.yaml:2:5: found U+0000 (a control character)"),
        ("a: 1\nb: é\u2028\n".encode(), "f.yaml:2:5: found U+2028 (line separator)"),
        (b"a: 1\nb: \xc3\xa9 \xff\n", "f.yaml:2:6: found the byte 0xff, expected UTF-8"),
        ("a: 1\n".encode("utf-16"), "f.yaml:1:1: found the byte 0xff, expected UTF-8"),
        (b"a: \xed\xa0\x80\n", "f.yaml:1:4: found the byte 0xed, expected UTF-8"),
        (b"a: " + b"[" * MAX_DEPTH, f"f.yaml:1:67: found more than {MAX_DEPTH} levels of nesting"),
        (b"a: b\n" * 60_000, f"found a file of 300000 bytes, expected at most {MAX_BYTES} (256 KiB)"),
        (b"- a\n" * 5_000, "f.yaml:4000:3: found a document of more than 4000 values"),
        (b"a: b\n---\n" * 501, "found more than 500 documents"),
    ],
)
def test_what_a_manifest_must_not_hold_is_a_problem_at_its_place(data: bytes, said: str) -> None:
    assert any(said in problem for problem in problems(data)), problems(data)
    with pytest.raises(ManifestError):
        read_documents(data, "f.yaml")


@pytest.mark.parametrize("data", [b"%YAML 1.2\n---\na: 1\n", b"a: " + b"[" * 63 + b"]" * 63])
def test_the_version_that_we_read_and_the_deepest_nesting_are_accepted(data: bytes) -> None:
    assert len(values(data)) == 1


def test_all_problems_are_found_at_once_in_the_order_of_the_file() -> None:
    found = read(b"a: &x 1\nb: 010\na: 2\nc: *x\nd: \xff\n", "f").problems
    assert [problem.line for problem in found] == [1, 2, 3, 4, 5]


def test_a_broken_document_leaves_its_neighbours_sound() -> None:
    documents = read(b"a: 1\n---\nb: *x\n---\nc: 3\n---\nd: [", "f").documents
    assert [document.sound for document in documents] == [True, False, True, False]
    assert [value_of(document.root) for document in documents] == [{"a": 1}, {"b": None}, {"c": 3}, {"d": []}]


def test_what_cannot_be_text_makes_every_document_unsound() -> None:
    assert [document.sound for document in read(b"a: 1\n---\nb: \x01\n", "f").documents] == [False, False]


def test_a_million_problems_are_told_as_a_hundred() -> None:
    assert len(read(b"a: 1\n" * 3_000, "f").problems) == 100
