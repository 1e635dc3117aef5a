"""A VM that was imported stays as it came, until its manifest is changed; what its QEMU lacks waits for a restart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.converge.planner import make_plan
from reconciler.model.observed import Alive, Foreign, Medium, ObservedVM
from reconciler.model.vm import BootDevice, DesiredVM, Link, PortForward, Throttle, VMSpec
from tests.unit.converge.model_host import GIB, desired, running

CAME = VMSpec(root_disk=Throttle(mbps=2), boot_order=(BootDevice.HD, BootDevice.CD), vnc_port=5901)
LIMITS = (0, 1_500_000, 0, 0, 0, 0)
FOREIGN = Foreign(
    uuid="theirs",
    ids={"disk0": "hd", "cd0": "cd"},
    paths={"disk0": "/hd", "cd0": "/cd", "nic0": "/eth"},
    netdev="lan",
    limits=LIMITS,
)
BARE = Foreign(uuid="theirs")


def imported(foreign: Foreign = FOREIGN, **lacks: object) -> ObservedVM:
    """A VM as it came: a disk of no whole size, limits that no manifest can say, no boot indices."""
    seen = running(desired(CAME))
    process, record = seen.process, seen.lifecycle.launch
    assert isinstance(process, Alive)
    assert process.qemu.hardware is not None
    assert record is not None
    disk = replace(process.qemu.hardware.disks[0], size_bytes=int(19.5 * GIB), limits=LIMITS)
    hardware = replace(process.qemu.hardware, disks=(disk,), boot_order=(), **lacks)  # type: ignore[arg-type]
    cd = process.qemu.cd if "cd0" in foreign.ids else None
    return replace(
        seen,
        process=replace(process, qemu=replace(process.qemu, hardware=hardware, cd=cd)),
        lifecycle=replace(seen.lifecycle, launch=replace(record, foreign=foreign)),
    )


def wants(**changes: object) -> DesiredVM:
    """Its manifest, with these changes."""
    return desired(replace(CAME, **changes), generation="g2")  # type: ignore[arg-type]


def test_nothing_is_done_to_one_whose_manifest_says_what_it_came_with() -> None:
    plan = make_plan(desired(CAME), imported())
    assert (plan.actions, plan.pending, plan.blocked, plan.degraded) == ((), (), None, None)


def test_ones_of_our_own_in_the_same_state_are_brought_to_their_manifest() -> None:
    """It is the import that makes the difference."""
    seen = imported()
    assert seen.lifecycle.launch is not None
    ours = replace(seen.lifecycle, launch=replace(seen.lifecycle.launch, foreign=None))
    done = {
        type(action).__name__ for action in make_plan(desired(CAME), replace(seen, lifecycle=ours)).actions
    }
    assert done == {"ResizeDisk", "LimitDisk", "SetBootOrder"}


@pytest.mark.parametrize(
    ("change", "action"),
    [
        ({"disk_size_gib": 21}, "ResizeDisk(disk0, 21 GiB)"),
        ({"root_disk": Throttle(iops=9)}, "LimitDisk(disk0, 9 iops, no MB/s)"),
        ({"boot_order": (BootDevice.CD,)}, "SetBootOrder(cd)"),
        ({"port_forwards": (PortForward(2222, 22),)}, "AddForward(127.0.0.1:2222->22/tcp)"),
        ({"vnc_port": 5950}, "MoveVnc(5950)"),
        ({"network_link": Link.DOWN}, "SetLink(nic0, down)"),
    ],
)
def test_a_change_of_its_manifest_reaches_it_at_once(change: dict[str, object], action: str) -> None:
    plan = make_plan(wants(**change), imported())
    assert [one.render().partition(" because ")[0] for one in plan.actions] == [action]
    assert plan.pending == ()


def test_what_somebody_else_changed_in_it_is_mended() -> None:
    seen = imported()
    assert isinstance(seen.process, Alive)
    assert seen.process.qemu.hardware is not None
    moved = replace(seen.process.qemu.hardware, boot_order=(BootDevice.CD,))
    process = replace(seen.process, qemu=replace(seen.process.qemu, hardware=moved))
    (action,) = make_plan(desired(CAME), replace(seen, process=process)).actions
    assert action.render().startswith("SetBootOrder(hd,cd)")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"disk_size_gib": 21}, "diskSize"),
        ({"boot_order": (BootDevice.CD,)}, "bootOrder"),
        ({"port_forwards": (PortForward(2222, 22),)}, "portForwards"),
        ({"vnc_port": 5950}, "vncPort"),
        ({"network_link": Link.DOWN}, "networkLink"),
    ],
)
def test_what_its_qemu_lacks_waits_for_a_restart_and_is_not_tried(
    change: dict[str, object], field: str
) -> None:
    seen = imported(BARE, netdevs=frozenset(), vnc_port=None, devices=frozenset())
    seen = replace(seen, vnc_offer=None)
    plan = make_plan(wants(**change), seen)
    assert [pending.field for pending in plan.pending] == [field]
    assert all("was imported has" in str(pending) for pending in plan.pending)
    assert plan.actions == ()


def test_an_iso_for_one_without_a_drive_waits_too() -> None:
    seen = replace(imported(BARE), medium=Medium("/iso/x", "iso-x"))
    plan = make_plan(wants(iso_path="/iso/x", mount_iso=True), seen)
    assert [pending.field for pending in plan.pending] == ["isoPath"]
