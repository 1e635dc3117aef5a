"""What the manifests hold: the last good version of every VM, and what becomes of it from scan to scan.

Pure: `fold` turns the holdings before a scan into those after it. A directory or a file that went missing,
broke or cannot be read removes nothing; whoever is held stays in force.
Next: `reconciler.manifest.catalog`, which keeps the holdings on disk.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from reconciler.manifest.claims import Claim, Claims, FileMemory, claims_of
from reconciler.manifest.departures import Departure, Entry, Hold, HoldReason, Judgement, Rules, judge
from reconciler.manifest.dependencies import Settled, settled
from reconciler.manifest.seen import RootState, Scan
from reconciler.model.vm import DesiredVM, Removal, Wanted

_BY_ROOT = {
    RootState.MISSING: HoldReason.ROOT_MISSING,
    RootState.UNREADABLE: HoldReason.ROOT_UNREADABLE,
    RootState.NOT_A_DIRECTORY: HoldReason.ROOT_NOT_A_DIRECTORY,
}


@dataclass(frozen=True)
class Tombstone:
    """Somebody asked for this VM to be deleted, as it was in this generation. `discard`: its disks as well.

    `stamp` tells its file from one that is made anew with the same words.
    It comes before the manifest goes and stays until nothing is left of the VM; until then the name is taken.
    """

    generation: str
    discard: bool
    stamp: str = ""


@dataclass(frozen=True)
class Holdings:
    """All that is remembered of the manifests below `root`.

    `files` are the names that each file holds. Times are seconds since the boot `boot_id`. `former_root` is
    the directory that the entries come from, until the first sound scan of another one.
    """

    root: str
    boot_id: str
    former_root: str = ""
    entries: Mapping[str, Entry] = field(default_factory=dict)
    files: Mapping[str, FileMemory] = field(default_factory=dict)
    departures: tuple[Departure, ...] = ()
    tombstones: Mapping[str, Tombstone] = field(default_factory=dict)

    def wanted(self, name: str) -> Wanted:
        """What is wanted of a name: its last good version, also while it is held; its removal; or nothing."""
        entry = self.entries.get(name)
        if entry is None:
            return None
        if not entry.removing:
            return entry.last
        tombstone = self.tombstones.get(name)
        if tombstone is None:
            return Removal(entry.last)
        return Removal(entry.last, tombstone.discard, asked=True)

    @property
    def unfinished(self) -> tuple[str, ...]:
        """The names that are to be deleted, and whose manifest may be there still."""
        entries = self.entries
        return tuple(name for name in self.tombstones if name in entries and not entries[name].removing)


def resumed(holdings: Holdings, root: str, boot_id: str, now_s: float) -> Holdings:
    """The holdings as a newly started agent takes them over.

    After a boot absences start anew. From another directory nothing is concluded: what it lacks will be held.
    """
    if holdings.boot_id != boot_id:
        holdings = _after_boot(holdings, boot_id, now_s)
    if holdings.root != root:
        former = holdings.former_root or holdings.root
        holdings = replace(holdings, root=root, former_root="" if former == root else former, files={})
    return holdings


def fold(before: Holdings, scan: Scan, now_s: float, rules: Rules) -> Holdings:
    """The holdings after one more scan, made at `now_s`."""
    if not scan.settled:
        return before
    if scan.root is not RootState.PRESENT:
        return _all_held(before, Hold(_BY_ROOT[scan.root]), now_s)
    claims = claims_of(scan, before.files)
    before = _tombs_closed(before, claims)
    claims = _without_buried(claims, before)
    if not claims.by_name and not claims.unknown:
        return replace(_all_held(before, Hold(HoldReason.ROOT_EMPTY), now_s), files=claims.files)
    present = _present(before, claims)
    judgement = _absent(before, claims, present.keys(), now_s, rules)
    entries = dict(sorted({**present, **judgement.entries}.items()))
    return replace(
        before, former_root="", entries=entries, files=claims.files, departures=judgement.departures
    )


def confirmed(holdings: Holdings, names: Collection[str]) -> Holdings:
    """The holdings after somebody said that these VMs shall go. What is protected or not held stays."""
    entries = {
        name: replace(entry, hold=None, removing=True) if name in names and entry.confirmable else entry
        for name, entry in holdings.entries.items()
    }
    return replace(holdings, entries=entries)


def forgotten(holdings: Holdings, name: str) -> Holdings:
    """The holdings after a VM that was being removed is gone. One whose manifest came back stays."""
    entry = holdings.entries.get(name)
    if entry is None or not entry.removing:
        return holdings
    entries, tombstones = dict(holdings.entries), dict(holdings.tombstones)
    del entries[name]
    tombstones.pop(name, None)
    return replace(holdings, entries=entries, tombstones=tombstones)


def without(holdings: Holdings, name: str) -> Holdings:
    """The holdings after a VM got another name: nothing was removed, and the old name is nobody's."""
    return replace(holdings, entries={n: entry for n, entry in holdings.entries.items() if n != name})


def entombed(holdings: Holdings, vm: DesiredVM, tombstone: Tombstone) -> Holdings:
    """The holdings after somebody asked for this VM to be deleted; its manifest is still to be taken away."""
    return replace(
        holdings,
        entries={vm.name: Entry(vm), **holdings.entries},
        tombstones={**holdings.tombstones, vm.name: tombstone},
    )


def withdrawn(holdings: Holdings, name: str) -> Holdings:
    """The holdings after a deletion was given up, since the manifest could not be taken away."""
    if name not in holdings.unfinished:
        return holdings
    return replace(holdings, tombstones={n: t for n, t in holdings.tombstones.items() if n != name})


def begun(holdings: Holdings, name: str) -> Holdings:
    """The holdings once the manifest of a VM that is to be deleted is gone: nothing holds the VM any more."""
    if name not in holdings.tombstones:
        return holdings
    entry = replace(holdings.entries[name], hold=None, removing=True)
    return replace(holdings, entries={**holdings.entries, name: entry})


def next_look_s(holdings: Holdings, now_s: float, rules: Rules) -> float | None:
    """In how many seconds the next absence is old enough to be acted upon; None if there is none."""
    waiting = (e for e in holdings.entries.values() if e.waiting)
    due_s = (rules.confirm_s - e.absent_for_s(now_s) for e in waiting)
    return min((due for due in due_s if due > 0), default=None)


def _tombs_closed(before: Holdings, claims: Claims) -> Holdings:
    """A VM that is to be deleted is on its way once no file can hold it: an agent died before it could say so."""
    for name in before.unfinished:
        if name not in claims.by_name and not claims.unknown:
            before = begun(before, name)
    return before


def _without_buried(claims: Claims, before: Holdings) -> Claims:
    """The claims without those to a name that is still being deleted: they count when it is free."""
    buried = before.tombstones.keys() - set(before.unfinished)
    return replace(claims, by_name={n: rivals for n, rivals in claims.by_name.items() if n not in buried})


def _present(before: Holdings, claims: Claims) -> dict[str, Entry]:
    """The VMs that some file holds: on their new version where exactly one claim is there and can be used."""
    return {name: Entry(vm) for name, vm in in_order(before, claims).in_force.items()}


def in_order(before: Holdings, claims: Claims) -> Settled:
    """The version of each VM that counts now, and what keeps others from it."""
    offered = {name: vm for name, rivals in claims.by_name.items() if (vm := _undisputed(rivals))}
    known = {name: before.entries[name].last for name in claims.by_name if name in before.entries}
    return settled(offered, known)


def _undisputed(rivals: tuple[Claim, ...]) -> DesiredVM | None:
    return rivals[0].vm if len(rivals) == 1 else None


def _absent(
    before: Holdings, claims: Claims, present: Collection[str], now_s: float, rules: Rules
) -> Judgement:
    missing = {name: entry for name, entry in before.entries.items() if name not in claims.by_name}
    if before.former_root:
        hold = Hold(HoldReason.ROOT_CHANGED, before.former_root)
        missing = {name: entry.held(hold, now_s) for name, entry in missing.items()}
    oldest_s = now_s - rules.brake_window_s
    departures = tuple(d for d in before.departures if d.at_s > oldest_s and d.name not in present)
    if claims.unknown:
        file = claims.unknown[0]
        return Judgement({name: entry.doubtful(file) for name, entry in missing.items()}, departures)
    return judge(missing, len(present), departures, now_s, rules)


def _all_held(before: Holdings, hold: Hold, now_s: float) -> Holdings:
    return replace(before, entries={n: e.held(hold, now_s) for n, e in before.entries.items()})


def _after_boot(holdings: Holdings, boot_id: str, now_s: float) -> Holdings:
    """Times of another boot say nothing: what waits starts anew, what the brake counts does so from now."""
    entries = {
        name: replace(entry, absent_since_s=now_s if entry.settled else None)
        for name, entry in holdings.entries.items()
    }
    departures = tuple(replace(d, at_s=now_s) for d in holdings.departures)
    return replace(holdings, boot_id=boot_id, entries=entries, departures=departures)
