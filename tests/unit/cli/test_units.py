"""What stands in the units for which agent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.cli.units import AGENT, GUESTS, Place, units
from reconciler.model.errors import SettingsError

PLACE = Place(
    program=("/usr/bin/reconciler",),
    manifests=Path("/etc/reconciler/manifests"),
    state_dir=Path("/var/lib/reconciler"),
    run_dir=Path("/run/reconciler"),
    flags=(),
    uses=(Path("/usr"),),
)


def lines(place: Place, name: str = AGENT) -> list[str]:
    return units(place)[name].splitlines()


def value(place: Place, key: str, name: str = AGENT) -> str | None:
    found = [line.partition("=")[2] for line in lines(place, name) if line.startswith(f"{key}=")]
    assert len(found) <= 1, found
    return found[0] if found else None


@pytest.mark.parametrize("user", [None, "somebody"])
@pytest.mark.parametrize("name", [AGENT, GUESTS])
def test_nothing_of_the_template_is_left(name: str, user: str | None) -> None:
    text = units(replace(PLACE, user=user))[name]
    assert "[root]" not in text
    assert "[user]" not in text
    assert not [word for word in text.split("@")[1::2] if word.isupper()]


def test_vms_outlive_the_agent_and_its_memory_trouble() -> None:
    wanted = {
        "Type": "notify",
        "WatchdogSec": "30",
        "Restart": "on-failure",
        "KillMode": "process",
        "OOMPolicy": "continue",
        "RuntimeDirectoryPreserve": "yes",
        "UMask": "0077",
        "LimitCORE": "0",
    }
    assert {key: value(PLACE, key) for key in wanted} == wanted


def test_vms_are_shut_down_with_the_host_alone() -> None:
    """Stopped before the agent, bound to nothing that a restart of the agent touches."""
    assert value(PLACE, "After", GUESTS) == "network.target reconciler.service"
    assert value(PLACE, "RemainAfterExit", GUESTS) == "yes"
    stop = value(PLACE, "ExecStop", GUESTS)
    assert stop is not None
    assert stop.startswith("/usr/bin/reconciler host-shutdown --timeout 120 ")
    for binding in (
        "Requires",
        "Requisite",
        "BindsTo",
        "PartOf",
        "Conflicts",
        "PropagatesStopTo",
        "StopPropagatedFrom",
    ):
        assert value(PLACE, binding, GUESTS) is None
        assert value(PLACE, binding, AGENT) is None
    assert value(PLACE, "ExecStop", AGENT) is None


def test_root_keeps_what_dropping_privileges_takes_and_a_user_keeps_nothing() -> None:
    caps = value(PLACE, "CapabilityBoundingSet")
    assert caps is not None
    assert {"CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_NET_ADMIN"} <= set(caps.split())
    user = replace(PLACE, user="somebody", groups=("kvm",))
    assert value(user, "CapabilityBoundingSet") == ""
    assert value(user, "User") == "somebody"
    assert value(user, "SupplementaryGroups") == "kvm"
    assert value(PLACE, "User") is None


def test_a_host_without_the_group_kvm_gets_no_line_for_it() -> None:
    assert value(replace(PLACE, user="somebody"), "SupplementaryGroups") is None


def test_directories_of_systemd_are_made_by_it_and_others_are_not() -> None:
    assert value(PLACE, "StateDirectory") == "reconciler"
    assert value(PLACE, "RuntimeDirectory") == "reconciler"
    elsewhere = replace(PLACE, state_dir=Path("/srv/vms"), run_dir=Path("/srv/run"))
    assert value(elsewhere, "StateDirectory") is None
    assert value(elsewhere, "RuntimeDirectory") is None
    assert value(elsewhere, "ReadWritePaths") == "/etc/reconciler/manifests /srv/vms /srv/run"


@pytest.mark.parametrize(
    ("place", "home", "tmp"),
    [
        (PLACE, "yes", "yes"),
        (replace(PLACE, uses=(Path("/home/ann/reconciler/.venv"),)), "read-only", "yes"),
        (replace(PLACE, manifests=Path("/root/manifests")), "read-only", "yes"),
        (replace(PLACE, state_dir=Path("/var/tmp/state")), "yes", "no"),
    ],
)
def test_what_the_agent_uses_is_not_hidden_from_it(place: Place, home: str, tmp: str) -> None:
    assert (value(place, "ProtectHome"), value(place, "PrivateTmp")) == (home, tmp)


def test_words_that_mean_something_to_systemd_are_quoted() -> None:
    place = replace(PLACE, state_dir=Path('/srv/a b/"%$c\\'), flags=("--language", "$HOME"))
    run = value(place, "ExecStart")
    assert run is not None
    assert '"/srv/a b/\\"%%$$c\\\\"' in run
    assert run.endswith('--language "$$HOME"')
    writable = value(place, "ReadWritePaths")
    assert writable is not None
    assert '"/srv/a b/\\"%%$c\\\\"' in writable


def test_a_path_that_no_unit_can_hold_is_refused() -> None:
    with pytest.raises(SettingsError, match="cannot stand in a unit"):
        units(replace(PLACE, state_dir=Path("/srv/a\nExecStart=/bin/sh")))
