"""What the watcher hears and what it does not, and that it ends as it began."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import shutil
import statistics
import threading
import time
from pathlib import Path

import pytest
from watchdog.observers import inotify_c
from watchdog.observers.inotify import InotifyObserver

from reconciler.manifest import watch
from reconciler.manifest.watch import Watcher
from tests.contract.manifests.site import (
    PATIENCE_S,
    manifest,
    settled,
    watched,
    write_aside_and_rename,
)


def test_our_own_reads_lead_to_no_further_look(root: Path, state: Path) -> None:
    with watched(root, state) as diary:
        (root / "web.yaml").write_text(manifest("web", 600))
        diary.wait_for_memory("web", 600)
        looks = settled(lambda: diary.looks)
        for _ in range(5):
            for path in root.iterdir():
                path.read_text()
            diary.look()
        assert settled(lambda: diary.looks) == looks + 5


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


def test_a_broken_dot_git_above_does_not_end_the_watch(root: Path, state: Path) -> None:
    with watched(root, state, rescan_s=0.2) as diary:
        (root.parent / ".git").write_bytes(b"\0" * 64)
        (root / "web.yaml").write_text(manifest("web", 600))
        diary.wait_for_memory("web", 600)
        diary.wait_for_a_look()


@pytest.mark.parametrize("place", ["_targets", "InotifyObserver"])
def test_whatever_keeps_the_watches_from_being_made_is_said_once_and_the_looks_go_on(
    root: Path, state: Path, place: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> object:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(watch, place, refuse)
    with watched(root, state, rescan_s=0.05) as diary:
        (root / "web.yaml").write_text(manifest("web", 600))
        diary.wait_for_memory("web", 600)
        diary.wait("some more looks", lambda: diary.looks > 10)
    (record,) = [r for r in caplog.records if r.name == "reconciler.manifest.watch"]
    assert "only found by looking now and then: inotify: can't start new thread" in record.getMessage()


def test_watches_that_cannot_be_ended_do_not_keep_the_watcher_from_ending(
    root: Path, state: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with watched(root, state):
        real = InotifyObserver.stop

        def stop(observer: InotifyObserver) -> None:
            real(observer)
            raise OSError("inotify is broken")

        monkeypatch.setattr(InotifyObserver, "stop", stop)
    assert "inotify is broken" in caplog.text


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
