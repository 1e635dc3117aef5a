"""What is kept of a run that came to a bad end."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from reconciler import durable
from reconciler.layout import VMDir
from reconciler.model.crash import CrashReport
from reconciler.model.observed import ExitKind
from reconciler.storage import crashes

REPORT = CrashReport(
    ExitKind.CRASHED, "it ended", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z", "g1", "7.2", 42, signal=11
)


@pytest.fixture
def home(tmp_path: Path) -> VMDir:
    """A VM's directory, with logs."""
    home = VMDir(tmp_path / "web")
    home.path.mkdir()
    home.qemu_log.write_text("boom\n")
    home.serial_log.write_bytes(b"x" * crashes.TAIL_BYTES + b"last words\n")
    return home


def test_reason_logs_and_screen_lie_together(home: VMDir) -> None:
    home.screen.write_bytes(b"PNG")
    kept = crashes.keep(home, "20260101T000100.000Z", REPORT)
    assert json.loads(kept.reason.read_text())["signal"] == 11
    assert kept.qemu_log.read_text() == "boom\n"
    assert kept.serial_log.read_bytes().endswith(b"last words\n")
    assert kept.serial_log.stat().st_size == crashes.TAIL_BYTES
    assert kept.screen.read_bytes() == b"PNG"
    assert not home.screen.exists()


def test_without_a_screen_or_a_log_the_rest_is_kept(home: VMDir) -> None:
    home.qemu_log.unlink()
    kept = crashes.keep(home, "20260101T000100.000Z", REPORT)
    assert kept.reason.exists()
    assert not kept.screen.exists()


def kept(home: VMDir, minute: int, *, made_s: int | None = None) -> None:
    """Keep the run that was started in this minute; its report bears this time, its minute's if none is given."""
    report = crashes.keep(home, f"20260101T00{minute:02}00.000Z-42", REPORT).reason
    at_s = minute * 60 if made_s is None else made_s
    os.utime(report, (at_s, at_s))


def minutes(home: VMDir) -> list[str]:
    """Those that are there, by their minute."""
    return sorted(path.name[11:13] for path in home.crashes.iterdir())


def test_the_last_five_are_kept(home: VMDir) -> None:
    for minute in range(7):
        kept(home, minute)
    assert minutes(home) == ["02", "03", "04", "05", "06"]


def test_the_newest_is_kept_though_the_clock_went_back(home: VMDir) -> None:
    for minute in range(50, 55):
        kept(home, minute)
    kept(home, 1)
    assert minutes(home) == ["01", "51", "52", "53", "54"]


def test_what_they_are_called_says_nothing_of_their_order(home: VMDir) -> None:
    for minute in range(5):
        kept(home, minute, made_s=1000 - minute)
    kept(home, 9)
    assert minutes(home) == ["00", "01", "02", "03", "09"]


def test_one_that_a_dead_agent_left_without_a_report_counts_for_nothing_and_goes(home: VMDir) -> None:
    for minute in range(4):
        kept(home, minute)
    home.crash("20260101T005900.000Z-7").path.mkdir()
    kept(home, 5)
    assert minutes(home) == ["00", "01", "02", "03", "05"]


def test_an_attempt_that_fails_leaves_nothing_and_the_screen_where_it_was(
    home: VMDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.screen.write_bytes(b"PNG")
    monkeypatch.setattr(durable, "write", _full)
    with pytest.raises(OSError, match="full"):
        crashes.keep(home, "20260101T000100.000Z-42", REPORT)
    assert list(home.crashes.iterdir()) == []
    monkeypatch.undo()
    assert crashes.keep(home, "20260101T000100.000Z-42", REPORT).screen.read_bytes() == b"PNG"


def test_one_that_is_whole_is_not_written_again(home: VMDir, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = crashes.keep(home, "20260101T000100.000Z-42", REPORT)
    before = whole.qemu_log.stat()
    monkeypatch.setattr(durable, "write", _full)
    assert crashes.keep(home, "20260101T000100.000Z-42", REPORT) == whole
    assert whole.qemu_log.stat() == before


def _full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "full")


def test_one_that_is_made_again_is_one(home: VMDir) -> None:
    for _ in range(2):
        crashes.keep(home, "20260101T000100.000Z", REPORT)
    assert len(list(home.crashes.iterdir())) == 1
