"""What the fields of a manifest become in the model, and the other way round.

The JSON Schema judges each field by itself; its defaults are the model's. Next: `reconciler.manifest.cross_check`,
which judges them together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from reconciler.manifest.nodes import Value
from reconciler.model.vm import (
    Accel,
    BootDevice,
    DataDisk,
    DeletionPolicy,
    EjectPolicy,
    Link,
    NetworkType,
    Nic,
    PortForward,
    PowerState,
    Profile,
    Protocol,
    RestartPolicy,
    Shutdown,
    Throttle,
    UpdatePolicy,
    UpdateWindow,
    VMSpec,
    WatchdogAction,
    Weekday,
)

_WORDS = {device.value: device for device in BootDevice}
_LETTERS = {"c": BootDevice.HD, "d": BootDevice.CD, "n": BootDevice.NET}
_UNITS_S = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"([0-9]+)([dhms])")


@dataclass(frozen=True)
class Codec:
    """How one field is read into VMSpec's `attribute`, and how its value is written in a manifest.

    Any: the schema has checked the types by now, field by field.
    """

    attribute: str
    read: Callable[[Any], object]
    write: Callable[[Any], Value]


def spec_of(given: Mapping[str, Value]) -> VMSpec:
    """The spec of a manifest that the schema and `cross_check` have accepted, defaults filled in."""
    fields: dict[str, Any] = {"mount_iso": "isoPath" in given}
    fields |= {
        codec.attribute: codec.read(given[name])
        for name, codec in CODECS.items()
        if given.get(name) is not None
    }
    return VMSpec(**fields)


def written(spec: VMSpec) -> dict[str, Value]:
    """The fields that a manifest of this spec needs: those that differ from their defaults."""
    default = VMSpec(mount_iso=spec.iso_path is not None)
    return {
        name: codec.write(getattr(spec, codec.attribute))
        for name, codec in CODECS.items()
        if getattr(spec, codec.attribute) != getattr(default, codec.attribute)
    }


def says(spec: VMSpec, name: str, value: Value) -> bool:
    """Whether a spec says already what this value of a field would, in other words perhaps (`d` for `cd`)."""
    codec = CODECS[name]
    try:
        meant = codec.read(value)
    except (ValueError, OverflowError):  # a day that no calendar has; `cross_check` refuses it
        return False
    return bool(getattr(spec, codec.attribute) == meant)


def utc(text: Value) -> str | None:
    """An accepted time in UTC with microseconds, so that times compare as text."""
    if not isinstance(text, str):
        return None
    moment = datetime.fromisoformat(text.upper()).astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def _boot_order(text: str) -> tuple[BootDevice, ...]:
    words = text.split(",")
    if _WORDS.keys() >= set(words):
        return tuple(_WORDS[word] for word in words)
    return tuple(_LETTERS[letter] for letter in text)


def _port_forward(given: dict[str, Any]) -> PortForward:
    optional: dict[str, Any] = {}
    if "protocol" in given:
        optional["protocol"] = Protocol(given["protocol"])
    if "hostAddress" in given:
        optional["host_address"] = given["hostAddress"]
    return PortForward(int(given["hostPort"]), int(given["guestPort"]), **optional)


def _port_forward_written(forward: PortForward) -> Value:
    return {
        "hostPort": forward.host_port,
        "guestPort": forward.guest_port,
        "protocol": forward.protocol.value,
        "hostAddress": forward.host_address,
    }


def _shutdown(given: dict[str, Any]) -> Shutdown:
    return Shutdown(timeout_s=int(given["timeoutSeconds"])) if "timeoutSeconds" in given else Shutdown()


def _throttle(given: dict[str, Any]) -> Throttle:
    return Throttle(int(given.get("iops") or 0), int(given.get("mbps") or 0))


def _throttle_written(throttle: Throttle) -> dict[str, Value]:
    return {name: most for name, most in (("iops", throttle.iops), ("mbps", throttle.mbps)) if most}


def _disk(given: dict[str, Any]) -> DataDisk:
    return DataDisk(given["name"], int(given["size"]), _throttle(given))


def _disk_written(disk: DataDisk) -> Value:
    return {"name": disk.name, "size": disk.size_gib, **_throttle_written(disk.throttle)}


def _nic(given: dict[str, Any]) -> Nic:
    return Nic(given["name"], Link(given.get("link", Link.UP)))


def _nic_written(nic: Nic) -> Value:
    return {"name": nic.name, **({"link": nic.link.value} if nic.link is not Link.UP else {})}


def _window(given: dict[str, Any]) -> UpdateWindow:
    days = tuple(day for day in Weekday if day in given["days"])
    return UpdateWindow(days, _minute(given["from"]), _minute(given["to"]), given.get("timeZone", "UTC"))


def _window_written(window: UpdateWindow) -> Value:
    return {
        "days": [day.value for day in window.days],
        "from": _clock(window.start_minute),
        "to": _clock(window.end_minute),
        "timeZone": window.time_zone,
    }


def _minute(clock: str) -> int:
    hours, minutes = clock.split(":")
    return int(hours) * 60 + int(minutes)


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _seconds(duration: str) -> int:
    """`90m`, `1d12h`: days, hours, minutes, seconds, each at most once, in this order."""
    return sum(int(count) * _UNITS_S[unit] for count, unit in _DURATION.findall(duration))


def _duration(seconds: int) -> str:
    text = ""
    for unit, unit_s in _UNITS_S.items():
        count, seconds = divmod(seconds, unit_s)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def _number(attribute: str) -> Codec:
    """`int` turns 2048.0, a whole number, into 2048."""
    return Codec(attribute, int, int)


def _text(attribute: str, read: Callable[[Any], object] = str) -> Codec:
    return Codec(attribute, read, str)


def _word(attribute: str, words: type[StrEnum]) -> Codec:
    return Codec(attribute, words, lambda word: str(word.value))


def _flag(attribute: str) -> Codec:
    return Codec(attribute, bool, bool)


def _list(attribute: str, read: Callable[[Any], Any], write: Callable[[Any], Value]) -> Codec:
    """A list whose order means nothing."""
    return Codec(
        attribute, lambda given: tuple(sorted(map(read, given))), lambda some: [write(one) for one in some]
    )


CODECS: Mapping[str, Codec] = {
    "state": _word("state", PowerState),
    "memory": _number("memory_mib"),
    "cpuCores": _number("cpu_cores"),
    "diskSize": _number("disk_size_gib"),
    "networkType": _word("network_type", NetworkType),
    "portForwards": _list("port_forwards", _port_forward, _port_forward_written),
    "vncPort": _number("vnc_port"),
    "bootOrder": Codec("boot_order", _boot_order, ",".join),
    "isoPath": _text("iso_path"),
    "mountIso": _flag("mount_iso"),
    "ejectPolicy": _word("eject_policy", EjectPolicy),
    "maxMemory": _number("max_memory_mib"),
    "maxCpuCores": _number("max_cpu_cores"),
    "rootDisk": Codec("root_disk", _throttle, _throttle_written),
    "disks": _list("disks", _disk, _disk_written),
    "networkLink": _word("network_link", Link),
    "nics": _list("nics", _nic, _nic_written),
    "watchdog": Codec(
        "watchdog",
        lambda given: WatchdogAction(given.get("action", WatchdogAction.RESET)),
        lambda action: {"action": action.value},
    ),
    "profile": _word("profile", Profile),
    "accel": _word("accel", Accel),
    "updatePolicy": _word("update_policy", UpdatePolicy),
    "updateWindow": Codec("update_window", _window, _window_written),
    "restartPolicy": _word("restart_policy", RestartPolicy),
    "restartedAt": _text("restarted_at", utc),
    "shutdown": Codec("shutdown", _shutdown, lambda shutdown: {"timeoutSeconds": shutdown.timeout_s}),
    "dependsOn": _list("depends_on", str, str),
    "ttl": Codec("ttl_s", _seconds, _duration),
    "suspend": _flag("suspend"),
    "protect": _flag("protect"),
    "deletionPolicy": _word("deletion_policy", DeletionPolicy),
    "retainDays": _number("retain_days"),
}
