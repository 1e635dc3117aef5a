"""The class of every end, what each restart policy makes of it, and what is kept of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.converge.planner import make_plan
from reconciler.model.observed import Exit, ExitKind, Gone, Lifecycle, ObservedVM
from reconciler.model.plan import KeepCrash, Launch
from reconciler.model.vm import RestartPolicy, VMSpec
from tests.unit.converge.model_host import Host, after_exit, desired, record, remembered, running

ALWAYS, ON_FAILURE, NEVER = RestartPolicy.ALWAYS, RestartPolicy.ON_FAILURE, RestartPolicy.NEVER


def ended(process: Gone, *, guest_ran: bool = True) -> Exit:
    """What is noted of a QEMU that is gone in this way."""
    launch = replace(record(desired()), guest_ran=guest_ran)
    seen = replace(running(desired()), lifecycle=Lifecycle(launch=launch), process=process)
    end = remembered(make_plan(desired(), seen)).last_exit
    assert end
    return end


@pytest.mark.parametrize(
    ("process", "guest_ran", "kind"),
    [
        (Gone(0, shutdown_reason="host-qmp-quit"), True, ExitKind.HOST_QUIT),
        (Gone(None, shutdown_reason="host-qmp-quit"), True, ExitKind.HOST_QUIT),
        (Gone(0, shutdown_reason="host-signal"), True, ExitKind.HOST_QUIT),
        (Gone(0, shutdown_reason="host-qmp-quit"), False, ExitKind.HOST_QUIT),
        (Gone(0), True, ExitKind.HOST_QUIT),
        (Gone(None, "terminating on signal 15 from pid 7 (sh)"), True, ExitKind.HOST_QUIT),
        (Gone(-9, shutdown_reason="guest-shutdown"), True, ExitKind.CRASHED),
        (Gone(-11), True, ExitKind.CRASHED),
        (Gone(1), True, ExitKind.CRASHED),
        (Gone(None), True, ExitKind.CRASHED),
        (Gone(0), False, ExitKind.START_FAILED),
        (Gone(1), False, ExitKind.START_FAILED),
        (Gone(-6), False, ExitKind.START_FAILED),
    ],
)
def test_what_is_known_of_a_process_that_is_gone_gives_its_class(
    process: Gone, guest_ran: bool, kind: ExitKind
) -> None:
    assert ended(process, guest_ran=guest_ran).kind is kind


@pytest.mark.parametrize(
    ("process", "message"),
    [
        (Gone(0, shutdown_reason="host-qmp-quit"), "somebody had QEMU quit, by a QMP command"),
        (
            Gone(0, "terminating on signal 15 from pid 7 (sh)", "host-signal"),
            "somebody ended QEMU by a signal: terminating on signal 15 from pid 7 (sh)",
        ),
        (Gone(0), "QEMU was told to quit, and not by the agent"),
    ],
)
def test_who_ended_it_from_outside_is_said_as_far_as_it_is_known(process: Gone, message: str) -> None:
    assert ended(process).message == message


@pytest.mark.parametrize(
    ("kind", "restarting"),
    [
        (ExitKind.GUEST_SHUTDOWN, {ALWAYS}),
        (ExitKind.GUEST_PANICKED, {ALWAYS, ON_FAILURE}),
        (ExitKind.CRASHED, {ALWAYS, ON_FAILURE}),
        (ExitKind.HOST_QUIT, {ALWAYS, ON_FAILURE}),
        (ExitKind.START_FAILED, {ALWAYS, ON_FAILURE}),
    ],
)
@pytest.mark.parametrize("policy", RestartPolicy)
def test_each_policy_decides_about_each_class(
    kind: ExitKind, restarting: set[RestartPolicy], policy: RestartPolicy
) -> None:
    spec = VMSpec(restart_policy=policy)
    plan = make_plan(desired(spec), after_exit(kind, spec))
    assert any(isinstance(action, Launch) for action in plan.actions) is (policy in restarting)


def test_what_the_agent_asked_for_is_stopped_whatever_the_process_says_of_it() -> None:
    host = Host(running(desired()))
    off = desired(VMSpec(state=desired().spec.state.STOPPED), "g2")
    for _ in range(2):
        for action in make_plan(off, host.look(off)).actions:
            host.act(action)
    host.seen = replace(host.seen, process=Gone(0, shutdown_reason="host-qmp-quit"))
    end = remembered(make_plan(off, host.seen)).last_exit
    assert end
    assert end.kind is ExitKind.STOPPED


class TestBundle:
    """What is kept of an end."""

    def kept(self, seen: ObservedVM) -> KeepCrash | None:
        """The one that a plan keeps."""
        found = [action for action in make_plan(desired(), seen).actions if isinstance(action, KeepCrash)]
        return found[0] if found else None

    def test_a_crash_is_reported_with_all_that_is_known(self) -> None:
        crashed = self.kept(replace(running(desired()), process=Gone(-11, "boom")))
        assert crashed
        assert crashed.bundle == "20260101T000000.000Z-4242"
        report = crashed.report
        assert (report.kind, report.signal, report.exit_status, report.pid) == ("Crashed", 11, None, 4242)
        assert (report.generation, report.message) == ("g1", "QEMU was ended by signal 11: boom")

    def test_the_last_exit_says_where_it_lies(self) -> None:
        assert ended(Gone(1)).bundle == "20260101T000000.000Z-4242"

    def test_a_round_that_has_to_note_it_again_keeps_the_same(self) -> None:
        first = replace(running(desired()), process=Gone(-11))
        again = replace(first, now_s=first.now_s + 9, utc="2026-01-01T00:00:09.000Z")
        found = self.kept(first), self.kept(again)
        assert found[0]
        assert found[1]
        assert found[0].bundle == found[1].bundle

    def test_nothing_is_kept_of_an_end_that_somebody_wished(self) -> None:
        assert self.kept(replace(running(desired()), process=Gone(0, "", "host-qmp-quit"))) is None
        assert ended(Gone(0)).bundle is None
