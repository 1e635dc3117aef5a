"""The agent's log lines."""

from __future__ import annotations

import logging

from reconciler.cli.logs import formatter


def record(level: int, message: str) -> logging.LogRecord:
    return logging.LogRecord("x", level, __file__, 1, message, (), None)


def test_the_journal_gets_a_priority_on_every_line() -> None:
    journal = formatter(journal=True)
    assert journal.format(record(logging.INFO, "web: runs")) == "<6>web: runs"
    assert journal.format(record(logging.ERROR, "a\nb")) == "<3>a\n<3>b"


def test_elsewhere_a_line_has_time_and_level() -> None:
    line = formatter(journal=False).format(record(logging.WARNING, "web: slow"))
    assert line.split()[1:] == ["WARNING", "web:", "slow"]
