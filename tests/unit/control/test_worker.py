"""The only retry policy: what a round's verdict makes of the next look."""

from __future__ import annotations

import threading
from collections.abc import Callable

from reconciler.control.queue import WorkQueue
from reconciler.control.worker import ROUNDS_AT_ONCE, Workers
from reconciler.model.plan import Verdict


class RecordingQueue(WorkQueue):
    """A queue that remembers when names were to come back, and never brings them back by time."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []
        self.counted = threading.Semaphore(0)

    def done(self, name: str, again_s: float | None) -> None:
        self.waits.append(again_s)
        super().done(name, 0.0 if again_s == 0 else None)
        self.counted.release()


def waits(look: Callable[[str, float], Verdict], rounds: int, adds: int = 1) -> list[float | None]:
    """Run so many rounds for one name; the waits that followed each."""
    queue = RecordingQueue()
    workers = Workers(queue, look, 1)
    workers.start()
    for n in range(rounds):
        if n < adds:
            queue.add("a")
        assert queue.counted.acquire(timeout=5)
    workers.stop()
    return queue.waits[:rounds]


def test_a_settled_round_waits_as_its_verdict_says() -> None:
    assert waits(lambda _name, _retry_s: Verdict(300.0, failed=False), 1) == [300.0]


def outcome(failed: bool, retry_s: float) -> Verdict:
    return Verdict(retry_s if failed else 7.0, failed=failed)


def test_failures_double_the_wait_and_a_success_forgets_them() -> None:
    failed = iter([True, True, True, True, False, True])
    assert waits(lambda _, retry_s: outcome(next(failed), retry_s), 6, adds=6) == [
        1.0,
        2.0,
        4.0,
        8.0,
        7.0,
        1.0,
    ]


def test_the_wait_ends_at_fifteen_seconds() -> None:
    assert waits(lambda _, retry_s: outcome(True, retry_s), 12, adds=12)[-1] == 15.0


def test_a_round_at_once_in_between_forgets_no_failure() -> None:
    """A start that fails each time, and each time is followed by taking back its intent."""
    failed = iter([True, False, True, False, True, False])

    def look(_: str, retry_s: float) -> Verdict:
        return Verdict(retry_s, failed=True) if next(failed) else Verdict(0.0, failed=False)

    assert waits(look, 5, adds=5) == [1.0, 0.0, 2.0, 0.0, 4.0]


def test_a_round_that_breaks_off_ends_nothing_and_is_tried_again() -> None:
    def broken(_name: str, _retry_s: float) -> Verdict:
        raise RuntimeError("a defect")

    assert waits(broken, 2, adds=2) == [1.0, 2.0]


def test_a_plan_that_never_ends_is_slowed_down() -> None:
    seen = waits(lambda _name, _retry_s: Verdict(0.0, failed=False), ROUNDS_AT_ONCE + 1)
    assert seen == [0.0] * ROUNDS_AT_ONCE + [1.0]


def test_workers_that_all_hang_do_not_work_and_one_that_does_is_enough() -> None:
    held, entered = threading.Event(), threading.Semaphore(0)

    def look(name: str, _retry_s: float) -> Verdict:
        entered.release()
        if name != "quick":
            held.wait(30)
        return Verdict(None, failed=False)

    queue = RecordingQueue()
    workers = Workers(queue, look, 2)
    workers.start()
    try:
        assert workers.work(hung_s=0)
        queue.add("slow")
        assert entered.acquire(timeout=5)
        assert workers.work(hung_s=0)
        queue.add("slow too")
        assert entered.acquire(timeout=5)
        assert not workers.work(hung_s=0)
        assert workers.work(hung_s=60)
    finally:
        held.set()
        workers.stop()


def test_workers_that_ended_do_not_work() -> None:
    workers = Workers(WorkQueue(), lambda _name, _retry_s: Verdict(None, failed=False), 1)
    workers.start()
    assert workers.work()
    workers.stop()
    assert not workers.work()
