"""Disk images, made and judged with the real qemu-img, run as QEMU's user on files that it cannot reach by name."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from reconciler.model.errors import ImageError
from reconciler.qemu.images import Images
from tests.contract.qemu.live import qemu_user

GIB = 1024**3


@pytest.fixture
def images() -> Images:
    return Images(qemu_user())


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path / "root.qcow2"


def qemu_img(*arguments: object) -> None:
    subprocess.run(["qemu-img", *map(str, arguments)], check=True, capture_output=True)


def program(path: Path, text: str) -> str:
    """A program in place of qemu-img, which QEMU's user may run."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_an_image_is_made_whole_private_and_of_its_owner(images: Images, disk: Path) -> None:
    images.create(disk, 5 * GIB)
    assert images.inspect(disk) == 5 * GIB
    status = disk.stat()
    assert status.st_mode & 0o777 == 0o600
    assert status.st_uid == (images.owner.uid if images.owner else os.getuid())
    assert (status.st_nlink, os.listdir(disk.parent)) == (1, ["root.qcow2"])


def test_an_image_that_is_there_is_never_replaced(images: Images, disk: Path) -> None:
    images.create(disk, GIB)
    before = disk.stat()
    with pytest.raises(ImageError, match="File exists"):
        images.create(disk, 2 * GIB)
    assert disk.stat().st_ino == before.st_ino
    assert images.inspect(disk) == GIB
    assert os.listdir(disk.parent) == ["root.qcow2"]


def test_what_an_interrupted_making_left_is_cleared_away(images: Images, disk: Path) -> None:
    (disk.parent / ".root.qcow2.new").write_bytes(b"half")
    images.create(disk, GIB)
    assert os.listdir(disk.parent) == ["root.qcow2"]


def test_a_making_that_fails_leaves_nothing(disk: Path, short_dir: Path) -> None:
    short_dir.chmod(0o755)
    broken = Images(qemu_user(), program=program(short_dir / "img", "echo 'disk full' >&2; exit 1"))
    with pytest.raises(ImageError, match="disk full"):
        broken.create(disk, GIB)
    assert os.listdir(disk.parent) == []


def test_an_image_grows_and_its_content_stays(images: Images, disk: Path) -> None:
    images.create(disk, GIB)
    qemu_img_io(disk, "write -P 7 0 64k")
    images.grow(disk, 3 * GIB)
    assert images.inspect(disk) == 3 * GIB
    qemu_img_io(disk, "read -P 7 0 64k")
    images.grow(disk, 3 * GIB)
    assert images.inspect(disk) == 3 * GIB


def qemu_img_io(path: Path, command: str) -> None:
    io = ["qemu-io", "-f", "qcow2", "-c", command, str(path)]
    assert b"failed" not in subprocess.run(io, check=True, capture_output=True).stdout


def test_an_image_is_never_shrunk(images: Images, disk: Path) -> None:
    images.create(disk, 2 * GIB)
    with pytest.raises(ImageError, match="not shrunk"):
        images.grow(disk, GIB)
    assert images.inspect(disk) == 2 * GIB


def test_a_backing_file_is_refused(images: Images, disk: Path, tmp_path: Path) -> None:
    qemu_img("create", "-f", "raw", tmp_path / "secret", "1M")
    qemu_img("create", "-f", "qcow2", "-b", tmp_path / "secret", "-F", "raw", disk)
    with pytest.raises(ImageError, match="backing file"):
        images.inspect(disk)
    with pytest.raises(ImageError, match="backing file"):
        images.grow(disk, 10 * GIB)


def test_an_external_data_file_is_refused(images: Images, disk: Path, tmp_path: Path) -> None:
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={tmp_path / 'secret'},data_file_raw=on", disk, "1M")
    with pytest.raises(ImageError, match="data file"):
        images.inspect(disk)


@pytest.mark.parametrize("kind", ["raw", "link", "fifo", "directory", "nothing", "empty"])
def test_what_is_no_qcow2_file_is_refused_at_once(
    images: Images, disk: Path, tmp_path: Path, kind: str
) -> None:
    match kind:
        case "raw":
            disk.write_bytes(b"\0" * 4096)
        case "link":
            images.create(tmp_path / "other.qcow2", GIB)
            disk.symlink_to(tmp_path / "other.qcow2")
        case "fifo":
            os.mkfifo(disk)
        case "directory":
            disk.mkdir()
        case "empty":
            disk.touch()
    with pytest.raises(ImageError, match=r"root\.qcow2"):
        images.inspect(disk)


def test_an_image_of_another_user_becomes_the_owners(disk: Path) -> None:
    user = qemu_user()
    Images(None).create(disk, GIB)
    assert Images(user).inspect(disk) == GIB
    assert disk.stat().st_uid == (user.uid if user else os.getuid())


def test_a_qemu_img_that_hangs_is_given_up(disk: Path, short_dir: Path) -> None:
    short_dir.chmod(0o755)
    hung = Images(qemu_user(), program=program(short_dir / "img", "exec sleep 1000"), timeout_s=0.2)
    with pytest.raises(ImageError, match=r"given up after 0\.2 s"):
        hung.create(disk, GIB)


def test_a_qemu_img_that_is_missing_is_an_error(images: Images, disk: Path) -> None:
    with pytest.raises(ImageError, match="/no/such/qemu-img"):
        Images(images.owner, program="/no/such/qemu-img").create(disk, GIB)


def test_qemu_img_has_little_time_and_memory(disk: Path, short_dir: Path) -> None:
    short_dir.chmod(0o755)
    looking = Images(
        qemu_user(), program=program(short_dir / "img", "exec >&2; ulimit -t; ulimit -v; exit 1")
    )
    with pytest.raises(ImageError, match=r"10\s1048576$"):
        looking.create(disk, GIB)
