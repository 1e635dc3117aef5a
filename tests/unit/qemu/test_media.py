"""Changing the medium: against a drive that behaves as QEMU's was seen to, at every point where it may fail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from reconciler.model.errors import MediumLockedError, QmpError, QmpLostError
from reconciler.qemu.media import eject, insert, node_name

OLD, NEW = node_name("/old.iso"), node_name("/new.iso")


@dataclass
class Drive:
    """QEMU's CD drive, block nodes and fd sets, of which it may be broken by `fails`: a command and its error."""

    medium: str | None = None
    tray_open: bool = False
    locked: bool = False
    nodes: set[str] = field(default_factory=set)
    fdsets: dict[int, str] = field(default_factory=dict)
    fails: dict[str, Exception] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    guest_closes: int = 0
    """How often the guest closes the tray as soon as it is open."""

    def __call__(
        self, command: str, arguments: Mapping[str, object] | None = None, *, fd: int | None = None
    ) -> object:
        if not command.startswith("query-"):
            self.log.append(command)
        if command in self.fails:
            raise self.fails.pop(command)
        return getattr(self, command.replace("-", "_"))(**_python(arguments), **({"fd": fd} if fd else {}))

    def query_block(self) -> object:
        inserted = {"inserted": {"node-name": self.medium}} if self.medium else {}
        return [{"qdev": "cd0", "tray_open": self.tray_open, "locked": self.locked, **inserted}]

    def query_named_block_nodes(self, flat: bool) -> object:
        assert flat
        return [{"node-name": n} for node in self.nodes for n in (node, f"{node}-file")]

    def query_fdsets(self) -> object:
        return [{"fdset-id": n, "fds": [{"fd": 7, "opaque": mark}]} for n, mark in self.fdsets.items()]

    def blockdev_open_tray(self, id: str, force: bool) -> object:  # noqa: A002 - QMP's word
        assert id == "cd0"
        self.tray_open = self.tray_open or force or not self.locked
        return {}

    def blockdev_close_tray(self, id: str) -> object:  # noqa: A002
        assert id == "cd0"
        self.tray_open = False
        return {}

    def blockdev_remove_medium(self, id: str) -> object:  # noqa: A002
        self._let_the_guest_close_it()
        self._refuse_unless(id == "cd0" and self.tray_open, "Tray of device 'cd0' is not open")
        self.medium = None
        return {}

    def blockdev_insert_medium(self, id: str, node_name: str) -> object:  # noqa: A002
        self._let_the_guest_close_it()
        self._refuse_unless(id == "cd0" and self.tray_open and not self.medium, "cannot insert")
        self._refuse_unless(node_name in self.nodes, "Cannot find node")
        self.medium = node_name
        return {}

    def blockdev_add(self, node_name: str, **properties: object) -> object:
        self._refuse_unless(node_name not in self.nodes, "Duplicate nodes")
        assert properties["read_only"] is True
        assert isinstance(properties["file"], dict)
        fdset = int(properties["file"]["filename"].removeprefix("/dev/fdset/"))
        self._refuse_unless(self.fdsets.get(fdset) == node_name, "no such fd set")
        self.nodes.add(node_name)
        return {}

    def blockdev_del(self, node_name: str) -> object:
        self._refuse_unless(node_name in self.nodes and node_name != self.medium, "Node is in use")
        self.nodes.remove(node_name)
        return {}

    def add_fd(self, opaque: str, fd: int) -> object:
        assert fd == 42
        number = max(self.fdsets, default=0) + 1
        self.fdsets[number] = opaque
        return {"fdset-id": number, "fd": 7}

    def remove_fd(self, fdset_id: int) -> object:
        del self.fdsets[fdset_id]
        return {}

    def _let_the_guest_close_it(self) -> None:
        if self.guest_closes:
            self.guest_closes -= 1
            self.tray_open = False

    def _refuse_unless(self, allowed: bool, words: str) -> None:
        if not allowed:
            raise QmpError(self.log[-1], "GenericError", words)


def _python(arguments: Mapping[str, object] | None) -> dict[str, object]:
    return {k.replace("-", "_"): v for k, v in (arguments or {}).items()}


def loaded(**changes: object) -> Drive:
    """A drive with the old ISO in."""
    drive = Drive(medium=OLD, nodes={"disk0", OLD}, fdsets={1: "disk0", 3: OLD})
    for name, value in changes.items():
        setattr(drive, name, value)
    return drive


def assert_holds(drive: Drive, medium: str | None) -> None:
    """This medium is in the closed drive, and nothing else is left of any."""
    assert (drive.medium, drive.tray_open) == (medium, False)
    assert drive.nodes - {"disk0"} == ({medium} if medium else set())
    assert sorted(set(drive.fdsets.values()) - {"disk0"}) == ([medium] if medium else [])


def test_an_iso_goes_into_an_empty_drive() -> None:
    drive = Drive()
    insert(drive, NEW, 42)
    assert_holds(drive, NEW)


def test_an_iso_takes_the_place_of_another_of_which_nothing_stays() -> None:
    drive = loaded()
    insert(drive, NEW, 42)
    assert_holds(drive, NEW)


def test_inserting_what_is_in_already_sends_nothing_but_a_question() -> None:
    drive = loaded()
    insert(drive, OLD, 42)
    assert drive.log == []


def test_ejecting_leaves_an_empty_closed_drive() -> None:
    drive = loaded()
    eject(drive)
    assert_holds(drive, None)
    eject(drive)
    assert_holds(drive, None)


def test_a_tray_that_the_guest_left_open_is_no_obstacle() -> None:
    drive = loaded(tray_open=True)
    insert(drive, OLD, 42)
    assert_holds(drive, OLD)


@pytest.mark.parametrize("change", [lambda d: insert(d, NEW, 42), eject])
def test_a_drive_that_the_guest_holds_keeps_its_medium_and_the_guest_is_asked(change) -> None:  # type: ignore[no-untyped-def]
    drive = loaded(locked=True)
    with pytest.raises(MediumLockedError, match="unmount"):
        change(drive)
    assert_holds(drive, OLD)
    assert drive.log == ["blockdev-open-tray"]


def test_force_tears_the_medium_out() -> None:
    drive = loaded(locked=True)
    insert(drive, NEW, 42, force=True)
    assert_holds(drive, NEW)


COMMANDS = (
    *("blockdev-open-tray", "blockdev-remove-medium", "blockdev-del", "remove-fd"),
    *("add-fd", "blockdev-add", "blockdev-insert-medium", "blockdev-close-tray"),
)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("error", [QmpError("x", "GenericError", "no"), QmpLostError("gone")])
def test_after_a_failure_at_any_point_the_next_try_succeeds(command: str, error: Exception) -> None:
    drive = loaded(fails={command: error})
    with pytest.raises(type(error)):
        insert(drive, NEW, 42)
    insert(drive, NEW, 42)
    if drive.tray_open:  # the close itself failed, and the medium was in
        insert(drive, NEW, 42)
    assert_holds(drive, NEW)


@pytest.mark.parametrize("command", ["add-fd", "blockdev-add", "blockdev-insert-medium"])
def test_a_medium_that_is_refused_leaves_the_tray_closed(command: str) -> None:
    drive = loaded(fails={command: QmpError(command, "GenericError", "no")})
    with pytest.raises(QmpError):
        insert(drive, NEW, 42)
    assert (drive.medium, drive.tray_open) == (None, False)


def test_a_node_name_fits_and_tells_paths_apart() -> None:
    names = {node_name(p) for p in ("/srv/iso/a.iso", "/srv/iso/b.iso", "/srv/iso/\udcff.iso")}
    assert len(names) == 3
    assert all(len(f"{n}-file") <= 31 and n.startswith("iso-") for n in names)


@pytest.mark.parametrize("times", [1, 3])
def test_a_guest_that_closes_the_tray_in_between_is_met_with_patience(times: int) -> None:
    drive = loaded(guest_closes=times)
    insert(drive, NEW, 42)
    assert_holds(drive, NEW)


def test_one_that_never_leaves_it_open_is_an_error_in_the_end() -> None:
    with pytest.raises(QmpError, match="not open"):
        eject(loaded(guest_closes=1000))
