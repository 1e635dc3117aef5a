"""The CD drive of a real QEMU, changed while it runs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from reconciler.model.observed import CdDrive
from reconciler.model.vm import Profile, VMSpec
from reconciler.qemu import isos, media
from reconciler.qemu.devices import iso_node
from tests.contract.qemu.live import GUESTS, Host, LiveVM
from tests.e2e import tiny

DEMO, DATA = GUESTS / "demo.iso", GUESTS / "data.iso"


def insert(vm: LiveVM, path: Path, *, force: bool = False) -> str:
    """As the agent does: opened, handed over, closed. Returns the node's name."""
    opened = isos.open_medium(str(path), path.parent, ())
    try:
        media.insert(vm.execute, opened.node_name, opened.fd, force=force)
    finally:
        os.close(opened.fd)
    return opened.node_name


def leftovers(vm: LiveVM) -> set[str]:
    """Every ISO that QEMU has a block node or a descriptor of."""
    nodes, fdsets = vm.execute("query-named-block-nodes", {"flat": True}), vm.execute("query-fdsets")
    assert isinstance(nodes, list)
    assert isinstance(fdsets, list)
    marks = {fd.get("opaque", "") for fdset in fdsets for fd in fdset["fds"]}
    names = {n["node-name"].removesuffix("-file") for n in nodes}
    return {name for name in marks | names if name.startswith("iso-")}


@pytest.mark.parametrize("profile", list(Profile))
def test_isos_come_change_and_go_and_nothing_of_them_stays(host: Host, profile: Profile) -> None:
    spec = VMSpec(memory_mib=256, cpu_cores=1, disk_size_gib=1, profile=profile)
    vm = host.vm(spec).launch(iso=DEMO)
    vm.execute("cont")
    for path in (DATA, DEMO, DATA, DATA):
        node = insert(vm, path)
        assert vm.look().cd == CdDrive(node, tray_open=False, locked=False)
        assert leftovers(vm) == {node}
    media.eject(vm.execute)
    assert vm.look().cd == CdDrive(None, tray_open=False, locked=False)
    assert leftovers(vm) == set()


def test_an_iso_may_be_inserted_before_the_guest_begins(host: Host, tmp_path: Path) -> None:
    vm = host.vm().launch()
    path = tmp_path / "tiny.iso"
    path.write_bytes(tiny.image())
    node = insert(vm, path)
    vm.execute("cont")
    vm.wait_serial("U")
    drive = vm.look().cd
    assert drive is not None
    assert drive.node_name == node


def test_a_path_full_of_qemus_syntax_is_a_file_like_any_other(host: Host, tmp_path: Path) -> None:
    vm = host.vm().launch()
    for name in (
        "a,read-only=off,b.iso",
        "json:{}.iso",
        "nbd:x",
        "fat:rw:y",
        " white space .iso",
        "new\nline",
    ):
        path = tmp_path / name
        shutil.copyfile(DATA, path)
        node = insert(vm, path)
        drive = vm.look().cd
        assert drive is not None
        assert drive.node_name == node
    assert vm.log.read_text() == ""


def test_an_iso_that_was_deleted_stays_readable_for_the_vm_that_has_it(host: Host, tmp_path: Path) -> None:
    path = tmp_path / "gone.iso"
    path.write_bytes(tiny.image())
    vm = host.vm().launch(iso=path)
    path.unlink()
    vm.execute("cont")
    vm.wait_serial("U")


def test_a_node_that_a_crash_left_behind_is_cleared_away(host: Host) -> None:
    vm = host.vm().launch()
    vm.execute("cont")  # QEMU closes descriptors that were given back only while its guest runs
    with DATA.open("rb") as file:
        node = media.node_name(str(DATA))
        added = vm.execute("add-fd", {"opaque": node}, fd=file.fileno())
        assert isinstance(added, dict)
        vm.execute("blockdev-add", iso_node(node, added["fdset-id"]))
    assert insert(vm, DATA) == node
    assert leftovers(vm) == {node}
    media.eject(vm.execute)
    assert leftovers(vm) == set()
