"""The strict reader of bodies."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.api.media import DEPTH_MAX, BodyError, decode, encode, is_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_what_is_written_is_read_back(value: dict[str, object]) -> None:
    assert decode(encode(value)) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_and_nothing_else(data: bytes) -> None:
    try:
        read = decode(data)
    except BodyError:
        return
    assert read == (json.loads(data) if data else {})


def test_no_body_is_an_object_without_members() -> None:
    assert decode(b"") == {}


def nested(depth: int) -> bytes:
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


def test_sixteen_levels_are_read_and_seventeen_refused() -> None:
    assert decode(nested(DEPTH_MAX - 1))
    with pytest.raises(BodyError, match="16 levels"):
        decode(nested(DEPTH_MAX + 1))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"a":1,"a":1}', "'a' stands twice"),
        (b'{"a":Infinity}', "Infinity is no JSON number"),
        (b'{"a":1e400}', "too large"),
        (b"\xff", "not UTF-8 at byte 0"),
        (b"[1]", "must be a JSON object"),
        (b"{'a':1}", "not JSON"),
    ],
)
def test_the_refusal_says_what_is_wrong(data: bytes, said: str) -> None:
    with pytest.raises(BodyError, match=said):
        decode(data)


@pytest.mark.parametrize(
    ("content_type", "accepted"),
    [
        ("application/json", True),
        ("application/json; charset=utf-8", True),
        ("application/json; charset=utf-16", False),
        ("application/json; version=2", False),
        ("text/plain", False),
        ("", False),
        (None, False),
    ],
)
def test_json_is_told_by_its_content_type(content_type: str | None, accepted: bool) -> None:
    assert is_json(content_type) is accepted
