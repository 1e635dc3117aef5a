"""Manifests directories that are lost, swapped and made anew: nothing is removed, and all is found again."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from watchdog.observers.api import ObservedWatch
from watchdog.observers.inotify import InotifyObserver

from reconciler.manifest.watch import Watcher
from tests.contract.manifests.site import (
    NEVER_S,
    PATIENCE_S,
    manifest,
    settled,
    watched,
)


def _remove(root: Path) -> None:
    shutil.rmtree(root)


def _empty(root: Path) -> None:
    for path in root.iterdir():
        path.unlink()


def _rename(root: Path) -> None:
    root.rename(root.with_name("elsewhere"))


def _replace_by_file(root: Path) -> None:
    shutil.rmtree(root)
    root.write_text("")


@pytest.mark.parametrize("lose", [_remove, _empty, _rename, _replace_by_file])
def test_a_lost_directory_is_noticed_at_once_removes_nothing_and_is_watched_again_when_it_is_back(
    root: Path, state: Path, lose: Callable[[Path], None]
) -> None:
    with watched(root, state, confirm_s=0.05) as diary:
        lose(root)
        diary.wait("both VMs are held", lambda: set(diary.catalog.held()) == {"web", "db"})
        if root.is_file():
            root.unlink()
        root.mkdir(exist_ok=True)
        for name in ("web", "db"):
            (root / f"{name}.yaml").write_text(manifest(name, 600))
            diary.wait_for_memory(name, 600)
        diary.wait("nothing is held", lambda: not diary.catalog.held())
        (root / "web.yaml").write_text(manifest("web", 700))
        diary.wait_for_memory("web", 700)
        assert diary.removed() == []


def test_a_root_that_is_swapped_as_git_sync_does_is_followed_at_once(tmp_path: Path, state: Path) -> None:
    root = tmp_path / "current"
    for release in range(5):
        directory = tmp_path / f"release{release}"
        directory.mkdir()
        for name in ("web", "db"):
            (directory / f"{name}.yaml").write_text(manifest(name, 600 + release))
    root.symlink_to("release0")
    with watched(root, state, confirm_s=0.05) as diary:
        for release in range(1, 5):
            (tmp_path / "next").symlink_to(f"release{release}")
            (tmp_path / "next").rename(root)
            diary.wait_for_memory("web", 600 + release)
        (root / "db.yaml").write_text(manifest("db", 900))
        diary.wait_for_memory("db", 900)
        assert diary.memory("web") == [600, 601, 602, 603, 604]


def test_a_config_map_that_is_swapped_is_seen_at_once(root: Path, state: Path) -> None:
    (root / "web.yaml").unlink()
    for version in (1, 2):
        (root / f"..{version}").mkdir()
        (root / f"..{version}" / "web.yaml").write_text(manifest("web", 600 + version))
    (root / "..data").symlink_to("..1")
    (root / "web.yaml").symlink_to("..data/web.yaml")
    with watched(root, state) as diary:
        diary.wait_for_memory("web", 601)
        (root / "..data_tmp").symlink_to("..2")
        (root / "..data_tmp").rename(root / "..data")
        diary.wait_for_memory("web", 602)
        assert diary.memory("web") == [601, 602]


def test_a_root_that_appears_later_is_found(tmp_path: Path, state: Path) -> None:
    root = tmp_path / "later"
    with watched(root, state) as diary:
        assert diary.catalog.names() == ()
        root.mkdir()
        (root / "web.yaml").write_text(manifest("web"))
        diary.wait_for_memory("web", 512)
        (root / "web.yaml").write_text(manifest("web", 600))
        diary.wait_for_memory("web", 600)


def test_a_root_that_is_deleted_and_made_again_between_two_looks_is_watched_again(root: Path) -> None:
    seen: list[list[str]] = []
    first, go_on = threading.Event(), threading.Event()

    def look() -> float | None:
        seen.append(os.listdir(root))
        first.set()
        assert go_on.wait(PATIENCE_S)
        return None

    watcher = Watcher(root, NEVER_S, look)
    watcher.start()
    assert first.wait(PATIENCE_S)
    shutil.rmtree(root)
    root.mkdir()  # ext4 gives it the inode of the one before: by that, it is the same directory
    go_on.set()
    settled(lambda: len(seen))
    assert seen[-1] == []
    (root / "web.yaml").write_text(manifest("web"))
    settled(lambda: len(seen))
    watcher.stop()
    assert seen[-1] == ["web.yaml"]


def test_a_root_that_appears_while_the_watches_are_changed_is_watched(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "later"
    real = InotifyObserver.schedule

    def appear_and_schedule(self: InotifyObserver, *arguments: Any, **options: Any) -> ObservedWatch:
        root.mkdir(exist_ok=True)
        return real(self, *arguments, **options)

    monkeypatch.setattr(InotifyObserver, "schedule", appear_and_schedule)
    with watched(root, state) as diary:
        settled(lambda: diary.looks)
        (root / "web.yaml").write_text(manifest("web"))
        diary.wait_for_memory("web", 512)


def test_a_root_whose_parent_appears_later_is_found_by_the_rescan(tmp_path: Path, state: Path) -> None:
    root = tmp_path / "far" / "away"
    with watched(root, state, rescan_s=0.1) as diary:
        root.mkdir(parents=True)
        (root / "web.yaml").write_text(manifest("web"))
        diary.wait_for_memory("web", 512)


def test_a_deleted_manifest_is_a_removal_in_the_end(root: Path, state: Path) -> None:
    with watched(root, state, confirm_s=0.2) as diary:
        (root / "web.yaml").unlink()
        diary.wait("the removal of web", lambda: diary.removed() == ["web"])
