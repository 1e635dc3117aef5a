"""Fixtures: real QEMUs, each ended with its test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.qemu.live import Host


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
