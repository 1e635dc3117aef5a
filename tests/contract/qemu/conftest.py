"""Fixtures: real QEMUs, each ended with its test."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.qemu.process import Processes
from tests.contract.qemu.live import LAUNCHED, Host


@pytest.fixture(scope="session", autouse=True)
def no_qemu_outlives_the_tests() -> Iterator[None]:
    """The last word, should a test have been torn down half."""
    yield
    for handle in LAUNCHED:
        Processes().send_signal(handle, signal.SIGKILL)


@pytest.fixture
def host() -> Iterator[Host]:
    """Where a test launches its VMs; ends them with it."""
    host = Host()
    yield host
    host.close()


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory whose sockets have short enough names."""
    directory = Path(tempfile.mkdtemp(prefix="rq-"))
    yield directory
    shutil.rmtree(directory)
