"""What the agent keeps of a VM comes back as it was, or is refused; it is never taken for nothing."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.layout import Layout
from reconciler.model.errors import ConflictError, StateError
from reconciler.model.observed import Exit, ExitKind, Lifecycle, StopPhase, StopRung
from reconciler.model.vm import PortForward, VMSpec
from reconciler.storage import logs
from reconciler.storage.records import Records
from reconciler.storage.trash import Trash
from tests.unit.converge.model_host import IDENTITY, desired, record

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "state", tmp_path / "run")


def test_identity_and_lifecycle_come_back_as_they_were(layout: Layout) -> None:
    records = Records(layout)
    spec = VMSpec(port_forwards=(PortForward(8080, 80),), iso_path="a, b.iso", mount_iso=True)
    end = Exit(ExitKind.CRASHED, "g0", "QEMU vanished", "2026-01-01T00:00:00.000Z", 12.5, "boot-1")
    stop = StopPhase(StopRung.ACPI, "asked", 99.0, ExitKind.STOPPED)
    memory = Lifecycle(record(desired(spec)), stop, end, unanswered=True, failures=3)
    records.save_identity("web", IDENTITY)
    records.save_lifecycle("web", memory)
    assert Records(layout).identity("web") == IDENTITY
    assert Records(layout).lifecycle("web") == memory
    assert records.names() == ("web",)


def test_a_vm_that_never_was_has_no_identity_and_an_empty_memory(layout: Layout) -> None:
    records = Records(layout)
    assert records.identity("web") is None
    assert records.lifecycle("web") is None
    assert records.names() == ()
    assert not records.exists("web")


@pytest.mark.parametrize("damage", [b"", b"{", b'{"failures": "many"}', b"\xff\xfe"])
def test_a_damaged_record_is_refused_and_named(layout: Layout, damage: bytes) -> None:
    records = Records(layout)
    records.save_lifecycle("web", Lifecycle())
    layout.vm("web").lifecycle.write_bytes(damage)
    with pytest.raises(StateError, match=r"lifecycle\.json: is damaged"):
        records.lifecycle("web")


def test_a_record_that_cannot_be_read_is_not_taken_for_nothing(layout: Layout) -> None:
    records = Records(layout)
    layout.vm("web").lifecycle.mkdir(parents=True)
    with pytest.raises(StateError, match="cannot be read"):
        records.lifecycle("web")
    with pytest.raises(StateError, match="cannot be written"):
        records.save_lifecycle("web", Lifecycle())


class TestTrash:
    """Setting aside, bringing back, and deleting in the end."""

    def make(self, layout: Layout) -> Trash:
        Records(layout).save_identity("web", IDENTITY)
        layout.vm("web").disk.write_bytes(b"the guest's data")
        return Trash(layout)

    def test_what_was_set_aside_comes_back_whole(self, layout: Layout) -> None:
        trash = self.make(layout)
        where = trash.set_aside(replace(desired(), text="# mine\nkind: VirtualMachine\n"), NOW)
        assert where.parent == layout.trash
        assert not layout.vm("web").path.exists()
        with trash.taking_back("web") as (entry, text):
            pass
        assert (entry.name, entry.file) == ("web", "web.yaml")
        assert text == "# mine\nkind: VirtualMachine\n"
        assert layout.vm("web").disk.read_bytes() == b"the guest's data"
        assert sorted(p.name for p in layout.vm("web").path.iterdir()) == ["identity.json", "root.qcow2"]

    def test_an_agent_that_died_before_it_could_tell_sets_nothing_empty_aside(self, layout: Layout) -> None:
        trash = self.make(layout)
        last = replace(desired(), text="kind: VirtualMachine\n")
        first = trash.set_aside(last, NOW)
        assert trash.set_aside(last, NOW + timedelta(seconds=9)) == first
        with trash.taking_back("web"):
            pass
        assert layout.vm("web").disk.read_bytes() == b"the guest's data"

    def test_a_restore_that_an_agent_died_in_is_gone_on_with(self, layout: Layout) -> None:
        trash = self.make(layout)
        where = trash.set_aside(replace(desired(), text="kind: VirtualMachine\n"), NOW)
        where.rename(layout.vm("web").path)  # as far as the dead agent got
        with trash.taking_back("web") as (entry, text):
            assert (entry.name, text) == ("web", "kind: VirtualMachine\n")
        assert sorted(p.name for p in layout.vm("web").path.iterdir()) == ["identity.json", "root.qcow2"]

    def test_the_newest_of_a_name_comes_back(self, layout: Layout) -> None:
        trash = self.make(layout)
        trash.set_aside(desired(), NOW)
        self.make(layout)
        layout.vm("web").disk.write_bytes(b"newer")
        trash.set_aside(desired(), NOW + timedelta(days=1))
        with trash.taking_back("web"):
            pass
        assert layout.vm("web").disk.read_bytes() == b"newer"

    def test_nothing_is_brought_back_over_a_vm_that_exists(self, layout: Layout) -> None:
        trash = self.make(layout)
        trash.set_aside(desired(), NOW)
        self.make(layout)
        with pytest.raises(ConflictError, match="exists"), trash.taking_back("web"):
            pass

    def test_where_its_manifest_cannot_be_written_it_stays_in_the_trash(self, layout: Layout) -> None:
        trash = self.make(layout)
        where = trash.set_aside(desired(), NOW)
        with pytest.raises(OSError, match="full"), trash.taking_back("web"):
            raise OSError("full")
        assert not layout.vm("web").path.exists()
        assert trash.entries()[0][0] == where

    def test_what_was_never_set_aside_is_said_so(self, layout: Layout) -> None:
        with pytest.raises(StateError, match="nothing of this name"), Trash(layout).taking_back("web"):
            pass

    def test_an_entry_is_deleted_when_its_days_are_over_and_not_before(self, layout: Layout) -> None:
        trash = self.make(layout)
        trash.set_aside(desired(VMSpec(retain_days=30)), NOW)
        assert trash.purge(NOW + timedelta(days=29, hours=23)) == ()
        assert trash.purge(NOW + timedelta(days=30)) == ("web",)
        assert os.listdir(layout.trash) == []

    def test_an_entry_without_its_note_is_never_deleted(self, layout: Layout) -> None:
        trash = self.make(layout)
        where = trash.set_aside(desired(), NOW)
        (where / "trash.json").unlink()
        assert trash.purge(NOW + timedelta(days=9999)) == ()
        assert where.exists()

    def test_discard_deletes_at_once(self, layout: Layout) -> None:
        trash = self.make(layout)
        trash.discard("web")
        assert not layout.vm("web").path.exists()
        trash.discard("web")


class TestLogs:
    """The tails of logs, and cutting the serial console's."""

    def test_a_cut_keeps_the_end_aside_and_whoever_appends_begins_anew(self, layout: Layout) -> None:
        home = layout.vm("web")
        home.path.mkdir(parents=True)
        with home.serial_log.open("ab", buffering=0) as qemu:
            qemu.write(b"x" * logs.KEPT_BYTES + b"the end")
            logs.cut_serial_log(home)
            qemu.write(b"more")
        assert home.serial_log.read_bytes() == b"more"
        assert home.serial_log_before.read_bytes().endswith(b"xthe end")
        assert home.serial_log_before.stat().st_size == logs.KEPT_BYTES

    def test_a_tail_is_only_ever_read_from_a_regular_file(self, layout: Layout, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("secret")
        (tmp_path / "link").symlink_to(tmp_path / "secret")
        os.mkfifo(tmp_path / "fifo")
        for name in ("link", "fifo", "missing"):
            assert logs.read_tail(tmp_path / name, 100) == b""
        assert logs.read_tail(tmp_path / "secret", 3) == b"ret"
        assert (logs.size(tmp_path / "secret"), logs.size(tmp_path / "missing")) == (6, 0)
