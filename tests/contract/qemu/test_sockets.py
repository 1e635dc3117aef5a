"""The listening sockets that QEMU is handed."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from reconciler.layout import SocketDir
from reconciler.model.errors import StateError
from reconciler.qemu.sockets import listening


def connect(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_clients_may_connect_before_anybody_serves_and_only_the_agent_may_enter(short_dir: Path) -> None:
    directory = SocketDir(short_dir / "a" / "b")
    with listening(directory) as fds:
        assert len({fds.qmp, fds.human, fds.serial, fds.guest_agent}) == 4
        for path in (directory.qmp, directory.human, directory.serial, directory.guest_agent):
            connect(path)
        assert directory.path.stat().st_mode & 0o777 == 0o700
        assert not os.get_inheritable(fds.qmp)


def test_once_given_away_and_closed_they_refuse(short_dir: Path) -> None:
    directory = SocketDir(short_dir)
    with listening(directory):
        pass
    with pytest.raises(ConnectionRefusedError):
        connect(directory.qmp)


def test_what_an_earlier_launch_left_is_replaced(short_dir: Path) -> None:
    directory = SocketDir(short_dir)
    for _ in range(2):
        with listening(directory):
            connect(directory.qmp)


@pytest.mark.parametrize("name", ["x" * 120, "file/below"])
def test_a_place_that_cannot_hold_them_is_a_state_error_and_leaves_nothing_open(
    short_dir: Path, name: str
) -> None:
    (short_dir / "file").touch()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StateError, match="cannot make the sockets"), listening(SocketDir(short_dir / name)):
        pass
    assert len(os.listdir("/proc/self/fd")) == before
