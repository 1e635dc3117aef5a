"""What is remembered of a change that QEMU or the guest cannot be asked for afterwards."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.adjust import (
    ASK_AGAIN_MAX_S,
    PlugNic,
    ResizeDisk,
    SetLink,
    SetMemory,
    SetReboot,
    SetWatchdog,
    Unplug,
    remembered,
)
from reconciler.model.observed import Lifecycle
from reconciler.model.vm import Link, Nic
from tests.unit.converge.model_host import desired, record

MEMORY = Lifecycle(launch=record(desired()))


def told(memory: Lifecycle) -> dict[str, str]:
    assert memory.launch
    return memory.launch.told


def test_what_qemu_can_be_asked_for_is_not_remembered() -> None:
    assert remembered(MEMORY, ResizeDisk("x", "disk0", 5), 1.0) == MEMORY


def test_what_qemu_was_told_is_remembered_by_subject() -> None:
    down = remembered(MEMORY, SetLink("x", "nic0", Link.DOWN), 1.0)
    both = remembered(remembered(down, SetWatchdog("x", "pause"), 2.0), SetReboot("x", "shutdown"), 3.0)
    assert told(both) == {"link:nic0": "down", "watchdog": "pause", "reboot": "shutdown"}
    assert told(remembered(both, SetLink("x", "nic0", Link.UP), 4.0))["link:nic0"] == "up"


def test_a_card_that_is_plugged_in_anew_has_its_cable_plugged_in() -> None:
    down = remembered(MEMORY, SetLink("x", "nic-lan", Link.DOWN), 1.0)
    assert told(remembered(down, PlugNic("x", Nic("lan"), 0), 2.0)) == {"link:nic-lan": "up"}


def test_without_a_launch_there_is_nothing_that_could_be_told() -> None:
    assert remembered(Lifecycle(), SetReboot("x", "shutdown"), 1.0) == Lifecycle()


def test_what_the_guest_was_asked_for_is_asked_again_ever_more_rarely() -> None:
    ask = Unplug("x", "disk-data", asks="disk-data")
    memory, now_s, waits = MEMORY, 100.0, []
    for _ in range(8):
        memory = remembered(memory, ask, now_s)
        asked = memory.asked["disk-data"]
        assert asked.since_s == 100.0
        waits.append(asked.again_s - now_s)
        now_s = asked.again_s
    assert waits == [10, 20, 40, 80, 160, ASK_AGAIN_MAX_S, ASK_AGAIN_MAX_S, ASK_AGAIN_MAX_S]


def test_another_wish_of_the_same_subject_begins_anew_and_the_same_by_other_means_does_not() -> None:
    first = remembered(MEMORY, SetMemory("x", 0, 5, 200, asks="memory"), 100.0)
    again = remembered(first, SetMemory("y", 0, 4, 200, asks="memory"), 110.0)
    other = remembered(again, SetMemory("z", 0, 4, 300, asks="memory"), 120.0)
    assert [m.asked["memory"].since_s for m in (first, again, other)] == [100.0, 100.0, 120.0]
    assert other.asked["memory"] == replace(other.asked["memory"], times=1, what="300 MiB")
