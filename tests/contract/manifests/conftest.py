"""What every test of watched manifests starts with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.manifests.site import manifest


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
