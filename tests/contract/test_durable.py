"""Writing files, on a real file system: whole or not at all."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reconciler import durable


def names(directory: Path) -> list[str]:
    """What lies in a directory, hidden files included."""
    return sorted(os.listdir(directory))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls that matter for durability, in their order."""
    made: list[str] = []
    fsync, replace, link = os.fsync, os.replace, os.link

    def traced_fsync(descriptor: int) -> None:
        made.append("sync directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
        fsync(descriptor)

    def traced_replace(source: str, target: str) -> None:
        made.append("rename")
        replace(source, target)

    def traced_link(source: str, target: str) -> None:
        made.append("link")
        link(source, target)

    monkeypatch.setattr(os, "fsync", traced_fsync)
    monkeypatch.setattr(os, "replace", traced_replace)
    monkeypatch.setattr(os, "link", traced_link)
    return made


def test_a_file_is_on_disk_before_its_name_and_its_name_before_the_answer(
    tmp_path: Path, calls: list[str]
) -> None:
    durable.write(tmp_path / "a", b"x")
    assert calls == ["sync file", "rename", "sync directory"]


def test_a_new_file_is_on_disk_before_its_name_as_well(tmp_path: Path, calls: list[str]) -> None:
    durable.create(tmp_path / "a", b"x")
    assert calls == ["sync file", "link", "sync directory"]


def test_a_write_replaces_data_mode_and_leaves_nothing_beside(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    durable.write(tmp_path / "a", b"new", mode=0o640)
    assert (tmp_path / "a").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    assert names(tmp_path) == ["a"]


def test_a_refused_write_leaves_the_old_file_and_nothing_beside(tmp_path: Path) -> None:
    def refuse() -> None:
        raise LookupError

    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(LookupError):
        durable.write(tmp_path / "a", b"new", verify=refuse)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_creating_never_overwrites_not_even_a_link_to_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "b").symlink_to("nowhere")
    for name in ("a", "b"):
        with pytest.raises(FileExistsError):
            durable.create(tmp_path / name, b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a", "b"]


def test_removing_what_is_not_there_is_fine(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    durable.remove(tmp_path / "a")
    durable.remove(tmp_path / "a")
    assert names(tmp_path) == []


def test_what_a_killed_writer_left_is_swept_away_after_an_hour_and_nothing_else(tmp_path: Path) -> None:
    old, below = tmp_path / "old", tmp_path / "vms" / "web"
    below.mkdir(parents=True)
    for directory in (tmp_path, below):
        kill_a_writer(directory / "lifecycle.json")
    left = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert len(left) == 2
    assert durable.sweep(tmp_path) == (), "its writer may be at work still"
    foreign = [tmp_path / name for name in (".lifecycle.json.k2j3h4g5", ".reconciler-mine.tmp", "web.yaml")]
    link, directory = tmp_path / ".reconciler-aaaaaaaa.tmp", tmp_path / ".reconciler-bbbbbbbb.tmp"
    for path in (old, *foreign):
        path.touch()
    link.symlink_to(old)
    directory.mkdir()
    an_hour_ago = time.time() - 3601
    for path in (*left, *foreign, old, directory):
        os.utime(path, (an_hour_ago, an_hour_ago))
    os.utime(link, (an_hour_ago, an_hour_ago), follow_symlinks=False)
    assert sorted(durable.sweep(tmp_path)) == left
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in (*foreign, link, directory))


def test_sweeping_what_is_not_there_is_fine(tmp_path: Path) -> None:
    assert durable.sweep(tmp_path / "no") == ()


def test_a_file_whose_name_is_as_long_as_names_can_be_is_written(tmp_path: Path) -> None:
    durable.write(tmp_path / ("x" * 255), b"data")
    assert (tmp_path / ("x" * 255)).read_bytes() == b"data"


def kill_a_writer(path: Path) -> None:
    """A process that is killed when all is written but the name."""
    program = "import os, sys; from pathlib import Path; from reconciler import durable; "
    program += "durable.write(Path(sys.argv[1]), b'data', verify=lambda: os._exit(0))"
    subprocess.run((sys.executable, "-c", program, str(path)), check=True)
