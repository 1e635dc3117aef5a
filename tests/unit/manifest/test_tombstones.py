"""Deletions that somebody asked for: recorded first, carried on whatever happens, and the name taken until the end."""

from __future__ import annotations

from dataclasses import replace

from reconciler.manifest.departures import HoldReason, Rules
from reconciler.manifest.holdings import (
    Holdings,
    Tombstone,
    begun,
    entombed,
    fold,
    forgotten,
    resumed,
    withdrawn,
)
from reconciler.manifest.seen import RootState, Scan
from reconciler.model.vm import Removal
from tests.unit.manifest.scans import GIT_AT_WORK, good, scan, scan_of, unreadable, vm

RULES = Rules()
TEN = tuple(f"vm{n}" for n in range(10))


def held_in(*names: str) -> Holdings:
    return fold(Holdings("/manifests", "boot-1"), scan_of(*names), 0, RULES)


def condemned(*names: str, discard: bool = False) -> Holdings:
    """Holdings of these VMs, the first of which is to be deleted; its manifest is still there."""
    return entombed(held_in(*names), vm(names[0]), Tombstone("1", discard))


def look(holdings: Holdings, seen: Scan, now_s: float = 1) -> Holdings:
    return fold(holdings, seen, now_s, RULES)


def test_a_vm_is_wanted_until_its_manifest_is_gone() -> None:
    holdings = condemned("web", "db")
    assert holdings.wanted("web") == vm("web")
    assert holdings.unfinished == ("web",)
    assert look(holdings, scan_of("web", "db")).unfinished == ("web",)


def test_once_its_manifest_is_gone_it_is_removed_at_once_and_not_counted_by_the_brake() -> None:
    holdings = held_in(*TEN)
    for name in TEN[:9]:
        holdings = begun(entombed(holdings, vm(name), Tombstone("1", discard=False)), name)
    holdings = look(holdings, scan_of(TEN[9]))
    assert [n for n in TEN if isinstance(holdings.wanted(n), Removal)] == list(TEN[:9])
    assert not [e for e in holdings.entries.values() if e.hold]


def test_the_disks_are_deleted_only_where_that_was_asked_for() -> None:
    assert begun(condemned("web", discard=True), "web").wanted("web") == Removal(vm("web"), discard=True)
    assert begun(condemned("web"), "web").wanted("web") == Removal(vm("web"), discard=False)


def test_an_agent_that_died_after_the_manifest_was_gone_leaves_one_that_goes_on() -> None:
    left = resumed(condemned("web", "db"), "/manifests", "boot-1", 5)
    assert look(left, scan_of("db")).wanted("web") == Removal(vm("web"))


def test_it_goes_on_where_the_last_manifest_of_all_was_the_one_that_is_deleted() -> None:
    assert look(condemned("web"), Scan(RootState.PRESENT)).wanted("web") == Removal(vm("web"))


def test_it_waits_while_git_is_at_work_or_some_file_may_hold_the_name() -> None:
    holdings = condemned("web", "db")
    assert look(holdings, GIT_AT_WORK) == holdings
    doubtful = look(holdings, scan(db=good(vm("db")), other=unreadable("other.yaml")))
    assert doubtful.unfinished == ("web",)


def test_a_directory_that_goes_away_meanwhile_does_not_hold_it() -> None:
    gone = look(begun(condemned("web", "db"), "web"), Scan(RootState.MISSING))
    assert gone.wanted("web") == Removal(vm("web"))
    hold = gone.entries["db"].hold
    assert hold is not None
    assert hold.reason is HoldReason.ROOT_MISSING


def test_a_manifest_that_takes_the_name_meanwhile_counts_when_the_name_is_free() -> None:
    newcomer = scan(web=good(vm("web", generation="2")), db=good(vm("db")))
    holdings = look(begun(condemned("web", "db"), "web"), newcomer)
    assert holdings.wanted("web") == Removal(vm("web"))
    free = forgotten(holdings, "web")
    assert free.wanted("web") is None
    assert not free.tombstones
    assert look(free, newcomer).wanted("web") == vm("web", generation="2")


def test_a_deletion_that_cannot_be_had_is_withdrawn_and_the_vm_stays() -> None:
    assert withdrawn(condemned("web", "db"), "web") == held_in("web", "db")


def test_what_has_begun_is_not_withdrawn() -> None:
    holdings = begun(condemned("web"), "web")
    assert withdrawn(holdings, "web") == holdings


def test_a_vm_that_no_manifest_ever_described_can_be_deleted_too() -> None:
    holdings = begun(entombed(held_in("db"), vm("stray"), Tombstone("1", discard=False)), "stray")
    assert look(holdings, scan_of("db")).wanted("stray") == Removal(vm("stray"))


def test_a_held_vm_that_is_deleted_is_held_no_longer() -> None:
    lost = look(held_in("web", "db"), Scan(RootState.MISSING))
    holdings = begun(entombed(lost, vm("web"), Tombstone("1", discard=False)), "web")
    assert holdings.wanted("web") == Removal(vm("web"))
    assert replace(holdings.entries["web"], removing=False).hold is None
