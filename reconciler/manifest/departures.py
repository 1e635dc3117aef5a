"""When a VM whose manifest is gone may go, and why it may not: absence, holds and the brake.

Pure. A VM is removed only after its name was absent for some time, and never together with many others: those
are held until somebody confirms. Next: `reconciler.manifest.holdings`, which applies this to a scan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from reconciler.model.vm import DesiredVM


@dataclass(frozen=True)
class Rules:
    """When a name that is absent may go: `confirm_s` between two scans without it; and the brake.

    The brake: within `brake_window_s`, more than `brake_vms` VMs and more than `brake_percent` of all.
    """

    confirm_s: float = 10.0
    brake_window_s: float = 600.0
    brake_vms: int = 1
    brake_percent: int = 20

    def too_many(self, going: int, total: int) -> bool:
        """Whether so many VMs must not go without a word."""
        return going > self.brake_vms and going * 100 > total * self.brake_percent


DEFAULT_RULES = Rules()


class HoldReason(StrEnum):
    """Why a VM whose manifest is gone is not removed."""

    ROOT_MISSING = "RootMissing"
    ROOT_UNREADABLE = "RootUnreadable"
    ROOT_NOT_A_DIRECTORY = "RootNotADirectory"
    ROOT_EMPTY = "RootEmpty"
    ROOT_CHANGED = "RootChanged"
    BRAKE = "Brake"
    PROTECTED = "Protected"
    FILE_UNKNOWN = "FileUnknown"
    """It is not known what some file holds; the only hold that ends by itself."""


@dataclass(frozen=True)
class Hold:
    """A removal that waits. `detail` is the file, the former root or the count that the reason speaks of."""

    reason: HoldReason
    detail: str = ""


@dataclass(frozen=True)
class Entry:
    """One VM: its last good version, since when its name has been absent, and what was decided about it."""

    last: DesiredVM
    absent_since_s: float | None = None
    hold: Hold | None = None
    removing: bool = False

    @property
    def settled(self) -> bool:
        """Decided: on its way out, or held until somebody confirms or the manifest comes back."""
        return self.removing or (self.hold is not None and self.hold.reason is not HoldReason.FILE_UNKNOWN)

    @property
    def waiting(self) -> bool:
        """Absent and not decided: time will tell."""
        return self.absent_since_s is not None and not self.settled

    @property
    def confirmable(self) -> bool:
        """Held in a way that `prune --confirm` ends."""
        return (
            self.hold is not None
            and self.hold.reason not in (HoldReason.PROTECTED, HoldReason.FILE_UNKNOWN)
            and not self.last.spec.protect
        )

    def absent_for_s(self, now_s: float) -> float:
        """How long the name has been absent; 0 for one that is not."""
        return 0.0 if self.absent_since_s is None else now_s - self.absent_since_s

    def held(self, hold: Hold, now_s: float) -> Entry:
        """The entry with its removal held. What was decided before stays; `protect` is the first reason."""
        if self.settled:
            return self
        since_s = now_s if self.absent_since_s is None else self.absent_since_s
        reason = Hold(HoldReason.PROTECTED) if self.last.spec.protect else hold
        return replace(self, hold=reason, absent_since_s=since_s)

    def doubtful(self, file: str) -> Entry:
        """The entry while `file` may hold its name unseen: its time starts anew when all is known."""
        return self if self.settled else Entry(self.last, hold=Hold(HoldReason.FILE_UNKNOWN, file))

    def absent(self, now_s: float) -> Entry:
        """The entry after a sound scan without its name."""
        if self.settled:
            return self
        return Entry(self.last, now_s if self.absent_since_s is None else self.absent_since_s)


@dataclass(frozen=True)
class Departure:
    """A removal that nobody asked for but a missing manifest; the brake counts it for some time."""

    name: str
    at_s: float


@dataclass(frozen=True)
class Judgement:
    """What becomes of the absent VMs, and the departures that the brake counts from now on."""

    entries: Mapping[str, Entry]
    departures: tuple[Departure, ...]


def judge(
    missing: Mapping[str, Entry], present: int, departures: tuple[Departure, ...], now_s: float, rules: Rules
) -> Judgement:
    """Decide about the names that a sound scan did not show, where `present` others were there.

    Those that were absent long enough go; all of them are held if they are too many; and if they would be
    too many with those whose time is not up yet, all wait for the last one.
    """
    entries = {name: _protected(entry.absent(now_s), now_s, rules) for name, entry in missing.items()}
    waiting = {name for name, entry in entries.items() if entry.waiting}
    ripe = {name for name in waiting if entries[name].absent_for_s(now_s) >= rules.confirm_s}
    gone = {d.name for d in departures} | _held_lately(entries, now_s, rules)
    total = present + len(entries.keys() | {d.name for d in departures})
    if rules.too_many(len(gone | ripe), total):
        hold = Hold(HoldReason.BRAKE, f"{len(gone | waiting)} of {total}")
        return Judgement(entries | {n: entries[n].held(hold, now_s) for n in ripe}, departures)
    if rules.too_many(len(gone | waiting), total):
        return Judgement(entries, departures)
    leaving = {name: replace(entries[name], removing=True) for name in ripe}
    return Judgement(entries | leaving, (*departures, *(Departure(n, now_s) for n in sorted(ripe))))


def _protected(entry: Entry, now_s: float, rules: Rules) -> Entry:
    ripe = entry.absent_for_s(now_s) >= rules.confirm_s
    return entry.held(Hold(HoldReason.PROTECTED), now_s) if ripe and entry.last.spec.protect else entry


def _held_lately(entries: Mapping[str, Entry], now_s: float, rules: Rules) -> set[str]:
    """What would have gone within the window, had it not been held."""
    return {n for n, e in entries.items() if e.confirmable and e.absent_for_s(now_s) < rules.brake_window_s}
