"""The board: the latest status of each VM, and waiting for one."""

from __future__ import annotations

import threading
from dataclasses import replace

from reconciler.control.board import Board
from reconciler.model.status import VMState, VMStatus

STATUS = VMStatus(
    name="web",
    state=VMState.STARTING,
    desired=None,
    conditions=(),
    pending=(),
    process=None,
    started_at=None,
    vnc_port=None,
    disk_size_bytes=None,
    forwarded_ports=frozenset(),
    uuid=None,
    last_exit=None,
    failures=0,
    next_try_in_s=None,
    medium_inserted=False,
    observed_generation=None,
    settled=False,
    plan="",
    round=1,
)


def test_the_latest_status_counts_and_all_are_sorted() -> None:
    board = Board()
    board.publish(STATUS)
    board.publish(replace(STATUS, name="db"))
    board.publish(replace(STATUS, state=VMState.RUNNING))
    assert [(s.name, s.state) for s in board.all()] == [("db", "starting"), ("web", "running")]
    board.drop("web")
    assert board.get("web") is None


def test_a_waiter_sees_the_status_that_it_waits_for() -> None:
    board = Board()
    board.publish(STATUS)
    seen: list[VMStatus | None] = []

    def wait() -> None:
        seen.append(board.wait_for("web", lambda s: s is not None and s.state is VMState.RUNNING, 10))

    waiter = threading.Thread(target=wait)
    waiter.start()
    board.publish(replace(STATUS, round=2))
    board.publish(replace(STATUS, state=VMState.RUNNING, round=3))
    waiter.join(10)
    assert [s.round for s in seen if s] == [3]


def test_a_wait_in_vain_gives_what_is_there() -> None:
    board = Board()
    board.publish(STATUS)
    assert board.wait_for("web", lambda s: s is None, 0.01) == STATUS
    assert not board.wait_for_all(lambda _: False, 0.01)
    board.drop("web")
    assert board.wait_for("web", lambda s: s is None, 0.01) is None
