"""The work queue's promises: no event lost, no name in two hands, the latest time counts."""

from __future__ import annotations

import threading
import time

import pytest

from reconciler.control.queue import WorkQueue


def test_a_name_added_twice_is_handed_out_once() -> None:
    queue = WorkQueue()
    queue.add("a")
    queue.add("a")
    assert queue.get() == "a"
    queue.done("a", None)
    assert queue.idle()


def test_names_come_in_the_order_they_were_added() -> None:
    queue = WorkQueue()
    for name in "cab":
        queue.add(name)
    assert [queue.get() for _ in range(3)] == ["c", "a", "b"]


def test_a_name_added_while_in_progress_is_handed_out_again_only_afterwards() -> None:
    queue = WorkQueue()
    queue.add("a")
    assert queue.get() == "a"
    queue.add("a")
    queue.add("b")
    assert queue.get() == "b"
    queue.done("a", None)
    assert queue.get() == "a"


@pytest.mark.parametrize("again_s", [0.0, -3.0])
def test_a_name_that_wants_another_look_at_once_gets_it(again_s: float) -> None:
    queue = WorkQueue()
    queue.add("a")
    assert queue.get() == "a"
    queue.done("a", again_s)
    assert queue.idle() is False
    assert queue.get() == "a"


def test_a_name_comes_back_when_its_time_has_come_and_not_before() -> None:
    queue = WorkQueue()
    queue.add("a")
    assert queue.get() == "a"
    began = time.monotonic()
    queue.done("a", 0.05)
    assert queue.idle()
    assert queue.get() == "a"
    assert time.monotonic() - began >= 0.05


def test_the_time_set_by_the_latest_look_replaces_earlier_ones() -> None:
    queue = WorkQueue()
    queue.add("a")
    assert queue.get() == "a"
    queue.done("a", 0.01)
    queue.add("a")  # something happened meanwhile
    assert queue.get() == "a"
    queue.done("a", 3600)
    queue.add("b")
    assert queue.get() == "b"
    queue.done("b", 0.05)
    assert queue.get() == "b", "the old time of `a` still counts"


def test_a_waiting_worker_is_woken_by_an_add_and_by_the_end() -> None:
    queue = WorkQueue()
    got: list[str | None] = []
    worker = threading.Thread(target=lambda: got.extend([queue.get(), queue.get()]))
    worker.start()
    queue.add("a")
    queue.close()
    worker.join(5)
    assert not worker.is_alive()
    assert got[-1] is None


def test_no_name_is_ever_in_two_hands() -> None:
    queue = WorkQueue()
    busy: set[str] = set()
    counts: dict[str, int] = {}
    clashes: list[str] = []
    guard = threading.Lock()

    def work() -> None:
        while (name := queue.get()) is not None:
            with guard:
                clashes.extend([name] if name in busy else [])
                busy.add(name)
                counts[name] = counts.get(name, 0) + 1
            time.sleep(0)
            with guard:
                busy.discard(name)
            queue.done(name, None)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for n in range(2000):
        queue.add(f"vm{n % 3}")
    while not queue.idle():
        time.sleep(0.001)
    queue.close()
    for worker in workers:
        worker.join(5)
    assert clashes == []
    assert set(counts) == {"vm0", "vm1", "vm2"}
