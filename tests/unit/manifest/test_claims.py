"""Who describes which VM, and what is said where two files do."""

from __future__ import annotations

from dataclasses import replace

from reconciler.manifest.claims import FileMemory, claims_of, contested
from reconciler.manifest.seen import RootState, Scan
from tests.unit.manifest.scans import BEING_WRITTEN, broken, good, scan, unreadable, vm


def held(*names: str) -> FileMemory:
    """What is remembered of a file that was sound."""
    return FileMemory(names, was_sound=True)


def test_each_place_of_a_name_in_two_files_is_told_of_the_other() -> None:
    here = replace(vm("web"), source=replace(vm("web").source, line=3))
    twice = scan(web=good(here), copy=good(vm("web", "copy.yaml")))
    found = {(p.file, p.line): p.message for p in contested(claims_of(twice, {}))}
    assert found.keys() == {("web.yaml", 3), ("copy.yaml", 1)}
    assert "'web' is described in copy.yaml:1:1 too" in found["web.yaml", 3]
    assert "'web' is described in web.yaml:3:1 too" in found["copy.yaml", 1]


def test_a_broken_document_of_the_same_name_is_a_rival() -> None:
    found = contested(claims_of(scan(web=good(vm("web")), copy=broken("copy.yaml", "web")), {}))
    assert {p.file for p in found} == {"web.yaml", "copy.yaml"}


def test_a_name_that_a_broken_file_held_is_explained_at_its_new_place() -> None:
    moved = scan(new=good(vm("web", "new.yaml")), old=broken("old.yaml"))
    (problem,) = contested(claims_of(moved, {"old.yaml": held("web")}))
    assert problem.file == "new.yaml"
    assert "was described in old.yaml, which is broken now: mend or remove that file" in problem.message


def test_a_name_on_its_way_out_of_a_file_that_is_being_written_is_no_problem_but_no_version_either() -> None:
    moving = scan(new=good(vm("web", "new.yaml")), old=BEING_WRITTEN)
    claims = claims_of(moving, {"old.yaml": held("web")})
    assert contested(claims) == ()
    assert len(claims.by_name["web"]) == 2


def test_a_file_keeps_what_it_held_in_memory_while_it_is_broken_and_loses_it_when_it_is_gone() -> None:
    memory = {"web.yaml": held("web"), "db.yaml": held("db"), "old.yaml": held("old")}
    seen = scan(web=broken("web.yaml", "shop"), db=unreadable("db.yaml"))
    assert claims_of(seen, memory).files == {"web.yaml": held("shop", "web"), "db.yaml": held("db")}


def test_files_of_which_nothing_is_known_are_named() -> None:
    seen = Scan(
        RootState.PRESENT,
        {"a/": unreadable("a/"), "b.yaml": broken("b.yaml"), "c.yaml": BEING_WRITTEN, "d.yaml": good()},
    )
    assert claims_of(seen, {}).unknown == ("a/", "b.yaml", "c.yaml")
    assert claims_of(seen, {"a/x.yaml": held("x"), "c.yaml": held("c")}).unknown == ("a/", "b.yaml")


def test_a_name_read_once_from_a_file_that_never_was_sound_does_not_make_it_known() -> None:
    first = claims_of(scan(new=broken("new.yaml", "web")), {})
    assert first.unknown == ()
    second = claims_of(scan(new=broken("new.yaml")), first.files)
    assert second.unknown == ("new.yaml",)
    assert "web" in second.by_name
