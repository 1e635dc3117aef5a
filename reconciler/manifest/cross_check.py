"""What must hold between the fields of a manifest, beyond what its JSON Schema says of each by itself.

Used by `reconciler.manifest.decode`, after the schema has had its say.
"""

from __future__ import annotations

import zoneinfo
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reconciler.manifest.fields import utc
from reconciler.manifest.nodes import FieldPath, Value
from reconciler.manifest.schema import Complaint
from reconciler.model.vm import PLUGGABLE_MAX, UpdatePolicy, VMSpec

_ANY_ADDRESS = "0.0.0.0"  # noqa: S104  (a word in a manifest; nothing is bound here)
_LOOPBACK = "127.0.0.1"


def cross_check(given: Mapping[str, Value]) -> Iterator[Complaint]:
    """What is wrong between the fields of a spec. Fields that the schema refuses are passed over."""
    if given.get("mountIso") is True and "isoPath" not in given:
        yield Complaint(("spec", "mountIso"), "true without an ISO", "isoPath as well, or mountIso: false")
    yield from _bad_time(given.get("restartedAt"))
    yield from _clashes(given)
    yield from _below(given, "maxMemory", "memory", VMSpec().memory_mib)
    yield from _below(given, "maxCpuCores", "cpuCores", VMSpec().cpu_cores)
    yield from _doubles(given, "disks")
    yield from _doubles(given, "nics")
    yield from _too_many(given)
    yield from _bad_window(given)


def _below(given: Mapping[str, Value], most: str, now: str, default: int) -> Iterator[Complaint]:
    limit, value = given.get(most), given.get(now, default)
    if isinstance(limit, int) and isinstance(value, int) and limit < value:
        yield Complaint(("spec", most), f"{limit}, less than {now}: {value}", f"{value} or more")


def _doubles(given: Mapping[str, Value], field: str) -> Iterator[Complaint]:
    entries = given.get(field)
    seen: set[Value] = set()
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        name = entry.get("name") if isinstance(entry, dict) else None
        if isinstance(name, str) and name in seen:
            yield Complaint(
                ("spec", field, index, "name"), f"{name} a second time", "a name of its own for each"
            )
        elif isinstance(name, str):
            seen.add(name)


def _too_many(given: Mapping[str, Value]) -> Iterator[Complaint]:
    disks, nics = (given.get(field) for field in ("disks", "nics"))
    count = sum(len(entries) for entries in (disks, nics) if isinstance(entries, list))
    if count > PLUGGABLE_MAX:
        field = "disks" if isinstance(disks, list) else "nics"
        yield Complaint(
            ("spec", field), f"{count} disks and nics", f"{PLUGGABLE_MAX} of both together at most"
        )


def _bad_window(given: Mapping[str, Value]) -> Iterator[Complaint]:
    window = given.get("updateWindow")
    if given.get("updatePolicy") == UpdatePolicy.WINDOW and not isinstance(window, dict):
        yield Complaint(("spec", "updatePolicy"), "window", "updateWindow as well: its days and hours")
    zone = window.get("timeZone") if isinstance(window, dict) else None
    if isinstance(zone, str) and not _is_zone(zone):
        yield Complaint(
            ("spec", "updateWindow", "timeZone"), f'"{zone[:64]}"', "a name such as Europe/Berlin or UTC"
        )


def _is_zone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _bad_time(text: Value) -> Iterator[Complaint]:
    try:
        utc(text)
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
