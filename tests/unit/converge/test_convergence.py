"""From any situation and any pair of manifests, planning ends; and nobody is restarted for what can be had live."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.converge import policy
from reconciler.converge.planner import make_plan
from reconciler.model.observed import Alive, Disk, ExitKind, Fault, Gone, ObservedVM
from reconciler.model.plan import Plan, PowerDown, Quit
from reconciler.model.vm import (
    GIB,
    Accel,
    BootDevice,
    DataDisk,
    DesiredVM,
    EjectPolicy,
    Link,
    Nic,
    PortForward,
    PowerState,
    Profile,
    RestartPolicy,
    Throttle,
    UpdatePolicy,
    VMSpec,
    WatchdogAction,
)
from tests.unit.converge.model_host import Host, blank, desired, running, stopped, text, with_hardware

LAUNCHED = VMSpec(
    memory_mib=256, max_memory_mib=512, cpu_cores=1, max_cpu_cores=4, watchdog=WatchdogAction.RESET
)
throttles = st.builds(Throttle, st.sampled_from([0, 100]), st.sampled_from([0, 7]))
disks = st.lists(
    st.builds(DataDisk, st.sampled_from("abcdef"), st.integers(1, 3), throttles),
    max_size=4,
    unique_by=lambda disk: disk.name,
).map(lambda some: tuple(sorted(some)))
nics = st.lists(
    st.builds(Nic, st.sampled_from("abcdef"), st.sampled_from(Link)),
    max_size=4,
    unique_by=lambda nic: nic.name,
).map(lambda some: tuple(sorted(some)))
orders = st.permutations([BootDevice.CD, BootDevice.HD]).map(tuple)
live = {
    "disk_size_gib": st.integers(1, 3),
    "cpu_cores": st.integers(1, 4),
    "memory_mib": st.integers(100, 512),
    "vnc_port": st.sampled_from([None, 5900, 5901]),
    "port_forwards": st.sampled_from(
        [(), (PortForward(8080, 80),), (PortForward(8080, 81), PortForward(9, 9))]
    ),
    "boot_order": orders,
    "iso_path": st.just("a"),
    "mount_iso": st.booleans(),
    "root_disk": throttles,
    "disks": disks,
    "nics": nics,
    "network_link": st.sampled_from(Link),
    "eject_policy": st.sampled_from(EjectPolicy),
}
specs = st.builds(
    VMSpec,
    **live,
    state=st.sampled_from(PowerState),
    max_memory_mib=st.sampled_from([None, 512, 1024]),
    max_cpu_cores=st.sampled_from([None, 4, 8]),
    watchdog=st.sampled_from([None, WatchdogAction.RESET, WatchdogAction.PAUSE]),
    profile=st.sampled_from(Profile),
    accel=st.sampled_from([Accel.AUTO, Accel.TCG]),
    update_policy=st.sampled_from([UpdatePolicy.MANUAL, UpdatePolicy.RESTART, UpdatePolicy.ON_GUEST_REBOOT]),
    restart_policy=st.sampled_from(RestartPolicy),
    restarted_at=st.sampled_from([None, "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"]),
)
kinds = st.sampled_from(
    ["blank", "stopped", "running", "prelaunch", "shutdown", "guest-panicked", "vanished"]
)
ENDS = {
    "shutdown": ExitKind.GUEST_SHUTDOWN,
    "guest-panicked": ExitKind.GUEST_PANICKED,
    "vanished": ExitKind.CRASHED,
}


def situation(kind: str, before: DesiredVM) -> ObservedVM:
    match kind:
        case "blank":
            return blank()
        case "stopped":
            return stopped(before)
        case "vanished":
            return replace(running(before), process=Gone(-9))
        case state:
            return running(before, run_state=state)


def converge(host: Host, wanted: DesiredVM) -> list[Plan]:
    """Execute plan after plan until there is nothing to do; all plans, the last of which is empty."""
    plans = []
    for _ in range(60):
        plans.append(make_plan(wanted, host.look(wanted)))
        if not plans[-1].actions and plans[-1].look_again_s is None:
            return plans
        for action in plans[-1].actions:
            host.act(action)
        if not plans[-1].actions:
            host.wait(plans[-1].look_again_s or 0)
    raise AssertionError(f"no end of planning: {plans[-1].render()}")


@settings(max_examples=200, deadline=None)
@given(specs, specs, kinds)
def test_planning_after_executing_gives_an_empty_plan(before: VMSpec, after: VMSpec, kind: str) -> None:
    wanted = desired(after, "g2")
    host = Host(situation(kind, desired(before, "g1")))
    last = converge(host, wanted)[-1]
    final = host.look(wanted)
    ended_as = ENDS.get(kind)
    stays_off = ended_as is not None and policy.latched(after, ended_as)
    assert isinstance(final.process, Alive) is (after.state is PowerState.RUNNING and not stays_off)
    if isinstance(final.disk, Disk) and isinstance(final.process, Alive):
        assert final.disk.virtual_size_bytes >= 1 * GIB
    if after.update_policy is UpdatePolicy.RESTART:
        assert last.pending == ()


@settings(max_examples=200, deadline=None)
@given(st.fixed_dictionaries({}, optional=live), st.sampled_from(UpdatePolicy))
def test_no_plan_restarts_a_vm_while_every_change_is_live(
    changes: dict[str, object], policy: UpdatePolicy
) -> None:
    after = replace(LAUNCHED, **changes, update_policy=policy)  # type: ignore[arg-type]
    host = Host(running(desired(replace(LAUNCHED, disk_size_gib=1))))
    plans = converge(host, desired(after, "g2"))
    assert not [a for plan in plans for a in plan.actions if isinstance(a, PowerDown | Quit)]
    assert all(plan.pending == () for plan in plans)


@settings(max_examples=100, deadline=None)
@given(specs, specs)
def test_a_guest_that_refuses_is_asked_ever_more_rarely_and_said_to_refuse(
    before: VMSpec, after: VMSpec
) -> None:
    wanted = desired(
        replace(after, state=PowerState.RUNNING, restarted_at=None, update_policy=UpdatePolicy.MANUAL)
    )
    launched = replace(before, state=PowerState.RUNNING, restarted_at=None)
    host = Host(running(desired(launched)), obeys=False)
    rounds, began_s = 0, host.seen.now_s
    plan = make_plan(wanted, host.look(wanted))
    while host.seen.now_s < began_s + 3600:
        plan = make_plan(wanted, host.look(wanted))
        rounds += 1
        if not plan.actions and plan.look_again_s is None:
            return
        for action in plan.actions:
            host.act(action)
        if not plan.actions:
            host.wait(plan.look_again_s or 0)
        assert rounds < 100, plan.render()
    assert plan.degraded or plan.blocked


ASKS_FOR_A_RESTART = VMSpec(profile=Profile.COMPATIBLE, update_policy=UpdatePolicy.RESTART)


def stops(plan: Plan) -> bool:
    return any(isinstance(action, PowerDown | Quit) for action in plan.actions)


@pytest.mark.parametrize(
    "trouble",
    [
        {"accel": Accel.KVM},
        {"waits_for": ("db is stopped",)},
        {"medium": Fault("IsoNotFound", "gone")},
        {"disk": Fault("DiskFailed", "EIO")},
        {"run_state": "paused"},
    ],
    ids=lambda trouble: next(iter(trouble)),
)
def test_a_vm_that_could_not_be_started_again_or_cannot_shut_down_is_not_stopped_for_an_update(
    trouble: dict[str, Any],
) -> None:
    spec = replace(ASKS_FOR_A_RESTART, accel=trouble.pop("accel", Accel.AUTO))
    seen = running(desired(), run_state=trouble.pop("run_state", "running"))
    assert stops(make_plan(desired(ASKS_FOR_A_RESTART), running(desired())))
    assert not stops(make_plan(desired(spec), replace(seen, **trouble)))


def test_what_can_be_had_live_comes_before_a_restart() -> None:
    plan = make_plan(desired(replace(ASKS_FOR_A_RESTART, disk_size_gib=30)), running(desired()))
    assert [type(action).__name__ for action in plan.actions] == ["ResizeDisk"]


def test_a_guest_that_does_not_follow_is_not_restarted_for_it() -> None:
    wanted = desired(VMSpec(memory_mib=1024, update_policy=UpdatePolicy.RESTART))
    host = Host(running(desired()), obeys=False)
    plan = make_plan(wanted, host.look(wanted))
    for _ in range(20):
        plan = make_plan(wanted, host.look(wanted))
        assert not stops(plan)
        for action in plan.actions:
            host.act(action)
        host.wait(plan.look_again_s or 0)
    assert [(change.field, change.by_guest) for change in plan.pending] == [("memory", True)]


def test_an_unstartable_vm_is_not_armed_for_its_guests_reboot() -> None:
    spec = VMSpec(profile=Profile.COMPATIBLE, update_policy=UpdatePolicy.ON_GUEST_REBOOT)
    assert "SetReboot(shutdown)" in make_plan(desired(spec), running(desired())).render()
    lost = replace(running(desired()), medium=Fault("IsoNotFound", "gone"))
    assert "SetReboot" not in make_plan(desired(spec), lost).render()


def test_a_disk_in_place_of_another_waits_for_its_port_and_not_for_a_restart() -> None:
    full = VMSpec(disks=tuple(DataDisk(name, 1) for name in "abcdefgh"))
    other = replace(full, disks=(*full.disks[1:], DataDisk("z", 1)))
    host = Host(running(desired(full)))
    plans = converge(host, desired(replace(other, update_policy=UpdatePolicy.RESTART)))
    assert not any(stops(plan) or plan.pending for plan in plans)


def test_a_screen_whose_port_is_not_the_one_written_down_is_written_down() -> None:
    seen = running(desired())
    record = seen.lifecycle.launch
    assert record
    wrong = replace(seen, lifecycle=replace(seen.lifecycle, launch=replace(record, vnc_port=5901)))
    assert text(make_plan(desired(VMSpec(vnc_port=5900)), wrong)) == [
        "NoteVnc(5900) because QEMU serves the screen on another port than was written down"
    ]


def test_what_qemu_may_or_may_not_have_been_told_is_told_again() -> None:
    seen = running(desired())
    record = seen.lifecycle.launch
    assert record
    doubt = replace(record, told={"link:nic0": "?", "reboot": "?"})
    plan = make_plan(desired(), replace(seen, lifecycle=replace(seen.lifecycle, launch=doubt)))
    assert [action.render().partition(" because")[0] for action in plan.actions] == [
        "SetLink(nic0, up)",
        "SetReboot(reset)",
    ]


def test_a_guest_that_keeps_its_cores_is_not_restarted_for_it() -> None:
    seen = running(desired(VMSpec(cpu_cores=4)))
    assert isinstance(seen.process, Alive)
    assert seen.process.qemu.hardware
    listens = replace(seen.process.qemu.hardware, agent_open=True, cpus_online=4)
    host = Host(with_hardware(seen, listens), obeys=False)
    wanted = desired(VMSpec(cpu_cores=2, update_policy=UpdatePolicy.RESTART))
    plan = make_plan(wanted, host.look(wanted))
    assert [action.render().partition(" because")[0] for action in plan.actions] == ["UseCpus(2)"]
    for _ in range(20):
        plan = make_plan(wanted, host.look(wanted))
        assert not stops(plan)
        for action in plan.actions:
            host.act(action)
        host.wait(plan.look_again_s or 0)
    assert [(change.field, change.by_guest) for change in plan.pending] == [("cpuCores", True)]


def test_without_an_agent_in_the_guest_fewer_cores_wait_for_a_restart() -> None:
    plan = make_plan(desired(VMSpec(cpu_cores=1)), running(desired()))
    assert text(plan) == ["pending cpuCores: 2 → 1 (only an agent in the guest can give up a core)"]


def test_a_guest_that_reboots_and_had_given_up_cores_is_waited_for() -> None:
    seen = running(desired(VMSpec(cpu_cores=4)))
    record = seen.lifecycle.launch
    assert record
    told = replace(seen, lifecycle=replace(seen.lifecycle, launch=replace(record, told={"cpus": "2"})))
    plan = make_plan(desired(VMSpec(cpu_cores=2)), told)
    assert (plan.actions, plan.pending, plan.look_again_s) == ((), (), 30.0)
