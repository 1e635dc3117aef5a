"""Manifests as people and programs write them, seen by real inotify: at once, and each version whole."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.manifests.site import (
    PADDING,
    manifest,
    watched,
    write_aside_and_rename,
)


def truncate_and_write(path: Path, text: str) -> None:
    """As `nano`, `tee` and shell redirections do, in several writes."""
    with path.open("w", buffering=512) as file:
        file.write(text)


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
