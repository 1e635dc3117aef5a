"""Writing manifests, on a real file system, beside people who write them as well."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reconciler import durable
from reconciler.manifest.decode import decode
from reconciler.manifest.edit import Changes, render_new
from reconciler.manifest.store import ManifestStore
from reconciler.model.errors import ConflictError, ManifestError
from reconciler.model.vm import ManifestRef, PowerState

STOP: Changes = {("spec", "state"): "stopped"}
WEB = render_new("web", {"state": "running", "memory": 64})
STOPPED = WEB.replace("running", "stopped")
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


Meddler = Callable[[Callable[[], None]], None]


@pytest.fixture
def meddle(monkeypatch: pytest.MonkeyPatch) -> Meddler:
    """Has something happen between the reading and the writing of a manifest, at every attempt."""

    def install(deed: Callable[[], None]) -> None:
        write = durable.write

        def meddled(path: Path, data: bytes, **how: object) -> None:
            deed()
            write(path, data, **how)  # type: ignore[arg-type]

        monkeypatch.setattr(durable, "write", meddled)

    return install


def names(directory: Path) -> list[str]:
    """What lies in a directory, hidden files included."""
    return sorted(os.listdir(directory))


def once(deed: Callable[[], None]) -> Callable[[], None]:
    """The deed, the first time only."""
    deeds = [deed]
    return lambda: deeds.pop()() if deeds else None


def test_a_change_is_the_smallest_edit_and_leaves_nothing_beside(root: Path, store: ManifestStore) -> None:
    assert store.change(WEB_YAML, "web", STOP).spec.state is PowerState.STOPPED
    assert (root / "web.yaml").read_text() == STOPPED
    assert names(root) == ["web.yaml"]


def test_mode_and_owner_are_kept(root: Path, store: ManifestStore) -> None:
    path = root / "web.yaml"
    owner = (12345, 23456) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(path, *owner)
    path.chmod(0o640)
    store.change(WEB_YAML, "web", STOP)
    info = path.stat()
    assert (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) == (0o640, *owner)


def test_a_change_that_changes_nothing_does_not_touch_the_file(root: Path, store: ManifestStore) -> None:
    before = (root / "web.yaml").stat()
    store.change(WEB_YAML, "web", {("spec", "memory"): 64})
    after = (root / "web.yaml").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_change_that_would_break_the_manifest_is_refused_and_nothing_written(
    root: Path, store: ManifestStore
) -> None:
    with pytest.raises(ManifestError, match=r'web\.yaml:8:3: spec\.memory: found "2G"'):
        store.change(WEB_YAML, "web", {("spec", "memory"): "2G"})
    assert (root / "web.yaml").read_text() == WEB


def test_a_manifest_in_a_sub_directory_is_changed_there(root: Path, store: ManifestStore) -> None:
    (root / "sub").mkdir()
    (root / "sub" / "web.yml").write_text(WEB)
    store.change(ManifestRef("sub/web.yml"), "web", STOP)
    assert (root / "sub" / "web.yml").read_text() == STOPPED
    assert (root / "web.yaml").read_text() == WEB


def test_a_link_stays_a_link_and_its_target_inside_is_changed(root: Path, store: ManifestStore) -> None:
    (root / ".data").mkdir()
    (root / "web.yaml").rename(root / ".data" / "web.yaml")
    (root / "web.yaml").symlink_to(".data/web.yaml")
    store.change(WEB_YAML, "web", STOP)
    assert (root / "web.yaml").is_symlink()
    assert (root / ".data" / "web.yaml").read_text() == STOPPED


def test_the_directory_itself_may_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    ManifestStore(tmp_path / "link").change(WEB_YAML, "web", STOP)
    assert (root / "web.yaml").read_text() == STOPPED


@pytest.mark.parametrize("file", ["web.yaml", "sub/web.yaml"])
def test_links_that_lead_outside_are_refused(
    file: str, root: Path, tmp_path: Path, store: ManifestStore
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / "web.yaml").rename(outside / "web.yaml")
    (root / "web.yaml").symlink_to(outside / "web.yaml")
    (root / "sub").symlink_to(outside)
    with pytest.raises(ManifestError, match=r"found a link to .*, expected a place inside of"):
        store.change(ManifestRef(file), "web", STOP)
    assert (outside / "web.yaml").read_text() == WEB


@pytest.mark.parametrize(
    "file", ["../web.yaml", "/web.yaml", "", ".", "sub/../../web.yaml", "sub/../web.yaml", "a\0b"]
)
def test_paths_that_lead_elsewhere_are_refused(
    file: str, root: Path, tmp_path: Path, store: ManifestStore
) -> None:
    (tmp_path / "web.yaml").write_text(WEB)
    with pytest.raises(ManifestError, match="found a path that leads elsewhere"):
        store.change(ManifestRef(file), "web", STOP)
    with pytest.raises(ManifestError, match="found a path that leads elsewhere"):
        store.create(file, WEB)
    assert (tmp_path / "web.yaml").read_text() == WEB


def test_a_link_to_itself_is_refused(root: Path, store: ManifestStore) -> None:
    (root / "loop.yaml").symlink_to("loop.yaml")
    with pytest.raises(ManifestError, match="found a link to itself"):
        store.change(ManifestRef("loop.yaml"), "web", STOP)


def test_what_is_no_regular_file_is_refused_without_waiting(root: Path, store: ManifestStore) -> None:
    os.mkfifo(root / "fifo.yaml")
    (root / "directory.yaml").mkdir()
    for file in ("fifo.yaml", "directory.yaml"):
        with pytest.raises(ManifestError, match="no regular file"):
            store.change(ManifestRef(file), "web", STOP)


def test_a_manifest_that_is_gone_is_a_conflict(root: Path, store: ManifestStore) -> None:
    (root / "web.yaml").unlink()
    with pytest.raises(ConflictError, match=r"web\.yaml is gone"):
        store.change(WEB_YAML, "web", STOP)
    assert names(root) == []


def test_an_edit_that_came_in_between_is_kept_and_ours_applied_to_it(
    root: Path, store: ManifestStore, meddle: Meddler
) -> None:
    theirs = WEB.replace("memory: 64", "memory: 128  # theirs")
    meddle(once(lambda: durable.write(root / "web.yaml", theirs.encode(), mode=0o600)))
    store.change(WEB_YAML, "web", STOP)
    assert (root / "web.yaml").read_text() == theirs.replace("running", "stopped")
    assert stat.S_IMODE((root / "web.yaml").stat().st_mode) == 0o600
    assert names(root) == ["web.yaml"]


def test_an_edit_in_place_that_hides_behind_size_and_time_is_seen(
    root: Path, store: ManifestStore, meddle: Meddler
) -> None:
    path = root / "web.yaml"
    before = path.stat()

    def edit_in_place() -> None:
        path.write_text(WEB.replace("memory: 64", "memory: 96"))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    meddle(once(edit_in_place))
    store.change(WEB_YAML, "web", STOP)
    assert path.read_text() == STOPPED.replace("memory: 64", "memory: 96")


def test_against_somebody_who_never_stops_editing_we_give_up_and_they_win(
    root: Path, store: ManifestStore, meddle: Meddler
) -> None:
    edits: list[str] = []

    def edit() -> None:
        edits.append(WEB + f"# {len(edits)}\n")
        (root / "web.yaml").write_text(edits[-1])

    meddle(edit)
    with pytest.raises(ConflictError, match="changed by somebody else"):
        store.change(WEB_YAML, "web", STOP)
    assert len(edits) == 4
    assert (root / "web.yaml").read_text() == edits[-1]
    assert names(root) == ["web.yaml"]


def test_a_manifest_that_somebody_is_writing_is_edited_when_they_are_done(root: Path) -> None:
    half, rest = WEB[:60], WEB[60:]
    pauses: list[float] = []
    with open(root / "web.yaml", "w") as writer:
        writer.write(half)
        writer.flush()

        def finish(pause_s: float) -> None:
            pauses.append(pause_s)
            writer.write(rest)
            writer.close()

        ManifestStore(root, sleep=finish).change(WEB_YAML, "web", STOP)
    assert (root / "web.yaml").read_text() == STOPPED
    assert len(pauses) == 1


def test_a_manifest_that_somebody_keeps_open_for_writing_is_left_alone(root: Path) -> None:
    store = ManifestStore(root, sleep=lambda _: None)
    with open(root / "web.yaml", "a"), pytest.raises(ConflictError, match="it is open for writing"):
        store.change(WEB_YAML, "web", STOP)
    assert (root / "web.yaml").read_text() == WEB


def test_a_manifest_deleted_in_between_is_not_made_again(
    root: Path, store: ManifestStore, meddle: Meddler
) -> None:
    meddle((root / "web.yaml").unlink)
    with pytest.raises(ConflictError, match="is gone"):
        store.change(WEB_YAML, "web", STOP)
    assert names(root) == []


def test_a_link_turned_outside_in_between_is_refused(
    root: Path, tmp_path: Path, store: ManifestStore, meddle: Meddler
) -> None:
    (root / ".data").mkdir()
    (root / "web.yaml").rename(root / ".data" / "web.yaml")
    (root / "web.yaml").symlink_to(".data/web.yaml")
    (tmp_path / "web.yaml").write_text(WEB)

    def turn() -> None:
        (root / "web.yaml").unlink()
        (root / "web.yaml").symlink_to(tmp_path / "web.yaml")

    meddle(turn)
    with pytest.raises(ManifestError, match="found a link to"):
        store.change(WEB_YAML, "web", STOP)
    assert (tmp_path / "web.yaml").read_text() == WEB
    assert (root / ".data" / "web.yaml").read_text() == WEB


def test_edits_of_many_threads_are_all_there_in_the_end(root: Path, store: ManifestStore) -> None:
    def label(index: int) -> None:
        store.change(WEB_YAML, "web", {("metadata", "labels", f"l{index}"): str(index)})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(label, range(40)))
    (vm,) = decode((root / "web.yaml").read_bytes(), "web.yaml").vms
    assert vm.labels == {f"l{index}": str(index) for index in range(40)}


def test_a_reader_never_sees_half_a_manifest(root: Path, store: ManifestStore) -> None:
    done = threading.Event()
    seen: set[bytes] = set()

    def watch() -> None:
        while not done.is_set():
            seen.add((root / "web.yaml").read_bytes())

    reader = threading.Thread(target=watch)
    reader.start()
    try:
        for state in ["stopped", "running"] * 20:
            store.change(WEB_YAML, "web", {("spec", "state"): state})
    finally:
        done.set()
        reader.join()
    assert seen <= {WEB.encode(), STOPPED.encode()}


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from reconciler.manifest.store import ManifestStore
from reconciler.model.vm import ManifestRef

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
store = ManifestStore(Path(sys.argv[1]))
for write in (
    lambda: store.change(ManifestRef("web.yaml"), "web", {("spec", "state"): "stopped"}),
    lambda: store.create("new.yaml", sys.argv[2]),
):
    try:
        write()
    except OSError as error:
        print(error.strerror)
"""


def test_a_full_disk_leaves_the_old_file_and_says_so(root: Path) -> None:
    long = WEB + "# " + "x" * 2000 + "\n"
    (root / "web.yaml").write_text(long)
    new = long.replace("name: web", "name: new")
    command = [sys.executable, "-c", FULL_DISK, str(root), new]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout == "File too large\nFile too large\n"
    assert (root / "web.yaml").read_text() == long
    assert names(root) == ["web.yaml"]
