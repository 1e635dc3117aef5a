"""What a look at the manifests directory sees: which files, in which state, and what of it is read again."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.manifest.decode import Decoded, decode
from reconciler.manifest.scan import Scanner
from reconciler.manifest.seen import Deferred, FileView, RootState, Scan, Unreadable
from reconciler.manifest.whole import Stamp
from tests.unit.manifest.clocks import HandClock

TEXT = "apiVersion: reconciler/v1\nkind: VirtualMachine\nmetadata:\n  name: {}\nspec:\n  memory: {}\n"


class Site:
    """A manifests directory with its scanner; `decoded` are the files that were decoded."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = HandClock()
        self.decoded: list[str] = []
        self.scanner = Scanner(root, self.clock, decode=self._decode)

    def _decode(self, data: bytes, file: str) -> Decoded:
        self.decoded.append(file)
        return decode(data, file)

    def write(self, file: str, name: str = "", memory_mib: int = 512) -> Path:
        """Write a manifest, with the directories above it."""
        path = self.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TEXT.format(name or path.stem, memory_mib))
        return path

    def scan(self) -> Scan:
        """Look."""
        return self.scanner.scan()

    def view(self, file: str) -> FileView:
        """What the next look sees of a file."""
        return self.scan().files[file]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """An empty directory."""
    root = tmp_path / "manifests"
    root.mkdir()
    return Site(root)


def names(view: FileView) -> list[str]:
    assert isinstance(view, Decoded), view
    assert view.problems == ()
    return [vm.name for vm in view.vms]


def message(view: FileView) -> str:
    assert isinstance(view, Unreadable), view
    return view.problem.message


# ---- which files -------------------------------------------------------------------------------------


def test_yaml_files_are_found_at_any_depth_and_hidden_ones_are_not(site: Site) -> None:
    for file in ("b.yaml", "a.yml", "team/c.yaml", "team/deep/er/d.yaml"):
        site.write(file)
    for file in (
        ".hidden.yaml",
        ".hidden/x.yaml",
        ".git/y.yaml",
        "team/.z.yaml",
        "readme.md",
        "e.yaml~",
        "f.yaml.bak",
    ):
        site.write(file, "never")
    assert list(site.scan().files) == ["a.yml", "b.yaml", "team/c.yaml", "team/deep/er/d.yaml"]


def test_the_tree_of_a_config_map_is_seen_through_its_links(site: Site) -> None:
    site.write("..2024/web.yaml")
    (site.root / "..data").symlink_to("..2024")
    (site.root / "web.yaml").symlink_to("..data/web.yaml")
    assert names(site.view("web.yaml")) == ["web"]


def test_a_linked_directory_is_followed_once_and_loops_end(site: Site, tmp_path: Path) -> None:
    Site(tmp_path / "outside").write("web.yaml")
    (site.root / "a").symlink_to(tmp_path / "outside")
    (site.root / "b").symlink_to(tmp_path / "outside")
    (site.root / "loop").symlink_to(site.root)
    (tmp_path / "outside" / "back").symlink_to(site.root)
    (site.root / "self.yaml").symlink_to("self.yaml")
    files = site.scan().files
    assert list(files) == ["a/web.yaml", "self.yaml"]
    assert "Too many levels of symbolic links" in message(files["self.yaml"])


def test_a_link_to_a_file_of_the_same_tree_is_not_a_second_manifest(site: Site) -> None:
    site.write("web.yaml")
    (site.root / "alias.yaml").symlink_to("web.yaml")
    assert list(site.scan().files) == ["web.yaml"]


def test_a_file_name_of_any_bytes_is_shown_printably(site: Site) -> None:
    Path(os.fsdecode(os.fsencode(site.root) + b"/caf\xe9.yaml")).write_text(TEXT.format("web", 512))
    assert names(site.view("caf\\xe9.yaml")) == ["web"]


def test_what_cannot_be_read_is_a_problem_of_its_own(site: Site) -> None:
    os.mkfifo(site.root / "fifo.yaml")
    (site.root / "nowhere.yaml").symlink_to("nothing")
    site.write("web.yaml")
    files = site.scan().files
    assert "not a regular file" in message(files["fifo.yaml"])
    assert "No such file" in message(files["nowhere.yaml"])
    assert names(files["web.yaml"]) == ["web"]


@pytest.mark.parametrize("blank", ["", "\n \n", "\0" * 4096])
def test_an_empty_file_as_a_power_cut_leaves_it_is_no_word_that_a_vm_should_go(
    site: Site, blank: str
) -> None:
    site.write("web.yaml").write_text(blank)
    assert "the file is empty" in message(site.view("web.yaml"))


def test_a_decoder_that_fails_on_one_file_does_not_hinder_the_others(site: Site) -> None:
    def fail_on_bad(data: bytes, file: str) -> Decoded:
        if file == "bad.yaml":
            raise RecursionError
        return decode(data, file)

    site.write("bad.yaml")
    site.write("web.yaml")
    files = Scanner(site.root, site.clock, decode=fail_on_bad).scan().files
    assert "failed to decode" in message(files["bad.yaml"])
    assert names(files["web.yaml"]) == ["web"]


# ---- the directory itself ------------------------------------------------------------------------------


def test_the_state_of_the_root_is_told_with_a_problem(site: Site) -> None:
    assert site.scan() == Scan(RootState.PRESENT)
    site.root.rmdir()
    scan = site.scan()
    assert (scan.root, scan.files) == (RootState.MISSING, {})
    assert "No such file or directory. No VM is changed or removed" in scan.problems[0].message
    site.root.write_text("")
    assert site.scan().root is RootState.NOT_A_DIRECTORY
    site.root.unlink()
    site.root.symlink_to(site.root)
    assert site.scan().root is RootState.UNREADABLE


def test_a_root_that_is_a_link_is_followed_wherever_it_leads_now(site: Site, tmp_path: Path) -> None:
    for release, name in (("one", "web"), ("two", "db")):
        Site(tmp_path / release).write("vm.yaml", name)
    site.root.rmdir()
    site.root.symlink_to("one")
    assert names(site.view("vm.yaml")) == ["web"]
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").rename(site.root)
    assert names(site.view("vm.yaml")) == ["db"]


def test_a_directory_that_cannot_be_listed_stands_for_all_below_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.write("team/web.yaml")
    site.write("db.yaml")
    real = os.scandir

    def refuse(path: str) -> object:
        if Path(path).name == "team":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    files = site.scan().files
    assert list(files) == ["db.yaml", "team/"]
    assert "Permission denied" in message(files["team/"])


def test_a_directory_that_is_renamed_during_the_look_makes_the_look_void(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.write("team/web.yaml")
    real = os.scandir

    def rename_meanwhile(path: str) -> object:
        if Path(path).name == "team":
            Path(path).rename(site.root / "crew")
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", rename_meanwhile)
        assert not site.scan().settled
    assert list(site.scan().files) == ["crew/web.yaml"]


# ---- what is read again --------------------------------------------------------------------------------


def test_a_file_that_did_not_change_is_not_decoded_again(site: Site) -> None:
    site.write("web.yaml")
    site.write("db.yaml")
    first = site.scan()
    site.write("db.yaml", memory_mib=1024)
    second = site.scan()
    assert site.decoded == ["db.yaml", "web.yaml", "db.yaml"]
    assert second.files["web.yaml"] is first.files["web.yaml"]


def test_a_file_at_rest_is_not_even_opened_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.write("web.yaml")
    site.clock.advance(10)
    first = site.scan()
    monkeypatch.setattr(os, "open", None)
    assert site.scan() == first


def test_two_versions_of_one_size_and_one_time_stamp_are_both_seen(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = Stamp.of
    monkeypatch.setattr(
        Stamp, "of", lambda result: replace(exact(result), mtime_ns=0, ctime_ns=_even_second(result))
    )
    site.write("web.yaml", memory_mib=512)
    site.scan()
    site.write("web.yaml", memory_mib=513)
    assert isinstance(view := site.view("web.yaml"), Decoded)
    assert view.vms[0].spec.memory_mib == 513


def _even_second(result: os.stat_result) -> int:
    """The time stamp of a file system that knows only every other second."""
    return result.st_ctime_ns // 2_000_000_000 * 2_000_000_000


# ---- what is not read yet ------------------------------------------------------------------------------


def test_a_file_somebody_writes_is_deferred_and_looked_at_again_less_and_less_often(site: Site) -> None:
    site.write("db.yaml")
    with site.write("web.yaml").open("a"):
        scan = site.scan()
        assert isinstance(scan.files["web.yaml"], Deferred)
        assert names(scan.files["db.yaml"]) == ["db"]
        assert scan.look_again_s == 0.2
        site.clock.advance(0.5)
        assert site.scan().look_again_s == 0.5
        site.clock.advance(50)
        assert site.scan().look_again_s == 1.0
        assert site.scan().problems == ()
        site.clock.advance(10)
        (problem,) = site.scan().problems
        assert problem.file == "web.yaml"
        assert "for more than a minute" in problem.message
    scan = site.scan()
    assert names(scan.files["web.yaml"]) == ["web"]
    assert (scan.problems, scan.look_again_s) == ((), None)


def test_without_leases_a_file_is_read_a_second_after_its_last_change_whatever_the_wall_clock_says(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.fcntl

    def refuse(descriptor: int, command: int, argument: int = 0) -> int:
        if command == fcntl.F_SETLEASE:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        return real(descriptor, command, argument)

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    site.write("web.yaml")
    assert isinstance(site.view("web.yaml"), Deferred)
    site.clock.step(3600)
    assert isinstance(site.view("web.yaml"), Deferred)
    site.clock.advance(0.9)
    site.write("web.yaml", memory_mib=1024)
    assert isinstance(site.view("web.yaml"), Deferred)
    site.clock.advance(0.9)
    assert isinstance(site.view("web.yaml"), Deferred)
    site.clock.advance(0.1)
    assert names(site.view("web.yaml")) == ["web"]


# ---- git ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [".git", "../.git", "team/.git"])
def test_nothing_is_concluded_while_git_holds_its_lock(site: Site, where: str) -> None:
    site.write("team/web.yaml")
    lock = site.root / where / "index.lock"
    lock.parent.mkdir()
    site.scan()
    lock.touch()
    for _ in range(2):
        scan = site.scan()
        assert (scan.settled, scan.files, scan.look_again_s) == (False, {}, 0.2)
    lock.unlink()
    assert names(site.view("team/web.yaml")) == ["web"]


def test_the_lock_of_a_linked_work_tree_is_found_in_its_repository(site: Site, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    git = ["git", "-C", str(repository), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "init", "-q", repository], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "one"], check=True)
    site.root.rmdir()
    subprocess.run([*git, "worktree", "add", "-q", str(site.root)], check=True)
    assert site.scan().settled
    (repository / ".git" / "worktrees" / "manifests" / "index.lock").touch()
    assert not site.scan().settled


@pytest.mark.parametrize("where", ["..", ".", "team"])
@pytest.mark.parametrize(
    "data",
    [b"\0" * 64, b"", b"gitdir: a\0b", b"not git's", b"gitdir: " + b"x" * 100_000],
    ids=["zeros", "empty", "zero-inside", "prose", "endless"],
)
def test_a_dot_git_that_names_no_directory_hinders_nothing(site: Site, where: str, data: bytes) -> None:
    """Such as a power cut leaves of the `.git` file of a linked work tree."""
    site.write("team/web.yaml")
    (site.root / where / ".git").write_bytes(data)
    for _ in range(2):  # what lies below the root is known from the second look on
        scan = site.scan()
        assert scan.settled
        assert list(scan.files) == ["team/web.yaml"]


def test_a_checkout_that_begins_and_ends_during_the_look_makes_the_look_void(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.write("web.yaml")
    index = site.root / ".git" / "index"
    index.parent.mkdir()
    index.write_text("old")
    real = os.scandir

    def check_out_meanwhile(path: str) -> object:
        (index.parent / "index.lock").write_text("new")
        (index.parent / "index.lock").rename(index)
        return real(path)

    site.scan()
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", check_out_meanwhile)
        assert not site.scan().settled
    assert site.scan().settled


@pytest.mark.parametrize("clock_is_right", [True, False])
def test_a_lock_left_behind_is_reported_and_no_longer_waited_for(site: Site, clock_is_right: bool) -> None:
    site.write("web.yaml")
    lock = site.root / ".git" / "index.lock"
    lock.parent.mkdir()
    lock.touch()
    if not clock_is_right:
        site.clock.step(-7200)
    site.clock.advance(50)
    assert not site.scan().settled
    site.clock.advance(61)
    scan = site.scan()
    assert names(scan.files["web.yaml"]) == ["web"]
    (problem,) = scan.problems
    assert problem.file == str(lock)
    assert "if no git runs there, remove the file" in problem.message
