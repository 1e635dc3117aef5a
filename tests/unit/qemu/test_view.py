"""What is made of QEMU's answers, good and bad."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from reconciler.model.errors import QemuError
from reconciler.model.observed import CdDrive, QemuView
from reconciler.qemu.view import NOBODY_AT_HOME, observe, view
from tests.unit.qemu.samples import UUID

STATUS = {"status": "running", "running": True, "singlestep": False}
DISK = {"device": "", "qdev": "/machine/peripheral/disk0/virtio-backend", "inserted": {"node-name": "disk0"}}
EMPTY = {"device": "", "qdev": "cd0", "locked": False, "tray_open": False, "removable": True}
LOADED = {**EMPTY, "locked": True, "inserted": {"node-name": "iso-1", "file": "/dev/fdset/3"}}


class Qemu:
    """Answers from a table, and remembers what it was asked."""

    def __init__(self, **answers: object) -> None:
        self.answers = {"query-uuid": {"UUID": UUID}, "query-status": STATUS, "query-block": [DISK, EMPTY]}
        self.answers.update({k.replace("_", "-"): v for k, v in answers.items()})
        self.asked: list[str] = []

    def __call__(
        self, command: str, arguments: Mapping[str, object] | None = None, *, fd: int | None = None
    ) -> object:
        assert fd is None
        self.asked.append(command)
        return self.answers[command]


@pytest.mark.parametrize("state", sorted(NOBODY_AT_HOME))
def test_where_no_guest_runs_three_questions_and_no_more_give_the_view(state: str) -> None:
    qemu = Qemu(query_status={**STATUS, "status": state})
    assert observe(qemu, UUID.upper()) == QemuView(state, CdDrive(None, tray_open=False, locked=False))
    assert sorted(qemu.asked) == ["query-block", "query-status", "query-uuid"]


def test_the_medium_is_known_by_its_node() -> None:
    assert view(STATUS, [LOADED, DISK]).cd == CdDrive("iso-1", tray_open=False, locked=True)


def test_an_open_tray_is_seen() -> None:
    assert view(STATUS, [{**LOADED, "tray_open": True}]).cd == CdDrive("iso-1", tray_open=True, locked=True)


def test_a_qemu_without_our_drive_has_none() -> None:
    assert view(STATUS, [DISK]).cd is None


def test_another_vms_qemu_is_not_taken_for_this_one() -> None:
    qemu = Qemu(query_uuid={"UUID": "00000000-0000-0000-0000-000000000000"})
    with pytest.raises(QemuError, match="another VM's"):
        observe(qemu, UUID)
    assert qemu.asked == ["query-uuid"]


@pytest.mark.parametrize(
    "answers",
    [
        {"query_uuid": None},
        {"query_uuid": {"UUID": 5}},
        {"query_status": []},
        {"query_status": {"status": None}},
        {"query_status": {}},
        {"query_block": {}},
        {"query_block": [5]},
        {"query_block": [{**LOADED, "inserted": "iso"}]},
    ],
)
def test_an_answer_that_is_none_is_an_error_and_no_crash(answers: dict[str, object]) -> None:
    with pytest.raises(QemuError, match="is not understood"):
        observe(Qemu(**answers), UUID)
