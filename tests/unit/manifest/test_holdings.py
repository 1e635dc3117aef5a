"""The rules by which a VM outlives its manifest, or does not: manifest.md, "When a manifest goes away"."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.manifest.claims import FileMemory
from reconciler.manifest.departures import HoldReason, Rules
from reconciler.manifest.holdings import Holdings, confirmed, fold, forgotten, next_look_s, resumed
from reconciler.manifest.seen import FileView, RootState, Scan
from reconciler.model.vm import DesiredVM, Removal
from tests.unit.manifest.scans import (
    BEING_WRITTEN,
    GIT_AT_WORK,
    broken,
    good,
    scan,
    scan_of,
    unreadable,
    vm,
)

RULES = Rules()
EMPTY = Scan(RootState.PRESENT)
TEN = tuple(f"vm{n}" for n in range(10))


def after(*scans: tuple[float, Scan], start: Holdings | None = None) -> Holdings:
    """The holdings after these scans, each at its time."""
    holdings = start or Holdings("/manifests", "boot-1")
    for now_s, seen in scans:
        holdings = fold(holdings, seen, now_s, RULES)
    return holdings


def removed(holdings: Holdings) -> list[str]:
    return [name for name in holdings.entries if isinstance(holdings.wanted(name), Removal)]


def held(holdings: Holdings) -> dict[str, HoldReason]:
    return {name: e.hold.reason for name, e in holdings.entries.items() if e.hold is not None}


# ---- one VM goes -------------------------------------------------------------------------------------


def test_a_vm_is_removed_when_its_name_was_absent_in_two_scans_ten_seconds_apart() -> None:
    holdings = after((0, scan_of("web", "db")), (5, scan_of("db")), (15, scan_of("db")))
    assert holdings.wanted("web") == Removal(vm("web"))
    assert holdings.wanted("db") == vm("db")


def test_nine_seconds_are_not_enough_however_many_scans_there_are() -> None:
    absent = [(5.0 + n, scan_of("db")) for n in range(10)]
    assert removed(after((0, scan_of("web", "db")), *absent)) == []


def test_an_absence_that_a_return_interrupted_starts_anew() -> None:
    holdings = after(
        (0, scan_of("web", "db")), (5, scan_of("db")), (10, scan_of("web", "db")), (16, scan_of("db"))
    )
    assert removed(holdings) == []
    assert removed(after((26, scan_of("db")), start=holdings)) == ["web"]


def test_the_next_look_is_due_when_the_absence_is_old_enough() -> None:
    holdings = after((0, scan_of("web", "db")), (5, scan_of("db")))
    assert next_look_s(holdings, 5, RULES) == 10
    assert next_look_s(holdings, 12, RULES) == 3
    assert next_look_s(after((0, scan_of("web"))), 0, RULES) is None


def test_scans_while_git_is_at_work_say_nothing() -> None:
    before = after((0, scan_of("web", "db")), (5, scan_of("db")))
    assert after((20, GIT_AT_WORK), start=before) == before


def test_a_vm_that_moves_between_files_is_not_touched() -> None:
    moved = scan(other=good(vm("web", "other.yaml"), vm("db", "other.yaml")))
    holdings = after((0, scan_of("web", "db")), (5, moved), (30, moved))
    assert holdings.wanted("web") == vm("web", "other.yaml")
    assert not held(holdings)
    assert holdings.files == {"other.yaml": FileMemory(("db", "web"), was_sound=True)}


def test_a_new_name_in_the_same_file_is_another_vm() -> None:
    renamed = scan(web=good(vm("shop", "web.yaml")), db=good(vm("db")))
    holdings = after((0, scan_of("web", "db")), (5, renamed), (15, renamed))
    assert holdings.wanted("shop") == vm("shop", "web.yaml")
    assert removed(holdings) == ["web"]


def test_nothing_is_wanted_of_a_name_that_no_manifest_ever_said() -> None:
    assert after((0, scan_of("web"))).wanted("db") is None


# ---- broken, unreadable and half-written files ---------------------------------------------------------


@pytest.mark.parametrize("view", [broken("web.yaml"), unreadable("web.yaml"), BEING_WRITTEN])
def test_a_file_that_breaks_counts_as_holding_what_it_held(view: FileView) -> None:
    seen = scan(web=view, db=good(vm("db")))
    holdings = after((0, scan_of("web", "db")), (5, seen), (50, seen))
    assert holdings.wanted("web") == vm("web")
    assert not held(holdings)


def test_a_broken_file_does_not_hinder_the_removal_of_others() -> None:
    seen = scan(web=broken("web.yaml"), db=good(vm("db")))
    holdings = after((0, scan_of("web", "db", "old")), (5, seen), (15, seen))
    assert removed(holdings) == ["old"]


def test_a_vm_that_moved_into_a_file_that_is_broken_from_the_start_stays() -> None:
    seen = scan(new=broken("new.yaml", "web"), db=good(vm("db")))
    assert after((0, scan_of("web", "db")), (5, seen), (50, seen)).wanted("web") == vm("web")


def test_while_it_is_unknown_what_a_file_holds_nothing_is_removed() -> None:
    unknown = scan(new=broken("new.yaml"), db=good(vm("db")))
    holdings = after((0, scan_of("web", "db")), (5, scan_of("db")), (16, unknown), (60, unknown))
    assert held(holdings) == {"web": HoldReason.FILE_UNKNOWN}
    assert holdings.wanted("web") == vm("web")


def test_an_absence_is_timed_anew_once_all_is_known_again() -> None:
    unknown = scan(new=broken("new.yaml"), db=good(vm("db")))
    holdings = after((0, scan_of("web", "db")), (5, scan_of("db")), (14, unknown), (16, scan_of("db")))
    assert not removed(holdings)
    assert not held(holdings)
    assert removed(after((26, scan_of("db")), start=holdings)) == ["web"]


def test_an_unreadable_sub_directory_holds_what_was_below_it_and_stops_all_removal() -> None:
    below = Scan(RootState.PRESENT, {"a/web.yaml": good(vm("web", "a/web.yaml")), "db.yaml": good(vm("db"))})
    lost = Scan(RootState.PRESENT, {"a/": unreadable("a/")})
    holdings = after((0, below), (5, lost), (50, lost))
    assert holdings.wanted("web") == vm("web", "a/web.yaml")
    assert held(holdings) == {"db": HoldReason.FILE_UNKNOWN}


def test_the_good_documents_of_a_broken_file_count() -> None:
    new = vm("web", generation="2")
    half = replace(broken("web.yaml", "web"), vms=(new,))
    seen = scan(web=half, db=good(vm("db")))
    assert after((0, scan_of("web", "db")), (5, seen)).wanted("web") == new


# ---- two documents of one name ---------------------------------------------------------------------------


def test_of_two_documents_of_one_name_neither_wins() -> None:
    twice = scan(web=good(vm("web", generation="2")), copy=good(vm("web", "copy.yaml", generation="3")))
    holdings = after((0, scan_of("web")), (5, twice), (50, twice))
    assert holdings.wanted("web") == vm("web")
    assert after((60, scan_of("web")), start=holdings).wanted("web") == vm("web")


def test_a_name_that_was_described_twice_from_the_start_is_not_wanted() -> None:
    twice = scan(web=good(vm("web")), copy=good(vm("web", "copy.yaml")))
    assert after((0, twice)).wanted("web") is None


# ---- directories that go -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (RootState.MISSING, HoldReason.ROOT_MISSING),
        (RootState.UNREADABLE, HoldReason.ROOT_UNREADABLE),
        (RootState.NOT_A_DIRECTORY, HoldReason.ROOT_NOT_A_DIRECTORY),
        (RootState.PRESENT, HoldReason.ROOT_EMPTY),
    ],
)
@pytest.mark.parametrize("names", [("demo",), ("web", "db", "shop")])
def test_a_directory_that_is_gone_or_empty_removes_nothing(
    state: RootState, reason: HoldReason, names: tuple[str, ...]
) -> None:
    holdings = after((0, scan_of(*names)), (5, Scan(state)), (5000, Scan(state)))
    assert held(holdings) == dict.fromkeys(names, reason)
    assert all(holdings.wanted(name) == vm(name) for name in names)


def test_a_directory_that_never_had_a_manifest_holds_nothing() -> None:
    assert after((0, EMPTY), (50, EMPTY)).entries == {}


def test_what_an_emptied_directory_held_stays_held_when_other_manifests_appear() -> None:
    holdings = after((0, scan_of("demo")), (5, EMPTY), (10, scan_of("new")), (50, scan_of("new")))
    assert held(holdings) == {"demo": HoldReason.ROOT_EMPTY}


def test_a_manifest_that_comes_back_ends_its_hold() -> None:
    holdings = after((0, scan_of("web", "db")), (5, Scan(RootState.MISSING)), (10, scan_of("web", "db")))
    assert not held(holdings)
    assert next_look_s(holdings, 10, RULES) is None


def test_another_manifests_directory_removes_nothing_of_the_former() -> None:
    elsewhere = resumed(after((0, scan_of("web", "db"))), "/other", "boot-1", 5)
    assert not held(elsewhere)
    holdings = after((5, scan_of("db", "new")), (50, scan_of("db", "new")), start=elsewhere)
    assert held(holdings) == {"web": HoldReason.ROOT_CHANGED}
    assert holdings.wanted("new") == vm("new")


# ---- the brake ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "gone", "stays_held"),
    [
        (10, 2, False),
        (10, 3, True),
        (2, 1, False),
        (3, 2, True),
        (50, 10, False),
        (50, 11, True),
    ],
)
def test_more_than_one_and_more_than_a_fifth_are_held(total: int, gone: int, stays_held: bool) -> None:
    names = [f"vm{n:02}" for n in range(total)]
    left = scan_of(*names[gone:])
    holdings = after((0, scan_of(*names)), (5, left), (15, left))
    assert removed(holdings) == ([] if stays_held else names[:gone])
    assert held(holdings) == (dict.fromkeys(names[:gone], HoldReason.BRAKE) if stays_held else {})


def test_the_brake_counts_the_removals_of_the_last_ten_minutes() -> None:
    times = (0, 5, 15, 200, 210, 400, 410)
    steps = [scan_of(*TEN), scan_of(*TEN[1:]), scan_of(*TEN[1:]), scan_of(*TEN[2:]), scan_of(*TEN[2:])]
    steps += [scan_of(*TEN[3:]), scan_of(*TEN[3:])]
    holdings = after(*zip(times, steps, strict=True))
    assert removed(holdings) == ["vm0", "vm1"]
    assert held(holdings) == {"vm2": HoldReason.BRAKE}


def test_a_broken_file_that_names_a_removed_vm_does_not_bring_it_back_for_the_brake() -> None:
    four = {name: good(vm(name)) for name in TEN[:4]}
    without_first = {name: view for name, view in four.items() if name != "vm0"}
    gone = forgotten(after((0, scan(**four)), (5, scan(**without_first)), (15, scan(**without_first))), "vm0")
    named = {"other": broken("other.yaml", "vm0"), "vm2": four["vm2"], "vm3": four["vm3"]}
    holdings = after((20, scan(**named)), (30, scan(**named)), start=gone)
    assert removed(holdings) == []
    assert held(holdings) == {"vm1": HoldReason.BRAKE}


def test_the_brake_forgets_what_was_removed_more_than_ten_minutes_ago() -> None:
    gone = after((0, scan_of(*TEN)), (5, scan_of(*TEN[2:])), (15, scan_of(*TEN[2:])))
    for name in TEN[:2]:
        gone = forgotten(gone, name)
    holdings = after((700, scan_of(*TEN[3:])), (710, scan_of(*TEN[3:])), start=gone)
    assert removed(holdings) == ["vm2"]


def test_removals_that_follow_each_other_wait_for_the_last_and_are_held_together() -> None:
    steps = [(float(n), scan_of(*TEN[n:])) for n in range(4)]
    holdings = after(*steps, (11, scan_of(*TEN[3:])), (12.5, scan_of(*TEN[3:])))
    assert removed(holdings) == []
    holdings = after((13, scan_of(*TEN[3:])), start=holdings)
    assert held(holdings) == dict.fromkeys(TEN[:3], HoldReason.BRAKE)


def test_one_removal_waits_while_many_others_are_absent_for_a_moment_and_then_goes() -> None:
    few, many = scan_of(*TEN[5:]), scan_of(*TEN[1:])
    holdings = after((0, scan_of(*TEN)), (5, many), (14, few), (15.5, few))
    assert not removed(holdings)
    assert not held(holdings)
    assert removed(after((16, many), start=holdings)) == ["vm0"]


def test_what_the_brake_holds_stays_held_for_ever_without_a_word() -> None:
    few = scan_of(*TEN[5:])
    holdings = after((0, scan_of(*TEN)), (5, few), (15, few), (100_000, few))
    assert held(holdings) == dict.fromkeys(TEN[:5], HoldReason.BRAKE)
    assert all(isinstance(holdings.wanted(name), DesiredVM) for name in TEN)


# ---- confirmation, protection, the end -----------------------------------------------------------------


def test_confirmed_names_go_and_the_others_stay_held() -> None:
    holdings = after((0, scan_of("web", "db")), (5, EMPTY))
    holdings = confirmed(holdings, ["web", "stranger"])
    assert removed(holdings) == ["web"]
    assert held(holdings) == {"db": HoldReason.ROOT_EMPTY}
    assert removed(after((6, EMPTY), start=holdings)) == ["web"]


def test_a_confirmed_removal_is_not_counted_by_the_brake() -> None:
    few = scan_of(*TEN[4:])
    holdings = confirmed(after((0, scan_of(*TEN)), (5, few), (15, few)), TEN[:4])
    less = scan_of(*TEN[5:])
    assert removed(after((20, less), (30, less), start=holdings)) == list(TEN[:5])


@pytest.mark.parametrize("gone", [scan_of("db"), EMPTY, Scan(RootState.MISSING)])
def test_a_protected_vm_is_never_removed_not_even_confirmed(gone: Scan) -> None:
    start = scan(web=good(vm("web", protect=True)), db=good(vm("db")))
    holdings = confirmed(after((0, start), (5, gone), (15, gone)), ["web"])
    assert held(holdings)["web"] is HoldReason.PROTECTED
    assert holdings.wanted("web") == vm("web", protect=True)


def test_a_present_vm_cannot_be_confirmed_away() -> None:
    assert removed(confirmed(after((0, scan_of("web"))), ["web"])) == []


def test_a_removal_stays_until_it_is_complete() -> None:
    holdings = after((0, scan_of("web", "db")), (5, scan_of("db")), (15, scan_of("db")), (99, scan_of("db")))
    assert removed(holdings) == ["web"]
    assert forgotten(holdings, "web").wanted("web") is None
    assert forgotten(holdings, "db").wanted("db") == vm("db")


def test_a_manifest_that_comes_back_while_its_vm_is_removed_wins() -> None:
    gone = after((0, scan_of("web", "db")), (5, scan_of("db")), (15, scan_of("db")))
    new = scan(web=good(vm("web", generation="2")), db=good(vm("db")))
    holdings = after((20, new), start=gone)
    assert holdings.wanted("web") == vm("web", generation="2")
    assert forgotten(holdings, "web").wanted("web") == vm("web", generation="2")


# ---- restarts ----------------------------------------------------------------------------------------


def test_an_absence_goes_on_over_a_restart_of_the_agent_and_starts_anew_after_a_boot() -> None:
    before = after((0, scan_of("web", "db")), (5, scan_of("db")))
    restarted = resumed(before, "/manifests", "boot-1", 20)
    assert removed(after((20, scan_of("db")), start=restarted)) == ["web"]
    booted = resumed(before, "/manifests", "boot-2", 20)
    assert removed(after((20, scan_of("db")), (29, scan_of("db")), start=booted)) == []
    assert removed(after((20, scan_of("db")), (30, scan_of("db")), start=booted)) == ["web"]


def test_holds_and_removals_outlive_a_boot_and_the_brake_goes_on_counting() -> None:
    holdings = after((0, scan_of(*TEN)), (5, scan_of(*TEN[2:])), (15, scan_of(*TEN[2:])))
    booted = resumed(holdings, "/manifests", "boot-2", 1)
    holdings = after((1, scan_of(*TEN[3:])), (11, scan_of(*TEN[3:])), start=booted)
    assert removed(holdings) == ["vm0", "vm1"]
    assert held(holdings) == {"vm2": HoldReason.BRAKE}
