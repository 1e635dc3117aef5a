"""Making and removing manifests, on a real file system."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reconciler.manifest.edit import render_new
from reconciler.manifest.store import ManifestStore
from reconciler.model.errors import ConflictError, ManifestError
from reconciler.model.vm import ManifestRef

WEB = render_new("web", {"state": "running", "memory": 64})
WEB_YAML = ManifestRef("web.yaml")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory with one manifest."""
    directory = tmp_path / "manifests"
    directory.mkdir()
    (directory / "web.yaml").write_text(WEB)
    return directory


@pytest.fixture
def store(root: Path) -> ManifestStore:
    """The writer of that directory."""
    return ManifestStore(root)


def names(directory: Path) -> list[str]:
    """What lies in a directory, hidden files included."""
    return sorted(os.listdir(directory))


def test_a_new_manifest_is_readable_as_its_directory_is_and_owned_as_it_is(
    root: Path, store: ManifestStore
) -> None:
    owner = (12345, 23456) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    text = render_new("db", {})
    for directory, expected in ((0o755, 0o644), (0o700, 0o600), (0o775, 0o644)):
        sub = root / f"{directory:o}"
        sub.mkdir()
        os.chown(sub, *owner)
        sub.chmod(directory)
        assert store.create(f"{directory:o}/db.yaml", text) == ManifestRef(f"{directory:o}/db.yaml", 2, 1)
        info = (sub / "db.yaml").stat()
        assert (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) == (expected, *owner)
        assert (sub / "db.yaml").read_text() == text
        assert names(sub) == ["db.yaml"]


def test_an_existing_file_is_never_overwritten(root: Path, store: ManifestStore) -> None:
    (root / "link.yaml").symlink_to("nowhere")
    for file in ("web.yaml", "link.yaml"):
        with pytest.raises(ConflictError, match="exists already"):
            store.create(file, render_new("web", {"state": "stopped"}))
    assert (root / "web.yaml").read_text() == WEB
    assert names(root) == ["link.yaml", "web.yaml"]


def test_of_many_who_create_one_file_one_wins(root: Path) -> None:
    texts = [render_new(f"vm{index}", {}) for index in range(16)]

    def create(text: str) -> bool:
        try:
            ManifestStore(root).create("new.yaml", text)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(create, texts))
    assert won.count(True) == 1
    assert (root / "new.yaml").read_text() == texts[won.index(True)]


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("new.yaml", WEB.replace("64", "2G"), r"new\.yaml:8:3: spec\.memory"),
        ("new.yaml", "", "found no VM"),
        ("new.yaml", "a: \ud800", "expected UTF-8"),
        ("new.txt", WEB, "a file name that is never read"),
        (".new.yaml", WEB, "a file name that is never read"),
        (".git/new.yaml", WEB, "a file name that is never read"),
        ("new", WEB, "a file name that is never read"),
    ],
)
def test_what_would_not_be_read_as_a_vm_is_not_written(
    file: str, text: str, said: str, root: Path, store: ManifestStore
) -> None:
    with pytest.raises(ManifestError, match=said):
        store.create(file, text)
    assert names(root) == ["web.yaml"]


def test_a_new_manifest_cannot_be_made_outside(root: Path, tmp_path: Path, store: ManifestStore) -> None:
    (root / "sub").symlink_to(tmp_path)
    with pytest.raises(ManifestError, match="expected a place inside of"):
        store.create("sub/new.yaml", WEB)
    assert names(tmp_path) == ["manifests"]


def test_the_last_vm_of_a_file_goes_with_the_file(root: Path, store: ManifestStore) -> None:
    store.remove(WEB_YAML, "web")
    assert names(root) == []


def test_a_vm_leaves_a_file_that_others_share(root: Path, store: ManifestStore) -> None:
    other = render_new("db", {"memory": 128})
    (root / "web.yaml").write_text(f"{WEB}---\n{other}")
    store.remove(WEB_YAML, "web")
    assert (root / "web.yaml").read_text() == other


def test_a_link_is_not_removed(root: Path, store: ManifestStore) -> None:
    (root / "link.yaml").symlink_to("web.yaml")
    with pytest.raises(ManifestError, match="found a link, expected a file"):
        store.remove(ManifestRef("link.yaml"), "web")
    assert names(root) == ["link.yaml", "web.yaml"]


def test_a_file_that_names_another_vm_by_now_is_not_removed(root: Path, store: ManifestStore) -> None:
    (root / "web.yaml").write_text(WEB.replace("name: web", "name: other"))
    with pytest.raises(ManifestError, match="found no VM web"):
        store.remove(WEB_YAML, "web")
    assert names(root) == ["web.yaml"]
