"""Whatever a file holds, decoding it is a value, soon."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.manifest.decode import Decoded, decode
from tests.unit.manifest.test_decode import EVERY_FIELD, MINIMAL

LIMIT_S = 1.0
RUNS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SIGNS = b"- ? : , [ ] { } # & * ! | > ' \" % @ ` ~ << --- ... \n \t \r \0 \xff \xed\xa0\x80"
YAML_WORDS = SIGNS.split(b" ") + b"&a *a !!str 010 a: 1e999".split(b" ")
BOMB = b"\n".join(
    [b"a0: &a0 {x: 1}"]
    + [b"a%d: &a%d {<<: [%s]}" % (i, i, b",".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 20)]
)
NASTY = {
    "nested brackets": MINIMAL + b"spec: " + b"[" * 30_000,
    "nested braces": MINIMAL + b"spec: " + b"{a: " * 30_000,
    "nested dashes": b"- " * 100_000,
    "nested questions": b"? " * 100_000,
    "merge bomb": BOMB,
    "alias bomb": b"a: &a [x]\n" + b"b: [" + b"*a," * 60_000 + b"]",
    "NULs": b"\0" * 250_000,
    "lone surrogates": b"\xed\xa0\x80" * 80_000,
    "UTF-16": EVERY_FIELD.decode().encode("utf-16"),
    "one long line": MINIMAL + b"# " + b"x" * 250_000,
    "one long word": MINIMAL.replace(b"web", b"w" * 250_000),
    "one long key": b"x" * 250_000 + b": 1",
    "long boot order": MINIMAL + b"spec: {bootOrder: '" + b"cd,hd," * 40_000 + b"'}",
    "long address": MINIMAL + b"spec: {portForwards: [{hostAddress: '" + b"1." * 100_000 + b"'}]}",
    "long number": MINIMAL + b"spec: {memory: " + b"9" * 250_000 + b"}",
    "many forwards": MINIMAL + b"spec: {portForwards: [" + b"{hostPort: 80, guestPort: 80}," * 780 + b"]}",
    "many unknown fields": MINIMAL + b"spec:\n" + b"".join(b"  memory%d: 1\n" % i for i in range(1_900)),
    "many documents": b"---\n".join(MINIMAL.replace(b"web", b"w%d" % i) for i in range(3_000)),
    "many empty documents": b"---\n" * 60_000,
    "many broken documents": b"a: 1\n---\n" * 25_000,
    "many duplicates": b"a: 1\n" * 50_000,
    "many comments": b"#\n" * 125_000,
    "backslashes": b'"' + b"\\" * 250_000,
    "too much": b"a" * 5_000_000,
}


@pytest.mark.parametrize("name", NASTY)
def test_a_hostile_file_is_a_problem_soon(name: str) -> None:
    start_s = time.thread_time()  # the processor's time: others use the machine as well
    outcome = decode(NASTY[name], "f.yaml")
    assert time.thread_time() - start_s < LIMIT_S
    assert isinstance(outcome, Decoded)
    if name not in ("one long line", "many comments", "many documents"):
        assert outcome.vms == ()
        assert outcome.problems


@RUNS
@given(st.binary(max_size=2_000))
def test_random_bytes_are_decoded_to_something(data: bytes) -> None:
    assert isinstance(decode(data, "f.yaml"), Decoded)


@RUNS
@given(st.lists(st.sampled_from(YAML_WORDS) | st.binary(max_size=5), max_size=60))
def test_random_yaml_words_are_decoded_to_something(words: list[bytes]) -> None:
    assert isinstance(decode(b" ".join(words), "f.yaml"), Decoded)


@RUNS
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(EVERY_FIELD)),
            st.integers(0, 30),
            st.sampled_from(YAML_WORDS) | st.binary(max_size=8),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_mutations_of_a_manifest_give_a_vm_or_a_problem(mutations: list[tuple[int, int, bytes]]) -> None:
    data = EVERY_FIELD
    for start, length, text in mutations:
        data = data[:start] + text + data[start + length :]
    outcome = decode(data, "f.yaml")
    assert outcome.vms or outcome.problems
    assert {vm.name for vm in outcome.vms} <= set(outcome.names)


@RUNS
@given(st.integers(0, len(EVERY_FIELD)))
def test_a_prefix_of_a_manifest_never_crashes_and_knows_no_other_name(length: int) -> None:
    outcome = decode(EVERY_FIELD[:length], "f.yaml")
    assert set(outcome.names) <= {"web", "we", "w"}
