"""Manifests as people and programs write them, seen by real inotify: whole, at once, and never as a removal."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from watchdog.observers import inotify_c
from watchdog.observers.api import ObservedWatch
from watchdog.observers.inotify import InotifyObserver

from reconciler.manifest.watch import Watcher
from tests.contract.manifest_site import NEVER_S, PADDING, PATIENCE_S, manifest, watched


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A manifests directory with two VMs."""
    root = tmp_path / "manifests"
    root.mkdir()
    for name in ("web", "db"):
        (root / f"{name}.yaml").write_text(manifest(name))
    return root


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The agent's state directory."""
    return tmp_path / "state"


def truncate_and_write(path: Path, text: str) -> None:
    """As `nano`, `tee` and shell redirections do, in several writes."""
    with path.open("w", buffering=512) as file:
        file.write(text)


def write_aside_and_rename(path: Path, text: str) -> None:
    """As `vim`, `sed -i` and our own API do."""
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(text)
    aside.rename(path)


def move_away_and_write(path: Path, text: str) -> None:
    """As `vim` with backupcopy=no, and Emacs, do."""
    path.rename(path.with_name(f"{path.name}~"))
    path.write_text(text)


def bring_from_elsewhere(path: Path, text: str) -> None:
    """As `mv` from another directory does."""
    elsewhere = path.parent.with_name("elsewhere.yaml")
    elsewhere.write_text(text)
    elsewhere.rename(path)


def hard_link(path: Path, text: str) -> None:
    """As some backup tools restore."""
    elsewhere = path.parent.with_name("linked.yaml")
    elsewhere.unlink(missing_ok=True)
    elsewhere.write_text(text)
    path.unlink()
    path.hardlink_to(elsewhere)


def link_elsewhere(path: Path, text: str) -> None:
    """As configuration managers do."""
    target = path.parent.with_name(f"target-{time.monotonic_ns()}.yaml")
    target.write_text(text)
    path.unlink()
    path.symlink_to(target)


WRITERS = [
    truncate_and_write,
    write_aside_and_rename,
    move_away_and_write,
    bring_from_elsewhere,
    hard_link,
    link_elsewhere,
]


@pytest.mark.parametrize("write", WRITERS)
def test_each_version_is_seen_once_whole_and_at_once_however_it_is_written(
    root: Path, state: Path, write: Callable[[Path, str], None]
) -> None:
    versions = [512, *range(600, 620)]
    slowest_s = 0.0
    with watched(root, state) as diary:
        for memory_mib in versions[1:]:
            begun_s = time.monotonic()
            write(root / "web.yaml", manifest("web", memory_mib, PADDING))
            diary.wait_for_memory("web", memory_mib)
            slowest_s = max(slowest_s, time.monotonic() - begun_s)
        assert diary.memory("web") == versions
        assert diary.memory("db") == [512]
        assert diary.catalog.problems() == ()
    assert slowest_s < 5, "a hint must do: there was no rescan"


def test_a_file_that_a_slow_writer_keeps_open_is_not_looked_into_until_it_is_closed(
    root: Path, state: Path
) -> None:
    text = manifest("web", 2048, "  cpuCores: 4\n")
    with watched(root, state, rescan_s=0.01) as diary:
        with (root / "web.yaml").open("w") as file:
            for line in text.splitlines(keepends=True):
                file.write(line)
                file.flush()
                diary.wait_for_a_look()
                assert diary.memory("web") == [512]
                assert diary.catalog.problems() == ()
        diary.wait_for_memory("web", 2048)
        assert diary.memory("web") == [512, 2048]


def test_our_own_reads_lead_to_no_further_look(root: Path, state: Path) -> None:
    with watched(root, state) as diary:
        (root / "web.yaml").write_text(manifest("web", 600))
        diary.wait_for_memory("web", 600)
        settled = _settled(lambda: diary.looks)
        for _ in range(5):
            for path in root.iterdir():
                path.read_text()
            diary.look()
        assert _settled(lambda: diary.looks) == settled + 5


def _settled(count: Callable[[], int]) -> int:
    """A count of looks, once all that was done so far must have been heard of."""
    while True:
        before = count()
        time.sleep(0.3)  # silence can only be listened to
        if count() == before:
            return before


def test_a_new_sub_directory_is_watched_and_its_renaming_removes_nothing(root: Path, state: Path) -> None:
    with watched(root, state) as diary:
        (root / "team" / "one").mkdir(parents=True)
        (root / "team" / "one" / "shop.yaml").write_text(manifest("shop"))
        diary.wait_for_memory("shop", 512)
        (root / "team").rename(root / "crew")
        (root / "crew" / "one" / "shop.yaml").write_text(manifest("shop", 600))
        diary.wait_for_memory("shop", 600)
        shutil.move(root / "crew", root / "band")
        write_aside_and_rename(root / "band" / "one" / "shop.yaml", manifest("shop", 700))
        diary.wait_for_memory("shop", 700)


def test_a_manifest_that_is_moved_out_of_the_tree_is_noticed_at_once(root: Path, state: Path) -> None:
    delays_s = []
    with watched(root, state) as diary:
        for _ in range(9):
            begun_s = time.monotonic()
            (root / "web.yaml").rename(root.with_name("web.yaml"))
            diary.wait("web is missed", lambda: diary.look_again_s is not None)
            delays_s.append(time.monotonic() - begun_s)
            root.with_name("web.yaml").rename(root / "web.yaml")
            diary.wait("web is back", lambda: diary.look_again_s is None)
    assert statistics.median(delays_s) < 0.3, "watchdog by itself keeps such an event back for half a second"


# ---- git ---------------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with two branches: 50 manifests that differ, five only on one branch, other names on the other."""
    top = tmp_path / "repository"
    git(tmp_path, "init", "-q", "-b", "one", str(top))
    for branch, memory_mib, extra in (("one", 512, "old"), ("two", 1024, "new")):
        if branch != "one":
            git(top, "checkout", "-q", "-b", branch)
            shutil.rmtree(top / "vms")
        (top / "vms").mkdir()
        for number in range(50):
            (top / "vms" / f"vm{number}.yaml").write_text(manifest(f"vm{number}", memory_mib, PADDING))
        for number in range(5):
            (top / "vms" / f"{extra}{number}.yaml").write_text(manifest(f"{extra}{number}", memory_mib))
        git(top, "add", "-A")
        git(top, "commit", "-q", "-m", branch)
    return top


def git(directory: Path, *arguments: str) -> None:
    """Run git, with nothing of the user's configuration."""
    environment = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    subprocess.run(["git", "-C", str(directory), *who, *arguments], check=True, env=environment)


@pytest.mark.parametrize("below", ["", "vms"])
def test_a_checkout_is_seen_as_whole_versions_and_never_as_a_removal(
    repository: Path, state: Path, below: str
) -> None:
    branches = {"one": 512, "two": 1024}
    flips = ["one", "two"] * 6
    with watched(repository / below, state) as diary:
        for branch in flips:
            git(repository, "checkout", "-q", branch)
            for number in range(50):
                diary.wait_for_memory(f"vm{number}", branches[branch])
        for number in range(50):
            seen = diary.memory(f"vm{number}")
            assert seen == [1024, *(branches[b] for b in flips)], "each version once, and none in between"
        assert diary.removed() == []
        assert diary.catalog.problems() == ()


def test_a_storm_of_checkouts_leads_to_the_last_version_and_to_no_removal(
    repository: Path, state: Path
) -> None:
    with watched(repository / "vms", state, confirm_s=2.0) as diary:
        for number in range(40):
            git(repository, "checkout", "-q", ("one", "two")[number % 2])
        for number in range(50):
            diary.wait_for_memory(f"vm{number}", 1024)
            assert set(diary.memory(f"vm{number}")) <= {512, 1024}
        assert diary.catalog.problems() == ()


def test_writers_of_all_kinds_at_once_never_show_half_a_version(root: Path, state: Path) -> None:
    stop = threading.Event()
    script = (
        "import sys\n"
        "for line in sys.stdin:\n"
        "    with open(sys.argv[1], 'w', buffering=64) as f: f.write(eval(line))\n"
    )

    def rewrite(process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        memory_mib = 1000
        while not stop.is_set():
            memory_mib += 1
            process.stdin.write(
                repr(manifest("web", memory_mib, f"  cpuCores: {memory_mib % 8 + 1}\n")) + "\n"
            )
            process.stdin.flush()

    with watched(root, state, rescan_s=0.02) as diary:
        command = [sys.executable, "-c", script, str(root / "web.yaml")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as process:
            writer = threading.Thread(target=rewrite, args=(process,))
            writer.start()
            diary.wait("fifteen versions", lambda: len(diary.pages["web"]) > 15)
            stop.set()
            writer.join()
        for version in diary.pages["web"][1:]:
            assert version is not None
            assert not hasattr(version, "last")
            assert version.spec.cpu_cores == version.spec.memory_mib % 8 + 1
        assert diary.catalog.problems() == ()


# ---- directories that go and come ------------------------------------------------------------------------


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
    _settled(lambda: len(seen))
    assert seen[-1] == []
    (root / "web.yaml").write_text(manifest("web"))
    _settled(lambda: len(seen))
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
        _settled(lambda: diary.looks)
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


# ---- the watcher itself --------------------------------------------------------------------------------


def test_what_a_look_raises_is_logged_and_the_next_look_comes(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    looked = threading.Semaphore(0)

    def look() -> float | None:
        looked.release()
        raise OSError("disk on fire")

    watcher = Watcher(root, 0.05, look)
    watcher.start()
    for _ in range(3):
        assert looked.acquire(timeout=PATIENCE_S)
    watcher.stop()
    assert "disk on fire" in caplog.text


def test_a_look_that_asks_for_another_one_gets_it_in_time(root: Path) -> None:
    times: list[float] = []
    done = threading.Event()

    def look() -> float | None:
        times.append(time.monotonic())
        if len(times) < 3:
            return 0.1
        done.set()
        return None

    watcher = Watcher(root, 3600, look)
    watcher.start()
    assert done.wait(PATIENCE_S)
    watcher.stop()
    assert times[1] - times[0] >= 0.1
    assert times[2] - times[1] >= 0.1


def test_stopping_ends_every_thread_and_descriptor_also_of_a_watcher_that_never_started(root: Path) -> None:
    threads, descriptors = set(threading.enumerate()), os.listdir("/proc/self/fd")
    Watcher(root, 3600, lambda: None).stop()
    looked = threading.Event()

    def look() -> float | None:
        looked.set()
        return None

    watcher = Watcher(root, 3600, look)
    watcher.start()
    assert looked.wait(PATIENCE_S)
    watcher.stop()
    assert set(threading.enumerate()) <= threads
    assert os.listdir("/proc/self/fd") == descriptors


def test_without_inotify_the_rescans_do_and_the_log_says_so_once(
    root: Path, state: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> int:
        ctypes.set_errno(errno.ENOSPC)  # the limit of watches is reached
        return -1

    caplog.set_level(logging.INFO, "reconciler")
    monkeypatch.setattr(inotify_c, "inotify_add_watch", refuse)
    with watched(root, state, rescan_s=0.05) as diary:
        (root / "web.yaml").write_text(manifest("web", 600))
        diary.wait_for_memory("web", 600)
        diary.wait("some more looks", lambda: diary.looks > 10)
    (record,) = [r for r in caplog.records if r.name == "reconciler.manifest.watch"]
    assert "only found by looking now and then" in record.getMessage()
