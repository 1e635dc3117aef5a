"""Speaking with a QEMU that somebody else started: an `Execute` that puts its names in place of ours, and back.

So `view`, `hardware`, `live` and `media` need not know of it. What has no name of ours is shown under one that none of
our devices can have: a disk that somebody called `disk-1` is no data disk of a manifest, and is not to be unplugged.
Pure but for the session it wraps. Next: `reconciler.model.observed.Foreign`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from reconciler.model.errors import QmpError
from reconciler.model.observed import Foreign
from reconciler.model.vm import BootDevice
from reconciler.qemu.answers import Answer, Execute, mapping, mappings
from reconciler.qemu.devices import BOOT_DEVICES, FIRST_NETDEV
from reconciler.qemu.hardware import PERIPHERAL

NETWORK = re.compile(r"Hub -?\d+ \(([^)]+)\):")
NOT_OURS = "foreign:"
_FORWARDING = re.compile(rf"(hostfwd_(?:add|remove)) {FIRST_NETDEV} ")
_OURS = f"{PERIPHERAL}/"
Arguments = Mapping[str, object]


def translated(execute: Execute, foreign: Foreign, uuid: str) -> Execute:
    """The session, for functions that know devices by our names only; `uuid` is ours for this VM."""
    return _Translator(execute, foreign, uuid)


@dataclass(frozen=True)
class _Translator:
    execute: Execute
    foreign: Foreign
    uuid: str

    def __call__(self, command: str, arguments: Arguments | None = None, *, fd: int | None = None) -> object:
        asks_boot_index = command == "qom-get" and dict(arguments or {}).get("property") == "bootindex"
        try:
            answer = self.execute(command, arguments and self._theirs(command, arguments), fd=fd)
        except QmpError:
            if asks_boot_index:  # what is not there is not booted from
                return -1
            raise
        return self._ours(command, arguments or {}, answer)

    # ---- what we say ----------------------------------------------------------------------------

    def _theirs(self, command: str, arguments: Arguments) -> Arguments:
        match command, arguments:
            case (("qom-get" | "qom-set"), {"path": str(path)}) if path.startswith(_OURS):
                device = path.removeprefix(_OURS)
                return {**arguments, "path": self.foreign.paths.get(device, f"{_OURS}{NOT_OURS}{device}")}
            case "set_link", {"name": str(name)}:
                known = self.foreign.netdev if name == BOOT_DEVICES[BootDevice.NET] else None
                return {**arguments, "name": known or name}
            case "human-monitor-command", {"command-line": str(line)} if self.foreign.netdev:
                netdev = self.foreign.netdev
                return {**arguments, "command-line": _FORWARDING.sub(lambda m: f"{m[1]} {netdev} ", line)}
            case (
                ("block_set_io_throttle" | "blockdev-open-tray" | "blockdev-close-tray"),
                {"id": str(name)},
            ):
                return {**arguments, "id": self.foreign.ids.get(name, name)}
            case (("blockdev-insert-medium" | "blockdev-remove-medium"), {"id": str(name)}):
                return {**arguments, "id": self.foreign.ids.get(name, name)}
        return arguments

    # ---- what it answers --------------------------------------------------------------------------

    def _ours(self, command: str, arguments: Arguments, answer: object) -> object:
        match command:
            case "query-uuid":
                return self._identified(mapping(answer, command))
            case "query-block":
                return [self._drive(drive) for drive in mappings(answer, command)]
            case "query-named-block-nodes":
                return [_hidden(node, "node-name", "disk-") for node in mappings(answer, command)]
            case "query-chardev":  # our guest agent's channel, it has none
                return [_hidden(one, "label", "") for one in mappings(answer, command)]
            case "qom-list" if arguments.get("path") == PERIPHERAL:
                return self._devices(mappings(answer, command))
            case "human-monitor-command" if arguments.get("command-line") == "info usernet":
                return NETWORK.sub(self._network, str(answer))
        return answer

    def _identified(self, answer: Answer) -> Answer:
        same = str(answer.get("UUID")).lower() == self.foreign.uuid
        return {**answer, "UUID": self.uuid} if same else answer

    def _drive(self, drive: Answer) -> Answer:
        if "qdev" not in drive:
            return drive
        known = {theirs: ours for ours, theirs in self.foreign.ids.items()}
        inserted = drive.get("inserted")
        seen = {**drive, "qdev": known.get(str(drive["qdev"]), f"{NOT_OURS}{drive['qdev']}")}
        if isinstance(inserted, dict) and (ours := self.foreign.media.get(str(inserted.get("node-name")))):
            seen["inserted"] = {**inserted, "node-name": ours}
        return seen

    def _devices(self, listed: list[Answer]) -> list[Answer]:
        others = [{**one, "name": f"{NOT_OURS}{one.get('name')}"} for one in listed]
        return [*others, *({"name": ours, "type": "child<device>"} for ours in self.foreign.paths)]

    def _network(self, found: re.Match[str]) -> str:
        ours = found[1] == self.foreign.netdev
        return f"Hub -1 ({FIRST_NETDEV if ours else NOT_OURS + found[1]}):"


def _hidden(answer: Answer, member: str, prefix: str) -> Answer:
    """The answer, with what could be taken for ours under another name."""
    value = str(answer.get(member))
    return {**answer, member: NOT_OURS + value} if value.startswith(prefix) else answer
