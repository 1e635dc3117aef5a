"""What a round publishes before and after it acts, and when a write that waits for it may call itself done."""

from __future__ import annotations

from dataclasses import replace

from reconciler.api import table, views
from reconciler.converge.planner import make_plan
from reconciler.converge.summarise import Context, summarise
from reconciler.model.observed import (
    Alive,
    CdDrive,
    Disk,
    Fault,
    Gone,
    LaunchRecord,
    Lifecycle,
    Medium,
    ObservedVM,
    ProcessHandle,
    QemuView,
)
from reconciler.model.plan import Continue, Outcome, Plan
from reconciler.model.status import ConditionType, VMState, VMStatus
from reconciler.model.vm import GIB, Accel, DesiredVM, PowerState, Removal, VMSpec, Wanted
from tests.contract.memory_controller import UTC, desired
from tests.unit.converge.model_host import hardware_of

OLD, NEW = "iso-0000000000000000", "iso-1111111111111111"
LOCKED = Fault("MediumLocked", "the guest holds the CD drive locked")


def seen_of(vm: DesiredVM, node: str | None, run_state: str, medium: Medium | None) -> ObservedVM:
    """A running QEMU with this in its drive, where the manifest names that ISO."""
    handle = ProcessHandle("boot", 5, 1)
    launch = LaunchRecord("u", "g0", vm.spec, (), Accel.TCG, 5900, "7.2", UTC, 1.0, handle, guest_ran=True)
    view = QemuView(run_state, CdDrive(node, tray_open=False, locked=True), hardware_of(vm.spec))
    disk = Disk("/d", 20 * GIB)
    return ObservedVM("a", 10.0, UTC, "boot", None, Lifecycle(launch), Alive(handle, view), disk, medium)


def gone(wanted: Wanted) -> ObservedVM:
    """No QEMU, and nothing remembered."""
    return ObservedVM("a", 10.0, UTC, "boot", None, Lifecycle(), Gone(), None, None)


def said(wanted: Wanted, seen: ObservedVM, fault: Fault | None = None) -> VMStatus:
    """What is published of a round: before it acts; or, with a fault, after its first action failed."""
    plan = make_plan(wanted, seen)
    outcome = Outcome((), plan.actions[0], fault) if fault else Outcome()
    return summarise(wanted, seen, plan, outcome, Context(5))


def with_iso(*, mount: bool) -> DesiredVM:
    return desired("a", VMSpec(iso_path="a.iso", mount_iso=mount))


def test_an_iso_that_a_locked_tray_keeps_was_not_unmounted() -> None:
    vm = with_iso(mount=False)
    status = said(vm, seen_of(vm, OLD, "running", None), LOCKED)
    assert table.mounted(False).over(status)
    assert not table.mounted(False).done(status)


def test_an_iso_that_a_locked_tray_keeps_out_is_no_change_in_force() -> None:
    vm = with_iso(mount=True)
    status = said(vm, seen_of(vm, OLD, "running", Medium("/a.iso", NEW)), LOCKED)
    goal = table.in_force(medium_changed=True)
    assert goal.over(status)
    assert not goal.done(status)


def test_a_change_of_a_paused_vm_is_waited_for() -> None:
    vm = with_iso(mount=True)
    status = said(vm, seen_of(vm, None, "paused", Medium("/a.iso", NEW)))
    assert status.state is VMState.PAUSED
    assert not table.mounted(True).over(status)


def test_a_removal_is_not_over_before_it_is_done() -> None:
    removal = Removal(desired("a", VMSpec(state=PowerState.STOPPED)))
    status = said(removal, gone(removal))
    assert views.is_shown(status)
    assert not table.DELETED.over(status)


def test_a_removal_that_cannot_be_finished_says_why() -> None:
    removal = Removal(desired("a", VMSpec(state=PowerState.STOPPED)))
    status = said(removal, gone(removal), Fault("HostFailed", "EXDEV"))
    assert views.is_shown(status)
    assert table.DELETED.over(status)
    assert not table.DELETED.done(status)
    degraded = status.condition(ConditionType.DEGRADED)
    assert degraded is not None
    assert degraded.message == "EXDEV"


def test_a_qemu_that_ends_before_its_guest_begins_is_judged_by_the_round_that_sees_its_end() -> None:
    vm = desired("a")
    failed = Continue("it is ready")
    plan = Plan("a", (failed,))
    lost = Outcome((), failed, Fault("QmpLost", "no connection"))
    seen = replace(gone(vm), process=Gone(1, "Address already in use"))
    assert summarise(vm, seen, plan, lost, Context(5)).state is VMState.STARTING
