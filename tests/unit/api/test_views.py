"""The shapes that are not plain copies."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.api import views
from reconciler.model.status import ConditionType, Truth, VMState
from reconciler.model.vm import VMSpec
from tests.contract.memory_controller import condition, desired, status_of


@pytest.mark.parametrize(
    ("given", "written"),
    [
        (None, None),
        ("2023-07-15T10:30:00.000Z", "2023-07-15T10:30:00.000Z"),
        ("2023-07-15T10:30:00Z", "2023-07-15T10:30:00.000Z"),
        ("2023-07-15T12:30:00.123456+02:00", "2023-07-15T10:30:00.123Z"),
        ("2023-07-15T10:30:00", "2023-07-15T10:30:00.000Z"),
    ],
)
def test_times_have_milliseconds_and_z(given: str | None, written: str | None) -> None:
    assert views.time(given) == written


def test_a_port_that_the_agent_chose_stands_in_the_config_as_well() -> None:
    vm = views.vm(status_of(desired("a", VMSpec(vnc_port=None)), "a", VMState.RUNNING, pid=1))
    assert vm["vncPort"] == 5900
    config = vm["config"]
    assert isinstance(config, dict)
    assert config["vncPort"] == 5900


def test_the_condition_says_whether_a_restart_is_required() -> None:
    status = status_of(desired("a"), "a", VMState.RUNNING)
    stated = condition(ConditionType.RESTART_REQUIRED, Truth.TRUE, "PendingChanges", "memory")
    assert views.requires_restart(replace(status, conditions=(stated,)))
    assert not views.requires_restart(status)


def test_the_drive_of_a_running_vm_is_what_qemu_says_and_of_another_what_the_manifest_says() -> None:
    vm = desired("a", VMSpec(iso_path="x.iso", mount_iso=True))
    assert not views.is_mounted(status_of(vm, "a", VMState.RUNNING, pid=1))
    assert views.is_mounted(status_of(vm, "a", VMState.STOPPED))


def test_the_list_encodes_a_status_again_only_when_it_is_another() -> None:
    shown = views.VMList()
    status = status_of(desired("a"), "a", VMState.RUNNING, pid=1)
    first = shown.encode((status,), (), ())
    assert shown.encode((status,), (), ()) == first
    assert b'"paused"' in shown.encode((replace(status, state=VMState.PAUSED),), (), ())
    assert shown.encode((), (), ()) == b'{"success":true,"vms":[],"problems":[],"held":[]}'
