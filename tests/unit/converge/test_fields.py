"""The table of fields, and what of a change waits for a restart."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from reconciler.converge.changes import Change, Running
from reconciler.converge.fields import FIELDS, Field, Reach
from reconciler.converge.planner import make_plan
from reconciler.converge.running import as_running
from reconciler.model.vm import (
    Accel,
    BootDevice,
    DataDisk,
    DeletionPolicy,
    EjectPolicy,
    Link,
    Nic,
    PortForward,
    PowerState,
    Profile,
    Protocol,
    RestartPolicy,
    Shutdown,
    Throttle,
    UpdatePolicy,
    UpdateWindow,
    VMSpec,
    WatchdogAction,
    Weekday,
)
from tests.unit.converge.model_host import desired, running

SPEC = VMSpec()
CHANGED = VMSpec(
    state=PowerState.STOPPED,
    memory_mib=4096,
    cpu_cores=4,
    disk_size_gib=40,
    port_forwards=(PortForward(8080, 80), PortForward(53, 53, Protocol.UDP)),
    vnc_port=5950,
    boot_order=(BootDevice.NET, BootDevice.HD),
    iso_path="debian.iso",
    mount_iso=True,
    eject_policy=EjectPolicy.FORCE,
    max_memory_mib=8192,
    max_cpu_cores=16,
    root_disk=Throttle(iops=100),
    disks=(DataDisk("data", 1),),
    network_link=Link.DOWN,
    nics=(Nic("lan"),),
    watchdog=WatchdogAction.PAUSE,
    update_policy=UpdatePolicy.WINDOW,
    update_window=UpdateWindow((Weekday.SUN,), 120, 300, "UTC"),
    depends_on=("db",),
    ttl_s=3600,
    profile=Profile.COMPATIBLE,
    accel=Accel.KVM,
    restart_policy=RestartPolicy.NEVER,
    restarted_at="2026-01-01T00:00:00Z",
    shutdown=Shutdown(5),
    suspend=True,
    protect=True,
    deletion_policy=DeletionPolicy.DELETE,
    retain_days=1,
)


def test_every_field_of_a_spec_is_in_the_table_exactly_once() -> None:
    assert sorted(f.attribute for f in FIELDS) == sorted(f.name for f in fields(VMSpec))
    assert len({f.name for f in FIELDS}) == len(FIELDS)


def test_every_field_but_the_one_network_type_shows_a_change() -> None:
    same = {f.attribute for f in FIELDS if f.show(SPEC) == f.show(CHANGED)}
    assert same == {"network_type"}


def vm(spec: VMSpec = SPEC) -> Running:
    """A VM that was launched for this spec, and has it."""
    found = as_running(running(desired(spec)))
    assert found
    return found


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_what_was_launched_is_no_change(field: Field) -> None:
    assert field.bring(vm(), SPEC) == Change()


@pytest.mark.parametrize("spec", [SPEC, replace(CHANGED, accel=Accel.TCG, state=PowerState.RUNNING)])
def test_a_vm_fresh_from_its_launch_has_nothing_waiting(spec: VMSpec) -> None:
    assert make_plan(desired(spec), running(desired(spec))).pending == ()


RESTART_ONLY = [f for f in FIELDS if f.reach is Reach.RESTART and f.name != "networkType"]


@pytest.mark.parametrize("field", RESTART_ONLY, ids=lambda field: field.name)
def test_what_only_a_restart_brings_waits_and_names_just_itself_until_it_is_taken_back(field: Field) -> None:
    wanted = replace(SPEC, **{field.attribute: getattr(CHANGED, field.attribute)})
    plan = make_plan(desired(wanted), running(desired()))
    assert ([p.field for p in plan.pending], plan.actions) == ([field.name], ())
    assert make_plan(desired(SPEC), running(desired())).pending == ()


@pytest.mark.parametrize("field", [f for f in FIELDS if f.reach is Reach.NONE], ids=lambda field: field.name)
def test_the_agents_own_policies_never_wait(field: Field) -> None:
    wanted = replace(SPEC, **{field.attribute: getattr(CHANGED, field.attribute)})
    assert field.bring(vm(), wanted) == Change()


@pytest.mark.parametrize("field", [f for f in FIELDS if f.now], ids=lambda field: field.name)
def test_what_qemu_says_of_a_fresh_vm_is_what_it_was_launched_with(field: Field) -> None:
    assert field.now
    found, spec = vm(), SPEC
    launched = field.launched(found.record) if field.launched else field.show(spec)
    expected = {"maxMemory": "2048"}.get(field.name, launched)
    assert field.now(found) == expected


def test_naming_what_the_agent_chose_is_no_change() -> None:
    assert make_plan(desired(replace(SPEC, vnc_port=5900, accel=Accel.TCG)), running(desired())).actions == ()
    assert make_plan(desired(SPEC), running(desired(replace(SPEC, vnc_port=5907)))).actions == ()


def test_a_lower_limit_waits_for_nothing() -> None:
    roomy = replace(SPEC, max_memory_mib=8192, max_cpu_cores=16)
    less = replace(SPEC, max_memory_mib=4096, max_cpu_cores=4)
    assert make_plan(desired(less), running(desired(roomy))).pending == ()
