"""The planner's decisions, each compared as the text that people read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.converge.planner import make_plan
from reconciler.model.observed import (
    Alive,
    CdDrive,
    ExitKind,
    Fault,
    Gone,
    Lifecycle,
    QemuView,
)
from reconciler.model.plan import Plan, Remember
from reconciler.model.vm import (
    PowerState,
    Profile,
    VMSpec,
)
from tests.unit.converge.model_host import (
    HANDLE,
    after_exit,
    blank,
    desired,
    hardware_of,
    medium,
    record,
    running,
    stopped,
    text,
    with_hardware,
)

OFF = VMSpec(state=PowerState.STOPPED)
ON = VMSpec()


class TestStart:
    """A VM that should run and does not."""

    def test_first_start_makes_everything_in_order(self) -> None:
        assert text(make_plan(desired(), blank())) == [
            "CreateIdentity() because it has none yet",
            "CreateDisk(20 GiB) because it has none yet",
            "Launch(g1) because the manifest says running",
            "Continue() because the manifest says running",
        ]

    def test_second_start_only_launches(self) -> None:
        assert text(make_plan(desired(), stopped(desired()))) == [
            "Launch(g1) because the manifest says running",
            "Continue() because the manifest says running",
        ]

    def test_a_larger_disk_is_grown_before_the_start(self) -> None:
        seen = stopped(desired())
        plan = make_plan(desired(VMSpec(disk_size_gib=30)), seen)
        assert text(plan)[0] == "GrowDisk(30 GiB) because the manifest wants a larger disk"

    def test_a_smaller_disk_stalls_and_the_rest_is_applied(self) -> None:
        plan = make_plan(desired(VMSpec(disk_size_gib=10)), stopped(desired()))
        assert [type(a).__name__ for a in plan.actions] == ["Launch", "Continue"]
        assert plan.blocked == Fault(
            "DiskShrink", "spec.diskSize: 10 GiB is less than the disk's 20 GiB; write 20"
        )

    @pytest.mark.parametrize("what", ["disk", "medium"])
    def test_a_fault_of_disk_or_iso_blocks_and_is_looked_at_again(self, what: str) -> None:
        fault = Fault("IsoNotFound", "no such file")
        seen = stopped(desired())
        seen = replace(seen, disk=fault) if what == "disk" else replace(seen, medium=fault)
        plan = make_plan(desired(), seen)
        assert (plan.actions, plan.blocked, plan.look_again_s) == ((), fault, 30.0)

    def test_prelaunch_is_continued(self) -> None:
        seen = running(desired(), run_state="prelaunch")
        assert text(make_plan(desired(), seen)) == [
            "Continue() because QEMU is ready and its guest has not begun"
        ]

    @pytest.mark.parametrize(("spec", "then"), [(ON, "Continue"), (OFF, "Quit")])
    def test_an_intent_whose_process_was_found_is_completed_before_anything_else(
        self, spec: VMSpec, then: str
    ) -> None:
        seen = running(desired(), run_state="prelaunch")
        intent = replace(record(desired()), process=None)
        plan = make_plan(desired(spec), replace(seen, lifecycle=Lifecycle(launch=intent)))
        found = plan.actions[0]
        assert isinstance(found, Remember)
        assert found.cause == "QEMU (pid 4242) was started, and not yet written down"
        assert found.lifecycle.launch == record(desired())
        assert type(plan.actions[-1]).__name__ == then

    def test_a_vm_that_has_run_gets_no_blank_disk_in_place_of_one_that_is_gone(self) -> None:
        lost = replace(after_exit(ExitKind.CRASHED), disk=None)
        plan = make_plan(desired(), lost)
        assert plan.actions == ()
        assert plan.blocked
        assert plan.blocked.reason == "DiskMissing"

    def test_an_intent_without_a_process_is_taken_back(self) -> None:
        intent = replace(record(desired()), process=None)
        plan = make_plan(desired(), replace(stopped(desired()), lifecycle=Lifecycle(launch=intent)))
        assert text(plan) == [
            "Remember() because no QEMU came of the last intent",
            "CleanUp() because nothing started",
        ]

    def test_stopped_and_wanted_stopped_is_nothing_to_do(self) -> None:
        assert text(make_plan(desired(OFF), stopped(desired(OFF)))) == ["nothing to do"]

    def test_suspended_is_left_alone_whatever_was_seen(self) -> None:
        calm = desired(VMSpec(suspend=True, state=PowerState.STOPPED))
        assert make_plan(calm, blank()) == Plan("web")
        for state in ("running", "shutdown", "prelaunch"):
            assert make_plan(calm, running(desired(), run_state=state)).actions == ()

    def test_the_end_of_a_suspended_vm_is_noticed_and_not_answered(self) -> None:
        calm = desired(VMSpec(suspend=True))
        plan = make_plan(calm, replace(running(calm), process=Gone(-9)))
        assert [type(a).__name__ for a in plan.actions] == ["KeepCrash", "Remember", "CleanUp"]
        assert make_plan(calm, after_exit(ExitKind.CRASHED, calm.spec)) == Plan("web")

    def test_a_suspended_vm_still_says_what_waits_for_a_restart(self) -> None:
        calm = desired(VMSpec(suspend=True, memory_mib=4096))
        assert [p.field for p in make_plan(calm, running(desired())).pending] == ["memory"]


class TestRunning:
    """A VM that runs and should."""

    def test_as_the_manifest_says_is_nothing_to_do(self) -> None:
        assert text(make_plan(desired(), running(desired()))) == ["nothing to do"]

    def test_the_first_sight_of_a_running_guest_is_remembered(self) -> None:
        seen = running(desired())
        fresh = replace(seen, lifecycle=Lifecycle(launch=replace(record(desired()), guest_ran=False)))
        plan = make_plan(desired(), fresh)
        assert text(plan) == ["Remember() because the guest runs"]

    def test_what_cannot_be_live_is_pending_field_by_field(self) -> None:
        edit = VMSpec(memory_mib=4096, cpu_cores=9, profile=Profile.COMPATIBLE)
        plan = make_plan(desired(edit, "g2"), running(desired()))
        assert text(plan) == [
            "pending memory: 2048 → 4096 (this run can have 2048 at most)",
            "pending cpuCores: 2 → 9 (this run can have 8 at most)",
            "pending profile: default → compatible",
        ]

    def test_a_pending_change_that_is_taken_back_is_pending_no_more(self) -> None:
        assert make_plan(desired(ON, "g3"), running(desired())).pending == ()

    def test_the_disk_itself_says_what_it_has_not_what_the_launch_was_asked_for(self) -> None:
        view = replace(hardware_of(VMSpec(disk_size_gib=10)), disks=hardware_of(VMSpec()).disks)
        grown = with_hardware(running(desired(VMSpec(disk_size_gib=10))), view)
        assert make_plan(desired(), grown) == Plan("web")
        blocked = make_plan(desired(VMSpec(disk_size_gib=10)), grown).blocked
        assert blocked
        assert blocked.reason == "DiskShrink"
        assert text(make_plan(desired(VMSpec(disk_size_gib=30)), grown)) == [
            "ResizeDisk(disk0, 30 GiB) because diskSize: 20 → 30"
        ]

    def test_a_smaller_disk_is_blocked_not_pending(self) -> None:
        plan = make_plan(desired(VMSpec(disk_size_gib=10)), running(desired()))
        assert plan.pending == ()
        assert plan.blocked
        assert plan.blocked.reason == "DiskShrink"

    @pytest.mark.parametrize(
        ("inserted", "wanted", "line"),
        [
            (None, "a", "ChangeMedium(/iso/a) because the manifest wants an ISO in the drive"),
            ("a", "b", "ChangeMedium(/iso/b) because the manifest names another ISO"),
            ("a", None, "ChangeMedium(empty) because the manifest wants the drive empty"),
        ],
    )
    def test_the_medium_is_changed_live(self, inserted: str | None, wanted: str | None, line: str) -> None:
        before = desired(VMSpec(iso_path=inserted, mount_iso=inserted is not None))
        after = desired(VMSpec(iso_path=wanted, mount_iso=wanted is not None), "g2")
        seen = replace(running(before), medium=medium(wanted) if wanted else None)
        plan = make_plan(after, seen)
        assert text(plan) == [line]

    def test_an_iso_that_is_missing_degrades_and_leaves_the_drive(self) -> None:
        fault = Fault("IsoNotFound", "no such file")
        plan = make_plan(
            desired(VMSpec(iso_path="x", mount_iso=True)), replace(running(desired()), medium=fault)
        )
        assert (plan.actions, plan.degraded, plan.look_again_s) == ((), fault, 30.0)

    def test_a_medium_the_manifest_has_not_but_somebody_inserted_is_removed(self) -> None:
        view = QemuView("running", CdDrive("iso-stranger", False, False), hardware_of(VMSpec()))
        plan = make_plan(desired(), replace(running(desired()), process=Alive(HANDLE, view)))
        assert text(plan) == ["ChangeMedium(empty) because the manifest wants the drive empty"]

    def test_a_serial_log_that_has_grown_large_is_cut(self) -> None:
        chatty = replace(running(desired()), serial_log_bytes=17 * 1024**2)
        assert text(make_plan(desired(), chatty)) == ["CutSerialLog() because it has grown to 17 MiB"]

    @pytest.mark.parametrize(
        ("before", "now", "restarts"),
        [
            (None, "2026-01-01T00:00:00Z", True),
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:01+00:00", True),
            ("2026-01-01T00:00:00Z", "2026-01-01T01:00:00+02:00", False),
            ("2026-01-01T00:00:00Z", None, False),
            (None, None, False),
        ],
    )
    def test_restarted_at_restarts_only_when_it_moves_forward(
        self, before: str | None, now: str | None, restarts: bool
    ) -> None:
        seen = running(desired(VMSpec(restarted_at=before)))
        plan = make_plan(desired(VMSpec(restarted_at=now), "g2"), seen)
        assert text(plan)[0].startswith("PowerDown") is restarts
