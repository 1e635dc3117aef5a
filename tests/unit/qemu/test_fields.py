"""The table of fields, and what of a change waits for a restart."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

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
from reconciler.qemu.fields import FIELDS, Reach, pending_changes

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


def test_what_a_restart_brings_is_listed_field_by_field_from_and_to() -> None:
    assert [str(c) for c in pending_changes(SPEC, 5900, CHANGED)] == [
        "memory: 2048 → 4096",
        "cpuCores: 2 → 4",
        "diskSize: 20 → 40",
        "portForwards: none → 127.0.0.1:8080->80/tcp, 127.0.0.1:53->53/udp",
        "vncPort: 5900 → 5950",
        "bootOrder: cd,hd → net,hd",
        "profile: default → compatible",
        "accel: auto → kvm",
    ]


def test_nothing_waits_where_nothing_changed() -> None:
    assert pending_changes(CHANGED, 5950, CHANGED) == ()


@pytest.mark.parametrize("attribute", [f.attribute for f in FIELDS if f.reach is not Reach.RESTART])
def test_what_needs_no_restart_never_waits_for_one(attribute: str) -> None:
    wanted = replace(SPEC, **{attribute: getattr(CHANGED, attribute)})
    assert pending_changes(SPEC, 5900, wanted) == ()


def test_a_port_that_is_named_no_longer_stays_and_naming_the_one_in_use_changes_nothing() -> None:
    named = replace(SPEC, vnc_port=5907)
    assert pending_changes(named, 5907, SPEC) == ()
    assert pending_changes(SPEC, 5907, named) == ()


def test_accel_auto_is_content_with_what_it_has() -> None:
    assert pending_changes(replace(SPEC, accel=Accel.TCG), 5900, SPEC) == ()


def test_naming_the_accelerator_that_was_chosen_anyway_changes_nothing() -> None:
    wanted = replace(SPEC, accel=Accel.TCG)
    assert pending_changes(SPEC, 5900, wanted, Accel.TCG) == ()
    assert [str(c) for c in pending_changes(SPEC, 5900, wanted, Accel.KVM)] == ["accel: kvm → tcg"]
