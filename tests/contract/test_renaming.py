"""A renaming that meets a file system at its end: done or not done, on real directories; never half of each."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from reconciler import durable
from reconciler.control import renaming
from reconciler.layout import Layout
from reconciler.manifest.edit import render_new
from reconciler.manifest.store import ManifestStore
from reconciler.model.errors import ManifestError, StateError
from reconciler.model.vm import DesiredVM, ManifestRef, VMSpec
from reconciler.storage.records import Records
from tests.unit.converge.model_host import IDENTITY

WEB = DesiredVM("web", VMSpec(), "g1", ManifestRef("web.yaml"))
BROKEN = OSError(errno.EIO, "the disk is at its end")


class Place:
    """The manifest and the records of a VM `web`, which is off."""

    def __init__(self, path: Path) -> None:
        self.root, self.layout = path / "manifests", Layout(path / "state", path / "run")
        self.root.mkdir()
        (self.root / "web.yaml").write_text(render_new("web", {"state": "stopped"}))
        self.store, self.records = ManifestStore(self.root), Records(self.layout)
        self.records.save_identity("web", IDENTITY)

    def rename(self) -> DesiredVM:
        """Call it `shop`."""
        return renaming.rename(self.store, self.records, WEB, "shop")

    def described(self) -> list[tuple[str, bool]]:
        """Each file, and whether it describes the VM under its new name."""
        return [
            (path.name, "name: shop" in path.read_text())
            for path in sorted(self.root.iterdir(), key=lambda path: path.name)
        ]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def unsynced(monkeypatch: pytest.MonkeyPatch, where: Path, at: tuple[int, ...] = (1,)) -> None:
    """Let a directory's entries not be made durable, at these calls of all for it."""
    real, calls = durable.sync_directory, 0

    def sync(path: Path) -> None:
        nonlocal calls
        calls += path == where
        if path == where and calls in at:
            raise BROKEN
        real(path)

    monkeypatch.setattr(durable, "sync_directory", sync)


def test_a_file_that_cannot_follow_keeps_its_name_and_the_vm_has_its_new_one(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = Path.rename

    def move(self: Path, target: Path) -> Path:
        if self.name == "web.yaml":
            raise BROKEN
        return real(self, target)

    monkeypatch.setattr(Path, "rename", move)
    renamed = place.rename()
    assert (renamed.name, renamed.source.file) == ("shop", "web.yaml")
    assert place.described() == [("web.yaml", True)]
    assert place.records.identity("shop") == IDENTITY
    assert "keeps its own name" in caplog.text
    assert "perhaps" not in caplog.text


@pytest.mark.parametrize("call", [1, 2], ids=["the edit", "the file's move"])
def test_what_is_done_and_perhaps_not_on_the_disk_is_not_taken_back(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: int
) -> None:
    unsynced(monkeypatch, place.root, (call,))
    renamed = place.rename()
    file = renamed.source.file
    assert renamed.name == "shop"
    assert place.described() == [(file, True)]
    assert place.records.identity("shop") == IDENTITY
    assert not place.records.exists("web")
    assert "perhaps not on the disk" in caplog.text


def test_a_manifest_that_cannot_be_edited_leaves_all_as_it_was(place: Place) -> None:
    (place.root / "web.yaml").write_text(render_new("other", {}))
    with pytest.raises(ManifestError, match="web"):
        place.rename()
    assert place.records.identity("web") == IDENTITY
    assert place.records.renaming("web") is None
    assert not place.records.exists("shop")


def test_a_move_that_is_not_surely_on_the_disk_is_undone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsynced(monkeypatch, place.layout.vms)
    with pytest.raises(StateError, match="cannot be moved"):
        place.rename()
    assert place.records.identity("web") == IDENTITY
    assert not place.records.exists("shop")
    assert place.described() == [("web.yaml", False)]


def test_a_move_back_is_made_whole_whatever_the_disk_says(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.root / "web.yaml").write_text(render_new("other", {}))
    unsynced(monkeypatch, place.layout.vms, at=(2,))
    with pytest.raises(ManifestError, match="web"):
        place.rename()
    assert place.records.identity("web") == IDENTITY
    assert place.records.renaming("web") is None
