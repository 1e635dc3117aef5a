"""Manifests that git writes: a checkout unlinks and makes again, and nobody may notice."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.contract.manifests.site import (
    PADDING,
    manifest,
    watched,
)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with two branches: 50 manifests that differ, five only on one branch, other names on the other."""
    top = tmp_path / "repository"
    git(tmp_path, "init", "-q", "-b", "one", str(top))
    for branch, memory_mib, extra in (("one", 512, "old"), ("two", 1024, "new")):
        if branch != "one":
            git(top, "checkout", "-q", "-b", branch)
            shutil.rmtree(top / "vms")
        (top / "vms").mkdir()
        for number in range(50):
            (top / "vms" / f"vm{number}.yaml").write_text(manifest(f"vm{number}", memory_mib, PADDING))
        for number in range(5):
            (top / "vms" / f"{extra}{number}.yaml").write_text(manifest(f"{extra}{number}", memory_mib))
        git(top, "add", "-A")
        git(top, "commit", "-q", "-m", branch)
    return top


def git(directory: Path, *arguments: str) -> None:
    """Run git, with nothing of the user's configuration."""
    environment = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    subprocess.run(["git", "-C", str(directory), *who, *arguments], check=True, env=environment)


@pytest.mark.parametrize("below", ["", "vms"])
def test_a_checkout_is_seen_as_whole_versions_and_never_as_a_removal(
    repository: Path, state: Path, below: str
) -> None:
    branches = {"one": 512, "two": 1024}
    flips = ["one", "two"] * 6
    with watched(repository / below, state) as diary:
        for branch in flips:
            git(repository, "checkout", "-q", branch)
            for number in range(50):
                diary.wait_for_memory(f"vm{number}", branches[branch])
        for number in range(50):
            seen = diary.memory(f"vm{number}")
            assert seen == [1024, *(branches[b] for b in flips)], "each version once, and none in between"
        assert diary.removed() == []
        assert diary.catalog.problems() == ()


def test_a_storm_of_checkouts_leads_to_the_last_version_and_to_no_removal(
    repository: Path, state: Path
) -> None:
    with watched(repository / "vms", state, confirm_s=2.0) as diary:
        for number in range(40):
            git(repository, "checkout", "-q", ("one", "two")[number % 2])
        for number in range(50):
            diary.wait_for_memory(f"vm{number}", 1024)
            assert set(diary.memory(f"vm{number}")) <= {512, 1024}
        assert diary.catalog.problems() == ()
