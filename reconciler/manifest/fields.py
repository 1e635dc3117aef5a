"""What the fields of a manifest become in the model, and what must hold between them.

The JSON Schema judges each field by itself; its defaults are the model's. Next: `reconciler.manifest.decode`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from reconciler.manifest.nodes import FieldPath, Value
from reconciler.manifest.schema import Complaint
from reconciler.model.vm import (
    Accel,
    BootDevice,
    DeletionPolicy,
    NetworkType,
    PortForward,
    PowerState,
    Profile,
    Protocol,
    RestartPolicy,
    Shutdown,
    VMSpec,
)

_WORDS = {device.value: device for device in BootDevice}
_LETTERS = {"c": BootDevice.HD, "d": BootDevice.CD, "n": BootDevice.NET}
_ANY_ADDRESS = "0.0.0.0"  # noqa: S104  (a word in a manifest; nothing is bound here)
_LOOPBACK = "127.0.0.1"


def spec_of(given: Mapping[str, Value]) -> VMSpec:
    """The spec of a manifest that the schema and `cross_check` have accepted, defaults filled in."""
    fields: dict[str, Any] = {"mount_iso": "isoPath" in given}
    fields |= {
        attribute: convert(given[name])
        for name, (attribute, convert) in _FIELDS.items()
        if given.get(name) is not None
    }
    return VMSpec(**fields)


def written(spec: VMSpec) -> dict[str, Value]:
    """The fields that a manifest of this spec needs: those that differ from their defaults."""
    default = VMSpec(mount_iso=spec.iso_path is not None)
    return {
        name: _plain(getattr(spec, attribute))
        for name, (attribute, _) in _FIELDS.items()
        if getattr(spec, attribute) != getattr(default, attribute)
    }


def _plain(value: object) -> Value:
    """A value of the model as it stands in a manifest."""
    match value:
        case Enum():
            return str(value.value)
        case Shutdown(timeout_s=timeout_s):
            return {"timeoutSeconds": timeout_s}
        case PortForward():
            return {
                "hostPort": value.host_port,
                "guestPort": value.guest_port,
                "protocol": value.protocol.value,
                "hostAddress": value.host_address,
            }
        case tuple() if all(isinstance(one, BootDevice) for one in value):
            return ",".join(value)
        case tuple():
            return [_plain(one) for one in value]
        case bool() | int() | str():
            return value
        case _:
            raise TypeError(f"no manifest holds {value!r}")


def says(spec: VMSpec, name: str, value: Value) -> bool:
    """Whether a spec says already what this value of a field would, in other words perhaps (`d` for `cd`)."""
    attribute, convert = _FIELDS[name]
    try:
        meant = convert(value)
    except (ValueError, OverflowError):  # a day that no calendar has; `cross_check` refuses it
        return False
    return bool(getattr(spec, attribute) == meant)


def cross_check(given: Mapping[str, Value]) -> Iterator[Complaint]:
    """What is wrong between the fields of a spec. Fields that the schema refuses are passed over."""
    if given.get("mountIso") is True and "isoPath" not in given:
        yield Complaint(("spec", "mountIso"), "true without an ISO", "isoPath as well, or mountIso: false")
    yield from _bad_time(given.get("restartedAt"))
    yield from _clashes(given)


def _bad_time(text: Value) -> Iterator[Complaint]:
    try:
        _utc(text)
    except (ValueError, OverflowError):
        yield Complaint(("spec", "restartedAt"), f'"{str(text)[:64]}"', "a day that the calendar has")


def _clashes(given: Mapping[str, Value]) -> Iterator[Complaint]:
    taken: dict[tuple[int, str], list[_Listener]] = defaultdict(list)
    for listener in _listeners(given):
        others = taken[listener.port, listener.protocol]
        if other := next((one for one in others if one.clashes(listener)), None):
            found = f"port {listener.port}, which {other.called} has already"
            yield Complaint(listener.path, found, "a port of the host for each")
        else:
            others.append(listener)


def _listeners(given: Mapping[str, Value]) -> Iterator[_Listener]:
    """The ports of the host that a VM listens on, as far as they can be read."""
    vnc_port, forwards = given.get("vncPort"), given.get("portForwards")
    if isinstance(vnc_port, int):
        yield _Listener(("spec", "vncPort"), _LOOPBACK, vnc_port, "tcp")
    for index, forward in enumerate(forwards if isinstance(forwards, list) else ()):
        listener = _listener(("spec", "portForwards", index, "hostPort"), forward)
        if listener is not None:
            yield listener


@dataclass(frozen=True)
class _Listener:
    """A port of the host that the VM would listen on."""

    path: FieldPath
    address: str
    port: int
    protocol: str

    @property
    def called(self) -> str:
        """The field, as people write it."""
        return "vncPort" if self.path[1] == "vncPort" else f"portForwards[{self.path[2]}]"

    def clashes(self, other: _Listener) -> bool:
        """Whether two listeners on one port and protocol cannot be had."""
        return self.address == other.address or _ANY_ADDRESS in (self.address, other.address)


def _listener(path: FieldPath, forward: Value) -> _Listener | None:
    if not isinstance(forward, dict):
        return None
    port, address = forward.get("hostPort"), forward.get("hostAddress", _LOOPBACK)
    protocol = forward.get("protocol", "tcp")
    if isinstance(port, int) and isinstance(address, str) and isinstance(protocol, str):
        return _Listener(path, address, port, protocol)
    return None


def _utc(text: Value) -> str | None:
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


def _port_forwards(given: list[dict[str, Any]]) -> tuple[PortForward, ...]:
    return tuple(sorted(map(_port_forward, given)))


def _port_forward(given: dict[str, Any]) -> PortForward:
    optional: dict[str, Any] = {}
    if "protocol" in given:
        optional["protocol"] = Protocol(given["protocol"])
    if "hostAddress" in given:
        optional["host_address"] = given["hostAddress"]
    return PortForward(int(given["hostPort"]), int(given["guestPort"]), **optional)


def _shutdown(given: dict[str, Any]) -> Shutdown:
    return Shutdown(timeout_s=int(given["timeoutSeconds"])) if "timeoutSeconds" in given else Shutdown()


# Any: the schema has checked the types by now, field by field. `int` turns 2048.0, a whole number, into 2048.
_FIELDS: Mapping[str, tuple[str, Callable[[Any], object]]] = {
    "state": ("state", PowerState),
    "memory": ("memory_mib", int),
    "cpuCores": ("cpu_cores", int),
    "diskSize": ("disk_size_gib", int),
    "networkType": ("network_type", NetworkType),
    "portForwards": ("port_forwards", _port_forwards),
    "vncPort": ("vnc_port", int),
    "bootOrder": ("boot_order", _boot_order),
    "isoPath": ("iso_path", str),
    "mountIso": ("mount_iso", bool),
    "profile": ("profile", Profile),
    "accel": ("accel", Accel),
    "restartPolicy": ("restart_policy", RestartPolicy),
    "restartedAt": ("restarted_at", _utc),
    "shutdown": ("shutdown", _shutdown),
    "suspend": ("suspend", bool),
    "protect": ("protect", bool),
    "deletionPolicy": ("deletion_policy", DeletionPolicy),
    "retainDays": ("retain_days", int),
}
