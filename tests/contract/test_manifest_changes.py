"""Creating, editing and removing manifests, on real directories: names and ports are given once, nothing half done."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reconciler import durable
from reconciler.clock import SystemClock
from reconciler.control.board import Board
from reconciler.control.manifests import Manifests, Tools
from reconciler.converge.ports import VncPorts
from reconciler.layout import Layout
from reconciler.manifest.catalog import Catalog
from reconciler.manifest.decode import decode
from reconciler.manifest.scan import Scanner
from reconciler.manifest.store import ManifestStore
from reconciler.model.errors import (
    ConflictError,
    ManifestError,
    PortConflictError,
    PreconditionError,
    ProtectedError,
    StateError,
)
from reconciler.model.observed import Fault, LaunchRecord, Lifecycle
from reconciler.model.vm import Accel, DesiredVM, Removal, VMSpec
from reconciler.storage.records import Records
from reconciler.storage.trash import Trash

OFF = {"state": "stopped"}


class Host:
    """A manifests directory, a state directory, and one agent's hand after another."""

    def __init__(self, path: Path) -> None:
        self.root = path / "manifests"
        self.root.mkdir()
        self.layout = Layout(path / "state", path / "run")
        self.records = Records(self.layout)
        self.start()

    def start(self) -> None:
        """A new agent, which reads the manifests and finishes what the last one began."""
        clock = SystemClock()
        self.catalog = Catalog(self.layout, self.root, Scanner(self.root, clock), clock)
        self.ports = VncPorts(self.catalog.vnc_claims)
        self.tools = Tools(
            catalog=self.catalog,
            store=ManifestStore(self.root),
            records=self.records,
            trash=Trash(self.layout),
            ports=self.ports,
            board=Board(),
            look_at_iso=lambda path: Fault("IsoNotFound", path),
            scan=self.catalog.refresh,
        )
        self.manifests = Manifests(self.tools)
        self.catalog.refresh()
        self.manifests.finish()

    def files(self) -> list[str]:
        """What lies in the manifests' directory."""
        return sorted(os.listdir(self.root))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host without manifests."""
    return Host(tmp_path)


# ---- create --------------------------------------------------------------------------------------------


def test_a_new_manifest_can_be_read_and_its_port_is_written_down(host: Host) -> None:
    vm = host.manifests.create("web", {**OFF, "memory": 512})
    assert host.catalog.wanted("web") == vm
    assert vm.spec.vnc_port is not None
    assert f"vncPort: {vm.spec.vnc_port}" in (host.root / "web.yaml").read_text()
    assert (host.root / "web.yaml").stat().st_mode & 0o777 == 0o600 | (0o644 & host.root.stat().st_mode)


def test_twenty_that_come_at_once_get_a_port_each(host: Host) -> None:
    with ThreadPoolExecutor(20) as pool:
        made = list(pool.map(lambda n: host.manifests.create(f"vm{n}", OFF), range(20)))
    assert len({vm.spec.vnc_port for vm in made}) == 20


def test_of_twenty_that_want_one_name_one_gets_it(host: Host) -> None:
    def make(_: int) -> bool:
        try:
            host.manifests.create("web", OFF)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(20) as pool:
        assert sum(pool.map(make, range(20))) == 1


def test_a_port_is_given_to_one_also_while_git_is_at_work_and_nothing_is_read(host: Host) -> None:
    (host.root / ".git").mkdir()
    (host.root / ".git" / "index.lock").touch()
    first, second = (host.manifests.create(name, OFF) for name in ("a", "b"))
    assert host.catalog.wanted("a") is None
    assert first.spec.vnc_port != second.spec.vnc_port


def test_a_port_that_a_manifest_names_is_not_given_again(host: Host) -> None:
    host.manifests.create("web", {**OFF, "vncPort": 23456})
    with pytest.raises(PortConflictError, match="web"):
        host.manifests.create("db", {**OFF, "vncPort": 23456})
    host.manifests.create("db", OFF)
    with pytest.raises(PortConflictError, match="web"):
        host.manifests.edit("db", {("spec", "vncPort"): 23456})
    host.manifests.edit("web", {("spec", "vncPort"): 23456})


def test_a_file_that_is_there_is_never_overwritten(host: Host) -> None:
    (host.root / "web.yaml").write_text("[broken")
    with pytest.raises(ConflictError):
        host.manifests.create("web", OFF)
    assert (host.root / "web.yaml").read_text() == "[broken"


def test_a_name_whose_disk_is_still_there_is_not_given_again(host: Host) -> None:
    host.records.save_lifecycle("web", Lifecycle())
    with pytest.raises(ConflictError, match="left its disk"):
        host.manifests.create("web", OFF)


def test_rehearsals_write_nothing(host: Host) -> None:
    vm = host.manifests.create("web", OFF, dry_run=True)
    assert (vm.name, host.files(), host.catalog.wanted("web")) == ("web", [], None)
    host.manifests.create("web", OFF)
    before = (host.root / "web.yaml").read_bytes()
    assert host.manifests.edit("web", {("spec", "memory"): 64}, dry_run=True).spec.memory_mib == 64
    assert isinstance(host.manifests.remove("web", discard=False, dry_run=True), Removal)
    assert (host.root / "web.yaml").read_bytes() == before
    assert isinstance(host.catalog.wanted("web"), DesiredVM)


def test_a_manifest_that_would_be_broken_is_not_made(host: Host) -> None:
    with pytest.raises(ManifestError):
        host.manifests.create("web", {**OFF, "mountIso": True})
    assert host.files() == []


# ---- edit ----------------------------------------------------------------------------------------------


def test_an_edit_of_a_version_that_nobody_saw_is_refused(host: Host) -> None:
    seen = host.manifests.create("web", OFF)
    host.manifests.edit("web", {("spec", "memory"): 64}, expect={seen.generation})
    before = (host.root / "web.yaml").read_bytes()
    for change in (
        lambda: host.manifests.edit("web", {("spec", "memory"): 128}, expect={seen.generation}),
        lambda: host.manifests.remove("web", discard=False, expect={seen.generation}),
    ):
        with pytest.raises(PreconditionError) as caught:
            change()
        assert caught.value.now == decode(before, "web.yaml").vms[0].generation
    assert (host.root / "web.yaml").read_bytes() == before
    host.catalog.refresh()
    assert isinstance(host.catalog.wanted("web"), DesiredVM)


def test_only_what_a_manifest_describes_can_be_edited(host: Host) -> None:
    with pytest.raises(StateError):
        host.manifests.edit("web", {("spec", "memory"): 64})


def test_a_vm_that_moved_to_another_file_is_found_at_the_next_try(host: Host) -> None:
    host.manifests.create("web", OFF)
    (host.root / "web.yaml").rename(host.root / "moved.yaml")
    with pytest.raises(ConflictError):
        host.manifests.edit("web", {("spec", "memory"): 64})
    assert host.manifests.edit("web", {("spec", "memory"): 64}).source.file == "moved.yaml"


# ---- remove --------------------------------------------------------------------------------------------


def test_a_manifest_goes_and_its_vm_with_it(host: Host) -> None:
    vm = host.manifests.create("web", OFF)
    assert host.manifests.remove("web", discard=True) == Removal(vm, discard=True)
    assert host.files() == []
    assert host.catalog.wanted("web") == Removal(vm, discard=True)
    with pytest.raises(ConflictError, match="being removed"):
        host.manifests.create("web", OFF)
    host.catalog.forget("web")
    host.manifests.create("web", OFF)


def test_a_second_removal_joins_and_may_ask_for_more(host: Host) -> None:
    vm = host.manifests.create("web", OFF)
    host.manifests.remove("web", discard=False)
    host.manifests.remove("web", discard=True)
    host.manifests.remove("web", discard=False)
    assert host.catalog.wanted("web") == Removal(vm, discard=True)


def test_a_document_among_others_goes_alone(host: Host) -> None:
    one = host.manifests.create("web", OFF)
    host.manifests.create("db", OFF)
    both = one.text + "---\n" + (host.root / "db.yaml").read_text()
    (host.root / "db.yaml").unlink()
    (host.root / "web.yaml").write_text(both)
    host.catalog.refresh()
    host.manifests.remove("web", discard=False)
    host.catalog.refresh()
    assert isinstance(host.catalog.wanted("db"), DesiredVM)
    assert isinstance(host.catalog.wanted("web"), Removal)


def test_a_removal_that_fails_leaves_all_as_it_was(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    vm = host.manifests.create("web", OFF)

    def refuse(_: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(durable, "remove", refuse)
        with pytest.raises(PermissionError):
            host.manifests.remove("web", discard=True)
    assert host.catalog.wanted("web") == vm
    host.start()
    assert host.catalog.wanted("web") == vm


def test_a_broken_file_is_not_removed_for_one_of_its_vms(host: Host) -> None:
    host.manifests.create("web", OFF)
    with (host.root / "web.yaml").open("a") as file:
        file.write("---\nkind: Nonsense\n")
    host.catalog.refresh()
    with pytest.raises(ManifestError):
        host.manifests.remove("web", discard=False)
    assert isinstance(host.catalog.wanted("web"), DesiredVM)


def entombed(host: Host) -> DesiredVM:
    """A VM that an agent was about to delete, disks and all, when it died."""
    vm = host.manifests.create("web", OFF)
    host.catalog.entomb(vm, discard=True, stamp=host.tools.store.stamp(vm.source))
    return vm


def test_an_agent_that_dies_before_the_manifest_goes_leaves_one_that_takes_it_away(host: Host) -> None:
    vm = entombed(host)
    host.start()
    assert host.files() == []
    assert host.catalog.wanted("web") == Removal(vm, discard=True)


def test_a_manifest_that_was_edited_since_is_spared(host: Host) -> None:
    vm = entombed(host)
    host.tools.store.change(vm.source, "web", {("spec", "memory"): 64})
    for _ in range(2):  # nor is it doomed by the one that gave up
        host.start()
        assert host.files() == ["web.yaml"]
        assert isinstance(host.catalog.wanted("web"), DesiredVM)
        assert not host.catalog.unfinished()


def test_a_manifest_that_somebody_put_back_after_the_crash_is_spared(host: Host) -> None:
    vm = entombed(host)
    host.tools.store.remove(vm.source, "web")
    (host.root / "web.yaml").write_text(vm.text)
    host.start()
    assert host.files() == ["web.yaml"]
    assert host.catalog.wanted("web") == vm


def test_an_agent_that_dies_after_the_manifest_went_leaves_one_that_goes_on(host: Host) -> None:
    vm = entombed(host)
    host.tools.store.remove(vm.source, "web")
    host.start()
    assert host.catalog.wanted("web") == Removal(vm, discard=True)


def test_a_vm_that_runs_without_a_manifest_is_removed_with_one_that_describes_it(host: Host) -> None:
    spec = VMSpec(memory_mib=64, iso_path="a.iso")
    launch = LaunchRecord("uuid", "g1", spec, (), Accel.TCG, 5900, "7.2", "2026-01-01T00:00:00.000Z", 1.0)
    host.records.save_lifecycle("stray", Lifecycle(launch=launch))
    removal = host.manifests.remove("stray", discard=False)
    assert decode(removal.last.text.encode(), "stray.yaml").vms[0].spec == spec
    assert host.catalog.wanted("stray") == removal


def test_what_was_saved_a_moment_ago_counts(host: Host) -> None:
    vm = host.manifests.create("web", OFF)
    newer = vm.text + "  memory: 4096\n"
    (host.root / "web.yaml").write_text(newer)
    assert host.manifests.remove("web", discard=False).last.text == newer
    db = host.manifests.create("db", OFF)
    (host.root / "db.yaml").write_text(db.text + "  protect: true\n")
    with pytest.raises(ProtectedError):
        host.manifests.remove("db", discard=True)
    assert host.files() == ["db.yaml"]


def test_a_vm_whose_file_was_just_removed_by_hand_can_be_deleted(host: Host) -> None:
    host.manifests.create("db", OFF)
    vm = host.manifests.create("web", OFF)
    (host.root / "web.yaml").unlink()
    host.catalog.refresh()
    assert host.manifests.remove("web", discard=False) == Removal(vm)
    assert host.catalog.wanted("web") == Removal(vm)


def held(host: Host) -> DesiredVM:
    """A VM whose file went away together with all others."""
    vm = host.manifests.create("web", OFF)
    (host.root / "web.yaml").unlink()
    host.catalog.refresh()
    assert "web" in host.catalog.held()
    return vm


def test_of_a_held_vm_no_version_was_seen(host: Host) -> None:
    vm = held(host)
    with pytest.raises(PreconditionError):
        host.manifests.remove("web", discard=True, expect={vm.generation})
    assert host.manifests.remove("web", discard=True) == Removal(vm, discard=True)


def test_a_held_vm_whose_file_is_back_goes_with_its_file(host: Host) -> None:
    vm = held(host)
    (host.root / "web.yaml").write_text(vm.text)
    host.manifests.remove("web", discard=False)
    assert host.files() == []


def test_a_rehearsed_removal_is_refused_as_the_true_one_would_be(host: Host) -> None:
    host.manifests.create("web", OFF)
    with pytest.raises(PreconditionError):
        host.manifests.remove("web", discard=False, expect={"never-seen"}, dry_run=True)


def test_a_refusal_leaves_no_tombstone_even_where_nothing_can_be_written(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.manifests.create("db", OFF)
    vm = host.manifests.create("web", OFF)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(durable, "write", full)
        with pytest.raises(PreconditionError):
            host.manifests.remove("web", discard=True, expect={"other"})
    (host.root / "web.yaml").unlink()
    host.catalog.refresh()
    assert host.catalog.wanted("web") == vm


def test_a_name_that_stands_in_a_broken_file_is_not_given_again(host: Host) -> None:
    host.manifests.create("db", OFF)
    broken = host.manifests.create("web", OFF).text.replace("stopped", "walking")
    (host.root / "web.yaml").rename(host.root / "other.yaml")
    (host.root / "other.yaml").write_text(broken)
    host.start()
    with pytest.raises(ConflictError):
        host.manifests.create("web", OFF)


def test_two_edits_cannot_claim_one_port(host: Host) -> None:
    host.manifests.create("a", OFF)
    host.manifests.create("b", OFF)
    host.manifests.edit("a", {("spec", "vncPort"): 23456})
    with pytest.raises(PortConflictError):
        host.manifests.edit("b", {("spec", "vncPort"): 23456})


@pytest.mark.parametrize("name", ["..", ".", "a/../..", "", "a\n"])
def test_what_is_no_name_leaves_nothing_over(host: Host, name: str) -> None:
    host.records.save_lifecycle("a", Lifecycle())
    assert host.manifests.is_leftover("a")
    assert not host.manifests.is_leftover(name)


def test_nothing_is_removed_that_there_is_not(host: Host) -> None:
    with pytest.raises(StateError):
        host.manifests.remove("nobody", discard=False)
