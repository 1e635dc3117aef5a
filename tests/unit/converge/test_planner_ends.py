"""The planner's decisions about stops, ends and removals, each compared as the text that people read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.converge.planner import make_plan
from reconciler.model.observed import (
    ExitKind,
    Gone,
    Lifecycle,
    StopPhase,
    StopRung,
    Unknown,
)
from reconciler.model.plan import Launch, Plan, Remember, Wish
from reconciler.model.vm import (
    DeletionPolicy,
    DesiredVM,
    PowerState,
    Removal,
    RestartPolicy,
    Shutdown,
    VMSpec,
)
from tests.unit.converge.model_host import (
    HANDLE,
    after_exit,
    desired,
    record,
    remembered,
    running,
    stopped,
    text,
)

OFF = VMSpec(state=PowerState.STOPPED)
ON = VMSpec()


class TestStop:
    """The stop ladder."""

    def test_the_power_button_comes_first_with_the_manifests_time(self) -> None:
        plan = make_plan(desired(VMSpec(state=PowerState.STOPPED, shutdown=Shutdown(7))), running(desired()))
        assert text(plan) == [
            "PowerDown() because a stop was asked for",
            "Remember(stop=acpi) because a stop was asked for",
        ]
        assert plan.look_again_s == 7

    @pytest.mark.parametrize(
        ("rung", "next_action"),
        [
            (StopRung.ACPI, "Quit() because asked; the guest did not shut down in time"),
            (StopRung.QUIT, "Terminate() because asked; QEMU did not quit"),
            (StopRung.TERM, "Kill() because asked; QEMU did not end"),
            (StopRung.KILL, "Kill() because asked; QEMU did not end"),
        ],
    )
    def test_each_rung_follows_when_the_time_of_the_one_before_is_over(
        self, rung: StopRung, next_action: str
    ) -> None:
        seen = running(desired())
        due = StopPhase(rung, "asked", seen.now_s, ExitKind.STOPPED)
        plan = make_plan(desired(OFF), replace(seen, lifecycle=replace(seen.lifecycle, stop=due)))
        assert text(plan)[1] == next_action

    @pytest.mark.parametrize("asked_ago_s", [0, 10, 30])
    def test_a_qemu_that_hangs_after_the_power_button_is_looked_at_when_its_time_is_over(
        self, asked_ago_s: float
    ) -> None:
        seen = running(desired())
        asked_s, deadline_s = seen.now_s - asked_ago_s, seen.now_s + 20
        phase = StopPhase(StopRung.ACPI, "asked", deadline_s, ExitKind.STOPPED, asked_s)
        mute = replace(
            seen, lifecycle=replace(seen.lifecycle, stop=phase), process=Unknown("QmpTimeout", "", HANDLE)
        )
        plan = make_plan(desired(OFF), mute)
        assert (plan.actions, plan.look_again_s) == ((), 20)

    def test_before_its_time_nothing_happens(self) -> None:
        seen = running(desired())
        phase = StopPhase(StopRung.ACPI, "asked", seen.now_s + 9, ExitKind.STOPPED, asked_s=seen.now_s)
        plan = make_plan(desired(OFF), replace(seen, lifecycle=replace(seen.lifecycle, stop=phase)))
        assert (plan.actions, plan.look_again_s) == ((), 9)

    def test_a_guest_that_was_still_booting_is_asked_again(self) -> None:
        seen = running(desired())
        phase = StopPhase(StopRung.ACPI, "asked", seen.now_s + 49, ExitKind.STOPPED, asked_s=seen.now_s - 10)
        plan = make_plan(desired(OFF), replace(seen, lifecycle=replace(seen.lifecycle, stop=phase)))
        assert text(plan) == ["PowerDown() because asked", "Remember(stop=acpi) because asked"]
        assert plan.look_again_s == 10

    def test_force_shortens_the_power_buttons_time(self) -> None:
        seen = running(desired())
        phase = StopPhase(StopRung.ACPI, "asked", seen.now_s + 9, ExitKind.STOPPED)
        waiting = replace(seen, lifecycle=replace(seen.lifecycle, stop=phase))
        assert "Quit() because asked" in text(make_plan(desired(OFF), waiting, Wish.FORCE_STOP))
        assert "Quit() because a stop was asked for" in text(make_plan(desired(OFF), seen, Wish.FORCE_STOP))

    def test_a_guest_that_is_off_is_quit_at_once(self) -> None:
        seen = running(desired(), run_state="shutdown")
        phase = StopPhase(StopRung.ACPI, "asked", seen.now_s + 9, ExitKind.STOPPED)
        plan = make_plan(desired(OFF), replace(seen, lifecycle=replace(seen.lifecycle, stop=phase)))
        assert text(plan) == ["Remember(stop=quit) because asked", "Quit() because asked"]

    def test_a_stop_under_way_is_finished_though_the_manifest_says_running_again(self) -> None:
        seen = running(desired())
        phase = StopPhase(StopRung.ACPI, "asked", seen.now_s - 1, ExitKind.STOPPED)
        plan = make_plan(desired(), replace(seen, lifecycle=replace(seen.lifecycle, stop=phase)))
        assert text(plan)[1].startswith("Quit()")

    def test_a_guest_that_has_not_begun_is_quit_without_the_power_button(self) -> None:
        plan = make_plan(desired(OFF), running(desired(), run_state="prelaunch"))
        assert text(plan)[1] == "Quit() because a stop was asked for"

    def test_qemu_that_stopped_answering_during_a_stop_gets_signals(self) -> None:
        seen = running(desired())
        phase = StopPhase(StopRung.ACPI, "asked", seen.now_s - 1, ExitKind.STOPPED)
        mute = replace(
            seen,
            lifecycle=replace(seen.lifecycle, stop=phase),
            process=Unknown("QmpTimeout", "no answer", HANDLE),
        )
        assert text(make_plan(desired(OFF), mute))[1].startswith("Terminate() because asked")


class TestUnknown:
    """What could not be found out is neither killed nor started."""

    @pytest.mark.parametrize("wanted", [desired(), desired(OFF), Removal(desired()), None])
    @pytest.mark.parametrize("wish", [None, *Wish])
    def test_nothing_is_done(self, wanted: DesiredVM | Removal | None, wish: Wish | None) -> None:
        seen = replace(running(desired()), process=Unknown("QmpTimeout", "no answer", HANDLE))
        assert make_plan(wanted, seen, wish) == Plan("web", look_again_s=5.0)

    def test_without_a_manifest_a_running_vm_is_left_alone(self) -> None:
        assert make_plan(None, running(desired())) == Plan("web")

    def test_without_a_manifest_an_explicit_stop_stops_it(self) -> None:
        plan = make_plan(None, running(desired()), Wish.STOP)
        assert text(plan)[0] == "PowerDown() because a stop was asked for"


class TestEnds:
    """How a VM ended, and what follows."""

    @pytest.mark.parametrize(
        ("run_state", "kind"),
        [
            ("shutdown", ExitKind.GUEST_SHUTDOWN),
            ("guest-panicked", ExitKind.GUEST_PANICKED),
            ("internal-error", ExitKind.CRASHED),
        ],
    )
    def test_an_ended_guest_is_named_and_its_qemu_quit(self, run_state: str, kind: ExitKind) -> None:
        plan = make_plan(desired(), running(desired(), run_state=run_state))
        screen = [] if kind is ExitKind.GUEST_SHUTDOWN else ["KeepScreen"]
        assert [type(a).__name__ for a in plan.actions] == [*screen, "Remember", "Quit"]
        phase = remembered(plan).stop
        assert phase
        assert phase.ends_as is kind

    @pytest.mark.parametrize(
        ("status", "words", "message"),
        [
            (-9, "", "QEMU was ended by signal 9"),
            (None, "", "QEMU vanished"),
            (1, "no such port", "QEMU ended by itself with exit status 1: no such port"),
        ],
    )
    def test_a_process_that_vanished_unasked_is_a_crash(
        self, status: int | None, words: str, message: str
    ) -> None:
        plan = make_plan(desired(), replace(running(desired()), process=Gone(status, words)))
        memory = remembered(plan)
        assert memory.last_exit
        assert (memory.last_exit.kind, memory.last_exit.message) == (ExitKind.CRASHED, message)
        assert (memory.unanswered, memory.failures) == (True, 1)
        assert [type(a).__name__ for a in plan.actions] == ["KeepCrash", "Remember", "CleanUp"]

    def test_one_that_never_ran_is_a_failed_start(self) -> None:
        seen = running(desired())
        early = replace(
            seen,
            lifecycle=Lifecycle(launch=replace(record(desired()), guest_ran=False)),
            process=Gone(1, "busy"),
        )
        end = remembered(make_plan(desired(), early)).last_exit
        assert end
        assert end.kind is ExitKind.START_FAILED

    def test_a_boot_of_the_host_is_no_crash(self) -> None:
        seen = replace(running(desired()), process=Gone(), boot_id="boot-2")
        assert "exit=Stopped" in text(make_plan(desired(), seen))[0]
        assert "failures" not in text(make_plan(desired(), seen))[0]

    @pytest.mark.parametrize(
        ("kind", "policy", "starts"),
        [
            (ExitKind.GUEST_SHUTDOWN, RestartPolicy.ON_FAILURE, False),
            (ExitKind.CRASHED, RestartPolicy.ON_FAILURE, True),
            (ExitKind.GUEST_PANICKED, RestartPolicy.ON_FAILURE, True),
            (ExitKind.START_FAILED, RestartPolicy.ON_FAILURE, True),
            (ExitKind.GUEST_SHUTDOWN, RestartPolicy.ALWAYS, True),
            (ExitKind.CRASHED, RestartPolicy.NEVER, False),
            (ExitKind.GUEST_SHUTDOWN, RestartPolicy.NEVER, False),
        ],
    )
    def test_the_restart_policy_decides(self, kind: ExitKind, policy: RestartPolicy, starts: bool) -> None:
        spec = VMSpec(restart_policy=policy)
        plan = make_plan(desired(spec), after_exit(kind, spec))
        assert any(isinstance(a, Launch) for a in plan.actions) is starts

    @pytest.mark.parametrize("how", ["edit", "wish", "boot"])
    def test_an_edit_a_start_or_a_boot_of_the_host_releases_the_latch(self, how: str) -> None:
        seen = after_exit(ExitKind.GUEST_SHUTDOWN)
        seen = replace(seen, boot_id="boot-2") if how == "boot" else seen
        wanted = desired(generation="g2" if how == "edit" else "g1")
        plan = make_plan(wanted, seen, Wish.START if how == "wish" else None)
        assert [type(a).__name__ for a in plan.actions] == ["Remember", "Launch", "Continue"]

    @pytest.mark.parametrize(("failures", "wait_s"), [(2, 9), (3, 19), (4, 39), (7, 299), (50, 299)])
    def test_the_back_off_doubles_to_five_minutes(self, failures: int, wait_s: float) -> None:
        plan = make_plan(desired(), after_exit(ExitKind.CRASHED, failures=failures))
        assert (plan.actions, plan.look_again_s) == ((), wait_s)

    def test_an_edit_that_waits_for_a_restart_does_not_start_a_vm_that_its_guest_turned_off(self) -> None:
        edited = desired(VMSpec(memory_mib=4096), "g2")
        seen = running(desired(generation="g1"))
        off = StopPhase(StopRung.QUIT, "the guest powered itself off", 0, ExitKind.GUEST_SHUTDOWN)
        gone = replace(seen, lifecycle=replace(seen.lifecycle, stop=off), process=Gone(0))
        (remember, _) = make_plan(edited, gone).actions
        assert isinstance(remember, Remember)
        later = replace(stopped(edited), lifecycle=remember.lifecycle)
        assert make_plan(edited, later).actions == ()
        assert make_plan(desired(VMSpec(memory_mib=8192), "g3"), later).actions != ()

    def test_an_explicit_start_does_not_wait_for_the_back_off(self) -> None:
        plan = make_plan(desired(), after_exit(ExitKind.CRASHED, failures=5), Wish.START)
        assert text(plan)[0].startswith("Remember")
        assert any(isinstance(a, Launch) for a in plan.actions)

    def test_a_start_that_is_asked_for_while_the_end_is_being_noticed_is_not_lost(self) -> None:
        vanished = replace(running(desired()), process=Gone(-9))
        memory = remembered(make_plan(desired(), vanished, Wish.START))
        assert (memory.unanswered, memory.failures) == (False, 0)

    def test_nor_is_one_that_comes_while_an_ended_guest_is_being_quit(self) -> None:
        seen = running(desired(), run_state="shutdown")
        phase = StopPhase(StopRung.QUIT, "off", seen.now_s + 9, ExitKind.GUEST_SHUTDOWN)
        quitting = replace(seen, lifecycle=replace(seen.lifecycle, stop=phase))
        (remember,) = make_plan(desired(), quitting, Wish.START).actions
        assert isinstance(remember, Remember)
        assert remember.lifecycle.stop
        assert remember.lifecycle.stop.ends_as is ExitKind.STOPPED

    @pytest.mark.parametrize(
        ("policy", "failures"), [(RestartPolicy.ON_FAILURE, 0), (RestartPolicy.ALWAYS, 1)]
    )
    def test_a_guest_that_powers_off_counts_only_where_it_is_started_again(
        self, policy: RestartPolicy, failures: int
    ) -> None:
        wanted = desired(VMSpec(restart_policy=policy))
        seen = running(wanted)
        off = StopPhase(StopRung.QUIT, "the guest powered itself off", 0, ExitKind.GUEST_SHUTDOWN)
        gone = replace(seen, lifecycle=replace(seen.lifecycle, stop=off), process=Gone(0))
        (remember, _) = make_plan(wanted, gone).actions
        assert isinstance(remember, Remember)
        assert remember.lifecycle.failures == failures

    def test_ten_healthy_minutes_forget_the_failures_before(self) -> None:
        wanted = desired()
        seen = running(wanted)
        old = replace(seen.lifecycle, launch=record(wanted, seen.now_s - 601), failures=6)
        plan = make_plan(wanted, replace(seen, lifecycle=old, process=Gone(-11)))
        assert remembered(plan).failures == 1

    def test_stopping_and_starting_by_edits_releases_the_latch_though_the_text_is_the_same_again(
        self,
    ) -> None:
        latched = after_exit(ExitKind.GUEST_SHUTDOWN)
        (forget,) = make_plan(desired(OFF, "g2"), latched).actions
        assert isinstance(forget, Remember)
        plan = make_plan(desired(ON, "g1"), replace(latched, lifecycle=forget.lifecycle))
        assert any(isinstance(a, Launch) for a in plan.actions)


class TestRemoval:
    """A VM whose manifest is gone for good."""

    def test_it_is_stopped_first(self) -> None:
        plan = make_plan(Removal(desired()), running(desired()))
        assert text(plan)[0] == "PowerDown() because its manifest is gone"

    def test_then_set_aside(self) -> None:
        plan = make_plan(Removal(desired()), stopped(desired()))
        assert text(plan) == ["SetAside(30 days) because its manifest is gone"]

    def test_or_deleted_where_the_manifest_said_so(self) -> None:
        last = desired(VMSpec(deletion_policy=DeletionPolicy.DELETE))
        assert text(make_plan(Removal(last), stopped(last))) == ["Discard() because its manifest is gone"]
