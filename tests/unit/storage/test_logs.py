"""The ends of logs, made harmless: what stands there was written by a guest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.layout import VMDir
from reconciler.model.inspection import LogEnd
from reconciler.storage.logs import cut_serial_log, end_of, harmless

ALL, MANY = 1000, 1000


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a\r\nb\rc\n", "a\nb\nc\n"),
        (b"\x1b[1;31mred\x1b[0m \x1b[2J\x1b[?25l", "red "),
        (b"\x1b]0;a title\x07text\x1b]52;c;YQ==\x1b\\", "text"),
        (b"\x1bcreset \x1b(B", "reset "),
        (b"\x1b", "\ufffd"),
        (b"bell\x07 null\x00 delete\x7f", "bell\ufffd null\ufffd delete\ufffd"),
        (b"\xc2\x9b31m", "\ufffd31m"),  # the one-character form of ESC [
        ("中文\ttab\n".encode(), "中文\ttab\n"),
        (b"\xff\xfe\xed\xa0\x80", "\ufffd" * 5),
    ],
)
def test_text_for_terminals_becomes_plain_text(data: bytes, text: str) -> None:
    assert harmless(data) == text


@given(st.binary(max_size=200))
def test_whatever_a_guest_writes_nothing_is_left_that_a_terminal_obeys(data: bytes) -> None:
    text = harmless(data)
    assert all(c in "\n\t" or ord(c) >= 0x20 for c in text)
    assert not any(0x7F <= ord(c) <= 0x9F for c in text)
    assert text.encode().decode() == text


def test_the_last_bytes_begin_with_a_whole_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"one\ntwo\nthree\n")
    assert end_of(log, 14, MANY) == LogEnd("one\ntwo\nthree\n", 14)
    assert end_of(log, 11, MANY) == LogEnd("two\nthree\n", 14)
    assert end_of(log, 9, MANY) == LogEnd("three\n", 14)
    assert end_of(log, ALL, 2) == LogEnd("two\nthree\n", 14)


def test_a_line_longer_than_the_limit_is_shown_in_part(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes("中".encode() * 5)
    assert end_of(log, 7, MANY) == LogEnd("\ufffd中中", 15)


def test_a_serial_log_that_was_cut_goes_on_in_what_was_kept(tmp_path: Path) -> None:
    home = VMDir(tmp_path)
    home.serial_log.write_bytes(b"before\n")
    cut_serial_log(home)
    assert end_of(home.serial_log, ALL, MANY, home.serial_log_before).text == "before\n"
    home.serial_log.write_bytes(b"after\n")
    assert end_of(home.serial_log, ALL, MANY, home.serial_log_before) == LogEnd("before\nafter\n", 13)
    assert end_of(home.serial_log, 6, MANY, home.serial_log_before) == LogEnd("after\n", 6)


def test_what_is_no_log_is_empty(tmp_path: Path) -> None:
    secret, link, fifo = tmp_path / "secret", tmp_path / "link", tmp_path / "fifo"
    secret.write_text("secret\n")
    link.symlink_to(secret)
    os.mkfifo(fifo)
    for path in (tmp_path / "absent", link, fifo, tmp_path):
        assert end_of(path, ALL, MANY).text == ""
