"""Fixtures of the end-to-end tests: a site of its own for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.site import GUESTS, Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Directories, agents and VMs of one test; all of it is ended with the test."""
    assert (GUESTS / "demo.iso").exists(), "the test guest is missing: run `make setup`"
    site = Site(tmp_path)
    yield site
    site.close()
