"""The pure parts of the command line's output: selectors, tables, descriptions."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from reconciler.api import views
from reconciler.cli import selector
from reconciler.cli.client import _refusal
from reconciler.cli.description import describe_vm
from reconciler.cli.output import counted, plain_table
from reconciler.cli.vms import NARROW, WIDE, note, uptime
from reconciler.cli.writes import patience
from reconciler.model.errors import SettingsError
from reconciler.model.status import VMState
from tests.contract.memory_controller import desired, status_of

LABELS = {"tier": "web", "gpu": ""}


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("tier=web", True),
        ("tier==web", True),
        ("tier=db", False),
        ("tier!=db", True),
        ("zone!=a", True),
        ("gpu", True),
        ("!gpu", False),
        ("!old", True),
        ("tier=web, !old", True),
        ("tier=web,zone=a", False),
        ("gpu=", True),
    ],
)
def test_a_selector_selects_as_kubectls_does(text: str, selected: bool) -> None:
    assert selector.parse(text)(LABELS) is selected


@pytest.mark.parametrize("text", ["", "a=b=c", "!a=b", "a b", "=x", "a,,b"])
def test_a_selector_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="-l: found"):
        selector.parse(text)


def test_columns_are_aligned_and_never_cut() -> None:
    lines = plain_table(["NAME", "NOTE"], [["a" * 200, ""], ["b", "x"]])
    assert lines == ["NAME" + " " * 199 + "NOTE", "a" * 200, "b" + " " * 202 + "x"]


@pytest.mark.parametrize(
    ("started", "shown"),
    [
        (None, "-"),
        ("2026-01-01T00:00:00.000Z", "0s"),
        ("2025-12-31T23:59:38.000Z", "22s"),
        ("2025-12-31T23:58:58.000Z", "1m2s"),
        ("2025-12-31T21:59:00.000Z", "2h1m"),
        ("2025-12-28T21:00:00.000Z", "3d3h"),
        ("2026-01-01T00:00:09.000Z", "0s"),
    ],
)
def test_uptime_has_two_units_and_is_never_negative(started: str | None, shown: str) -> None:
    assert uptime(started, datetime(2026, 1, 1, tzinfo=UTC)) == shown


def shown(*conditions: tuple[str, str, str]) -> dict[str, Any]:
    return {"conditions": [{"type": t, "status": s, "reason": r, "message": ""} for t, s, r in conditions]}


@pytest.mark.parametrize(
    ("vm", "said"),
    [
        (shown(("Ready", "True", "Running")), ""),
        (shown(("Ready", "False", "Crashed")), "Crashed"),
        (shown(("Ready", "False", "X"), ("Stalled", "True", "DiskShrink")), "Stalled: DiskShrink"),
        (
            shown(("Ready", "True", "Running"), ("RestartRequired", "True", "Pending")),
            "RestartRequired: Pending",
        ),
        (shown(("Stalled", "False", "x")), ""),
        (shown(("Ready", "True", "Running"), ("HostReachable", "True", "SameUser")), "HostReachable"),
        (shown(("Ready", "False", "Crashed"), ("HostReachable", "True", "SameUser")), "Crashed"),
    ],
)
def test_the_note_is_what_is_not_as_it_should_be(vm: dict[str, Any], said: str) -> None:
    assert note(vm) == said


def test_the_note_names_the_fields_that_wait_for_a_restart() -> None:
    vm = shown(("Ready", "True", "Running"), ("RestartRequired", "True", "PendingChanges"))
    vm["conditions"][1]["message"] = "memory: 256 → 300"
    assert note(vm) == "RestartRequired: memory: 256 → 300"


def test_notes_are_the_last_column_however_wide_the_table() -> None:
    assert NARROW[-1][0] == WIDE[-1][0] == "NOTE"
    assert set(NARROW) < set(WIDE)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"error": "no"}, "no"),
        (
            {"error": "no", "details": [{"field": "force", "message": "must be true"}]},
            "no\n  force: must be true",
        ),
        ({"error": "no", "details": [{"field": "", "message": "not JSON"}]}, "no\n  not JSON"),
        (
            {
                "error": "no: a.yaml:1:1: x: bad",
                "details": [
                    {"field": "x", "message": "a.yaml:1:1: x: bad"},
                    {"field": "y", "message": "a.yaml:2:1: y: worse"},
                ],
            },
            "no: a.yaml:1:1: x: bad\n  a.yaml:2:1: y: worse",
        ),
    ],
)
def test_a_refusal_says_everything_once(answer: dict[str, Any], text: str) -> None:
    assert _refusal(answer) == text


def test_patience_is_told_after_a_while_and_not_before(capsys: pytest.CaptureFixture[str]) -> None:
    with patience("at once", seconds=60.0):
        pass
    with patience("still waiting", seconds=0.0):
        time.sleep(0.2)
    assert capsys.readouterr().err == "still waiting\n"


@pytest.mark.parametrize(("number", "text"), [(0, "0 files"), (1, "1 file"), (2, "2 files")])
def test_counts_read_as_a_person_says_them(number: int, text: str) -> None:
    assert counted(number, "file") == text


def test_every_vm_can_be_shown_also_one_of_which_nothing_is_known() -> None:
    for status in (
        status_of(desired("a"), "a", VMState.RUNNING, pid=7),
        status_of(None, "a", VMState.UNKNOWN),
    ):
        vm = views.vm_in_full(status)
        assert all(
            isinstance(cell(vm), str) and cell(vm) != "None"
            for title, cell in WIDE
            if title not in {"NOTE", "LABELS"}
        )
        text = describe_vm(vm)
        assert text.startswith("Name:")
        assert "None" not in text


def test_the_description_names_pid_and_place() -> None:
    text = describe_vm(views.vm_in_full(status_of(desired("a"), "a", VMState.RUNNING, pid=7)))
    assert "running (pid 7)" in text
    assert "/manifests/a.yaml:3" in text
