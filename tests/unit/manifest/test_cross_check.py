"""What must hold between the fields of a manifest."""

from __future__ import annotations

import pytest

from reconciler.manifest.cross_check import cross_check
from reconciler.manifest.fields import spec_of, written
from reconciler.manifest.nodes import Value
from reconciler.model.vm import (
    DataDisk,
    Link,
    Nic,
    Throttle,
    UpdatePolicy,
    UpdateWindow,
    VMSpec,
    WatchdogAction,
    Weekday,
)

WINDOW: Value = {"days": ["sun", "sat"], "from": "22:30", "to": "05:00", "timeZone": "Europe/Berlin"}


def nics(count: int) -> Value:
    return [{"name": f"n{index}"} for index in range(count)]


DATA: Value = {"name": "a", "size": 1}
LAN: Value = {"name": "a"}


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        ({"memory": 512, "maxMemory": 256}, "maxMemory", "256, less than memory: 512, expected 512 or more"),
        ({"maxMemory": 1024}, "maxMemory", "1024, less than memory: 2048"),
        ({"maxCpuCores": 1}, "maxCpuCores", "1, less than cpuCores: 2"),
        ({"disks": [DATA, DATA]}, "disks.1.name", "a a second time"),
        ({"nics": [LAN, LAN]}, "nics.1.name", "a a second time"),
        ({"nics": nics(8), "disks": [DATA]}, "disks", "9 disks and nics, expected 8"),
        ({"nics": nics(9)}, "nics", "9 disks and nics"),
        ({"updatePolicy": "window"}, "updatePolicy", "window, expected updateWindow as well"),
        (
            {"updateWindow": {"timeZone": "Moon/Tycho"}},
            "updateWindow.timeZone",
            '"Moon/Tycho", expected a name',
        ),
        ({"updateWindow": {"timeZone": "../etc/passwd"}}, "updateWindow.timeZone", "expected a name such as"),
    ],
)
def test_what_does_not_go_together_is_named_with_its_field(
    given: dict[str, Value], field: str, words: str
) -> None:
    (complaint,) = cross_check(given)
    assert ".".join(map(str, complaint.path)) == f"spec.{field}"
    assert words in str(complaint)


@pytest.mark.parametrize(
    "given",
    [
        {"memory": 512, "maxMemory": 512},
        {"nics": nics(7), "disks": [DATA]},
        {"updatePolicy": "window", "updateWindow": WINDOW},
        {
            "disks": None,
            "nics": None,
            "updateWindow": None,
            "rootDisk": None,
            "watchdog": None,
            "dependsOn": None,
        },
    ],
)
def test_what_goes_together_passes(given: dict[str, Value]) -> None:
    assert list(cross_check(given)) == []


def test_the_fields_of_devices_and_policies_are_read_and_written_back() -> None:
    given: dict[str, Value] = {
        "maxMemory": 4096,
        "maxCpuCores": 4,
        "rootDisk": {"iops": 100},
        "disks": [{"name": "data", "size": 3, "mbps": 5}],
        "networkLink": "down",
        "nics": [{"name": "lan", "link": "down"}, {"name": "dmz"}],
        "watchdog": {"action": "pause"},
        "updatePolicy": "window",
        "updateWindow": WINDOW,
        "dependsOn": ["b", "a"],
        "ttl": "1d90s",
    }
    spec = spec_of(given)
    assert spec == VMSpec(
        max_memory_mib=4096,
        max_cpu_cores=4,
        root_disk=Throttle(iops=100),
        disks=(DataDisk("data", 3, Throttle(mbps=5)),),
        network_link=Link.DOWN,
        nics=(Nic("dmz"), Nic("lan", Link.DOWN)),
        watchdog=WatchdogAction.PAUSE,
        update_policy=UpdatePolicy.WINDOW,
        update_window=UpdateWindow((Weekday.SAT, Weekday.SUN), 22 * 60 + 30, 300, "Europe/Berlin"),
        depends_on=("a", "b"),
        ttl_s=86490,
    )
    again = written(spec)
    assert again["ttl"] == "1d1m30s"
    assert spec_of(again) == spec


def test_a_watchdog_without_a_word_resets() -> None:
    assert spec_of({"watchdog": {}}).watchdog is WatchdogAction.RESET
