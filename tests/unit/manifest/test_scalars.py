"""The scalars of YAML 1.2, read and written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.manifest.nodes import Atom
from reconciler.manifest.scalars import ScalarError, render, resolve


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("0", 0),
        ("-7", -7),
        ("+7", 7),
        ("0o17", 15),
        ("0xFf", 255),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("2048.0", 2048.0),
    ],
)
def test_core_scalars_are_read_as_yaml_1_2_says(text: str, value: Atom) -> None:
    found = resolve(text)
    assert found == value
    assert type(found) is type(value)


WORDS_OF_1_1 = "no yes on off y 52:54:00:12:34:56 12:30:45 0o8 0b11 1_000 2025-06-30 tRue nUll - = + 1.2.3 0x"


@pytest.mark.parametrize("text", WORDS_OF_1_1.split())
def test_what_yaml_1_1_makes_something_else_of_is_text(text: str) -> None:
    assert resolve(text) == text


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("010", 'expected 10 or 0o10 (8), or "010" in quotes'),
        ("-010", 'expected -10, or "-010"'),
        ("089", 'expected 89, or "089"'),
        ("00", 'expected 0 or 0o0 (0), or "00"'),
    ],
)
def test_a_leading_zero_is_refused_and_says_what_to_write(text: str, advice: str) -> None:
    with pytest.raises(ScalarError, match="leading zero") as caught:
        resolve(text)
    assert advice in str(caught.value)


@pytest.mark.parametrize("text", [".inf", "-.INF", ".nan", "1e999", "9" * 21, "9" * 5000, "0x" + "f" * 5000])
def test_numbers_that_are_endless_are_refused_with_a_short_message(text: str) -> None:
    with pytest.raises(ScalarError, match="expected") as caught:
        resolve(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("value", "flow", "text"),
    [
        ("running", False, "running"),
        ("cd,hd", False, "cd,hd"),
        ("cd,hd", True, '"cd,hd"'),
        ("debian-12.iso", True, "debian-12.iso"),
        ("/srv/iso/a.iso", False, "/srv/iso/a.iso"),
        ("my file.iso", False, '"my file.iso"'),
        ("2025-06-30T12:00:00Z", False, '"2025-06-30T12:00:00Z"'),
        ("no", False, '"no"'),
        ("null", False, '"null"'),
        ("", False, '""'),
        ("a: b", False, '"a: b"'),
        ("a #b", False, '"a #b"'),
        ("\u2028", False, '"\\u2028"'),
        ("é€😀", False, '"é€😀"'),
        (True, False, "true"),
        (None, False, "null"),
        (2048, False, "2048"),
        ([1, "a"], False, "[1, a]"),
        ({"hostPort": 80}, False, "{hostPort: 80}"),
        ([], False, "[]"),
        ({}, True, "{}"),
    ],
)
def test_values_are_written_plainly_where_no_reader_can_mistake_them(
    value: Atom, flow: bool, text: str
) -> None:
    assert render(value, flow=flow) == text


@pytest.mark.parametrize(
    ("value", "style", "text"),
    [("a", "'", "'a'"), ("it's", "'", "'it''s'"), ("a", '"', '"a"'), ("a\n", "'", '"a\\n"'), (5, "'", "5")],
)
def test_a_quote_style_is_kept_where_it_can_say_the_value(value: Atom, style: str, text: str) -> None:
    assert render(value, flow=False, style=style) == text


@given(st.text())
def test_any_text_that_is_written_plainly_is_read_as_that_text(text: str) -> None:
    written = render(text, flow=False)
    assert written.startswith('"') or resolve(written) == text
