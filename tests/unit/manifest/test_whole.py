"""A file is read as a whole version or not at all; real files, and a real writer in another process."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.manifest.whole import NotRegularError, NotYet, Stamp, Whole, read_whole

LIMIT = 1000


def never(_: Stamp) -> bool:
    """The answer of somebody who must not be asked."""
    raise AssertionError("the kernel can say whether there is a writer")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of five bytes."""
    path = tmp_path / "web.yaml"
    path.write_bytes(b"whole")
    return path


@pytest.fixture
def no_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without leases."""
    real = fcntl.fcntl

    def refuse(descriptor: int, command: int, argument: int = 0) -> int:
        if command == fcntl.F_SETLEASE:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(descriptor, command, argument)

    monkeypatch.setattr(fcntl, "fcntl", refuse)


@pytest.fixture
def writer(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has truncated the file and holds it open until its input ends."""
    script = "import sys; f = open(sys.argv[1], 'w'); print('open', flush=True); sys.stdin.read()"
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", script, path], stdin=pipe, stdout=pipe, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process


def test_a_file_at_rest_is_read_with_its_stamp(path: Path) -> None:
    assert read_whole(path, LIMIT, never) == Whole(Stamp.of(path.stat()), b"whole")


def test_of_a_long_file_one_byte_more_than_allowed_is_read(path: Path) -> None:
    path.write_bytes(b"x" * 5000)
    read = read_whole(path, LIMIT, never)
    assert isinstance(read, Whole)
    assert len(read.data) == LIMIT + 1


def test_a_file_that_is_open_for_writing_is_not_read_until_it_is_closed(
    path: Path, writer: subprocess.Popen[str]
) -> None:
    assert read_whole(path, LIMIT, never) == NotYet("it is open for writing")
    writer.communicate()
    assert isinstance(read_whole(path, LIMIT, never), Whole)


def test_a_writer_that_comes_during_the_read_waits_and_the_read_is_put_off(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_read, real_fcntl = os.read, fcntl.fcntl
    opened = threading.Event()

    def write() -> None:
        with path.open("w"):
            opened.set()

    writer = threading.Thread(target=write)

    def read_while_somebody_comes(descriptor: int, size: int) -> bytes:
        if writer.ident is None:
            writer.start()
            while real_fcntl(descriptor, fcntl.F_GETLEASE) == fcntl.F_RDLCK:
                assert not opened.is_set()
        return real_read(descriptor, size)

    monkeypatch.setattr(os, "read", read_while_somebody_comes)
    assert read_whole(path, LIMIT, never) == NotYet("it is about to be written")
    assert opened.wait(10), "the writer waits no longer than the read lasts"
    writer.join()


def test_no_lease_and_no_descriptor_is_left_behind(path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    read_whole(path, LIMIT, never)
    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)  # fails at once where a lease is held
    os.close(descriptor)
    assert os.listdir("/proc/self/fd") == before


def test_without_leases_a_file_is_read_only_when_it_has_come_to_rest(path: Path, no_leases: None) -> None:
    assert read_whole(path, LIMIT, lambda _: False) == NotYet("it changed a moment ago")
    assert read_whole(path, LIMIT, lambda _: True) == Whole(Stamp.of(path.stat()), b"whole")


def test_without_leases_a_change_during_the_read_is_noticed(
    path: Path, no_leases: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_read = os.read

    def read_and_change(descriptor: int, size: int) -> bytes:
        data = real_read(descriptor, size)
        path.write_bytes(b"longer than before")
        return data

    monkeypatch.setattr(os, "read", read_and_change)
    assert read_whole(path, LIMIT, lambda _: True) == NotYet("it changed while it was read")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda p: os.symlink("/dev/zero", p)])
def test_what_is_no_regular_file_is_refused_without_blocking(tmp_path: Path, make: object) -> None:
    path = tmp_path / "odd.yaml"
    assert callable(make)
    make(path)
    with pytest.raises(NotRegularError, match="not a regular file"):
        read_whole(path, LIMIT, never)


def test_what_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_whole(tmp_path / "none.yaml", LIMIT, never)
