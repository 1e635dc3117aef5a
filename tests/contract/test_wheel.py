"""The wheel carries the pages, and what they need of npm's packages: built as a release is, by way of the sdist."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from reconciler import assets
from tests.e2e.site import REPOSITORY


def build(target: str, source: Path, into: Path) -> Path:
    """Build `target` from a directory."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(into)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=100)
    (built,) = into.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of all files in the wheel."""
    root = tmp_path_factory.mktemp("wheel")
    with tarfile.open(build("sdist", REPOSITORY, root)) as archive:
        archive.extractall(root, filter="data")
    (source,) = (entry for entry in root.iterdir() if entry.is_dir())
    with zipfile.ZipFile(build("wheel", source, root)) as archive:
        return set(archive.namelist())


def test_the_wheel_has_every_file_of_the_pages(wheel: set[str]) -> None:
    files = {*assets.console().values(), *assets.PAGES.iterdir()}
    wanted = {f"reconciler/{path.relative_to(assets.WEB.parent)}" for path in files}
    assert len(wanted) > 40
    assert wanted <= wheel


def test_the_wheel_has_the_packages_licences(wheel: set[str]) -> None:
    packages = "reconciler/web/node_modules"
    assert f"{packages}/@novnc/novnc/LICENSE.txt" in wheel
    assert f"{packages}/swagger-ui-dist/LICENSE" in wheel


def test_the_wheel_has_no_more_than_is_used(wheel: set[str]) -> None:
    assert not [name for name in wheel if name.endswith(".map") or "@scarf" in name]


def test_the_schemas_travel_as_well(wheel: set[str]) -> None:
    assert "reconciler/schemas/virtualmachine.schema.json" in wheel
