"""The times at which a VM that keeps ending is started again, over many rounds, by a clock that is handed in.

Between any two rounds the agent is another one: all that it knows of the VM was read back from disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from reconciler.converge.planner import make_plan
from reconciler.layout import Layout
from reconciler.model.observed import Alive, Gone
from reconciler.model.plan import Launch, Wish
from reconciler.model.vm import DesiredVM, PowerState, RestartPolicy, VMSpec
from reconciler.storage.records import Records
from tests.unit.converge.model_host import Host, desired, stopped

START_S = 1000.0


@dataclass
class Story:
    """A VM whose QEMU ends `ran_s` after each start, looked after by a new agent each round."""

    host: Host
    records: Records
    ran_s: float = 0.0
    ends: Gone = Gone(1, "no such luck")  # noqa: RUF009 - frozen

    def round(self, wanted: DesiredVM, wish: Wish | None = None) -> bool:
        """One round; whether it started the VM."""
        if isinstance(self.host.seen.process, Alive):
            self.host.wait(self.ran_s)
            self.host.seen = replace(self.host.seen, process=self.ends)
        plan = make_plan(wanted, self.host.look(wanted), wish)
        for action in plan.actions:
            self.host.act(action)
        self._another_agent(wanted.name)
        if not plan.actions:
            assert plan.look_again_s is not None, "nothing would ever happen again"
            self.host.wait(plan.look_again_s)
        return any(isinstance(action, Launch) for action in plan.actions)

    def starts(self, wanted: DesiredVM) -> Iterator[float]:
        """The times of the starts, in seconds from the first look."""
        while True:
            now_s = self.host.seen.now_s
            if self.round(wanted):
                yield now_s - START_S

    def _another_agent(self, name: str) -> None:
        self.records.save_lifecycle(name, self.host.seen.lifecycle)
        known = self.records.lifecycle(name)
        assert known is not None
        self.host.seen = replace(self.host.seen, lifecycle=known)


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """Of a VM that was made and never ran."""
    return Story(Host(stopped(desired(), START_S)), Records(Layout(tmp_path, tmp_path)))


def first(count: int, starts: Iterator[float]) -> list[float]:
    return [next(starts) for _ in range(count)]


def test_at_once_then_ten_seconds_doubling_to_five_minutes(story: Story) -> None:
    waits = [0, 10, 20, 40, 80, 160, 300, 300, 300]
    times = [sum(waits[:n]) for n in range(len(waits) + 1)]
    assert first(10, story.starts(desired())) == times


def test_time_that_it_ran_is_not_waited_for_again(story: Story) -> None:
    story.ran_s = 5
    assert first(4, story.starts(desired())) == [0, 5, 20, 45]


def test_ten_healthy_minutes_begin_anew(story: Story) -> None:
    assert first(5, story.starts(desired()))[-1] == 70
    story.ran_s = 600
    assert first(3, story.starts(desired())) == [670, 1270, 1870]


def test_an_edit_tries_at_once_and_begins_anew(story: Story) -> None:
    first(6, story.starts(desired()))
    story.round(desired())
    now_s = story.host.seen.now_s - START_S
    assert first(3, story.starts(desired(generation="g2"))) == [now_s, now_s, now_s + 10]


def test_an_explicit_start_tries_at_once_and_begins_anew(story: Story) -> None:
    first(6, story.starts(desired()))
    story.round(desired())
    now_s = story.host.seen.now_s - START_S
    assert story.round(desired(), Wish.START)
    assert first(2, story.starts(desired())) == [now_s, now_s + 10]


def test_a_stop_ends_it(story: Story) -> None:
    first(4, story.starts(desired()))
    story.round(desired())
    off = desired(VMSpec(state=PowerState.STOPPED), "g2")
    memory = make_plan(off, story.host.seen)
    for action in memory.actions:
        story.host.act(action)
    plan = make_plan(off, story.host.seen)
    assert (plan.actions, plan.look_again_s) == ((), None)
    assert story.host.seen.lifecycle.failures == 0


def test_a_boot_of_the_host_tries_at_once(story: Story) -> None:
    first(6, story.starts(desired()))
    story.round(desired())
    story.host.seen = replace(story.host.seen, boot_id="boot-2", now_s=20.0)
    assert story.round(desired())


def test_a_vm_that_is_quit_from_outside_again_and_again_does_not_spin(story: Story) -> None:
    wanted = desired(VMSpec(restart_policy=RestartPolicy.ALWAYS))
    story.ends = Gone(0, shutdown_reason="host-qmp-quit")
    assert first(5, story.starts(wanted)) == [0, 0, 10, 30, 70]
