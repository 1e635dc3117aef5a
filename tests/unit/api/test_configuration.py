"""What a body asks of a manifest: what is given, what is none, what is ignored; and the fewest edits for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciler.api import configuration
from reconciler.api.errors import ApiError
from reconciler.api.media import JsonObject
from reconciler.api.messages import Code, Language
from reconciler.manifest.edit import REMOVE, Changes
from reconciler.model.status import VMState
from reconciler.model.vm import GIB, VMSpec
from tests.contract.memory_controller import desired, status_of

SPEC = VMSpec(iso_path="a.iso", mount_iso=True)
STATUS = replace(status_of(desired("a", SPEC), "a", VMState.RUNNING), disk_size_bytes=20 * GIB)


def edits(body: JsonObject) -> Changes:
    return configuration.changes(configuration.read(body, {"name"}), STATUS, SPEC)


def refused(body: JsonObject) -> dict[str, str]:
    with pytest.raises(ApiError) as caught:
        edits(body)
    assert caught.value.code is Code.INVALID_REQUEST_PARAMS
    return {detail.field: detail.message.say(Language.ZH) for detail in caught.value.details}


def test_a_whole_vm_object_that_is_sent_back_changes_nothing_and_says_what_it_ignored() -> None:
    body: JsonObject = {
        "name": "a",
        "status": "running",
        "pid": 1,
        "memory": 2048,
        "cpuCores": 2,
        "diskSize": 20,
        "vncPort": 5900,
        "startTime": "2023-07-15T10:30:00.000Z",
        "networkType": "user",
        "bootOrder": "cd,hd",
        "isoPath": "a.iso",
        "config": {"memory": 1},
    }
    assert edits(body) == {}
    assert configuration.read(body, {"name"}).ignored == ("status", "pid", "startTime", "config")


@pytest.mark.parametrize("none", [None, ""])
def test_null_and_empty_text_mean_none(none: object) -> None:
    assert edits({"memory": none}) == {("spec", "memory"): REMOVE}


def test_port_zero_means_allocate_and_other_zeros_are_out_of_range() -> None:
    assert edits({"vncPort": 0}) == {("spec", "vncPort"): REMOVE}
    assert list(refused({"memory": 0, "vncPort": False})) == ["memory", "vncPort"]


def test_the_port_that_the_vm_has_is_not_written_down() -> None:
    assert edits({"vncPort": 5900}) == {}
    assert edits({"vncPort": 5901}) == {("spec", "vncPort"): 5901}


def test_a_whole_number_is_written_as_one() -> None:
    assert repr(edits({"memory": 512.0})["spec", "memory"]) == "512"


def test_every_field_of_a_manifest_may_be_given() -> None:
    assert edits({"restartPolicy": "never", "shutdown": {"timeoutSeconds": 5}}) == {
        ("spec", "restartPolicy"): "never",
        ("spec", "shutdown"): {"timeoutSeconds": 5},
    }


def test_taking_the_iso_away_takes_away_what_speaks_of_it() -> None:
    assert edits({"isoPath": ""}) == {("spec", "isoPath"): REMOVE, ("spec", "mountIso"): REMOVE}


def test_all_that_is_wrong_is_said_at_once_in_the_users_language() -> None:
    assert refused(
        {"memory": "2048", "cpuCores": True, "bootOrder": ["cd"], "networkType": "token-ring"}
    ) == {
        "memory": '应为 16 到 16777216 之间的整数，收到 "2048"',
        "cpuCores": "应为 1 到 255 之间的整数，收到 true",
        "bootOrder": '应为文本，例如 "cd,hd"，收到 ["cd"]',
        "networkType": '应为 user，收到 "token-ring"',
    }


def test_a_pending_port_can_be_taken_back() -> None:
    """It runs on 5900, and its manifest says 5901."""
    asked = configuration.read({"vncPort": 5900}, ())
    assert configuration.changes(asked, STATUS, VMSpec(vnc_port=5901)) == {("spec", "vncPort"): 5900}


def test_no_word_about_the_state_is_not_the_word_running() -> None:
    assert edits({"state": ""}) == {}


@pytest.mark.parametrize("none", [None, ""])
def test_leaving_the_disk_to_its_default_does_not_shrink_it_either(none: object) -> None:
    large = replace(STATUS, disk_size_bytes=40 * GIB)
    with pytest.raises(ApiError):
        configuration.changes(configuration.read({"diskSize": none}, ()), large, VMSpec(disk_size_gib=40))


@pytest.mark.parametrize("network", ["bridge", "nat"])
def test_networks_that_are_documented_and_not_built_are_refused_with_the_reason(network: str) -> None:
    assert refused({"networkType": network}) == {"networkType": "本版本尚不支持 bridge 和 nat，请使用 user"}


def test_a_disk_does_not_shrink_and_may_grow() -> None:
    assert refused({"diskSize": 19}) == {"diskSize": "磁盘已有 20 GB，不能缩小"}
    assert edits({"diskSize": 21}) == {("spec", "diskSize"): 21}


@pytest.mark.parametrize("name", [None, 1, "", "..", "a/b", "-x", "a\n", "x" * 64])
def test_a_new_vm_needs_a_name(name: object) -> None:
    with pytest.raises(ApiError):
        configuration.name_of({"name": name})


def test_a_name_that_differs_from_the_paths_is_refused() -> None:
    configuration.must_be_named({"name": "a"}, "a")
    configuration.must_be_named({}, "a")
    with pytest.raises(ApiError):
        configuration.must_be_named({"name": "b"}, "a")


@pytest.mark.parametrize("metadata", [None, {}, {"lastPid": None}, {"lastPid": 12345}, {"more": 1}])
def test_a_clients_memory_of_a_pid_is_taken_as_it_is(metadata: object) -> None:
    configuration.check_metadata({"metadata": metadata})


@pytest.mark.parametrize("metadata", [[], "x", {"lastPid": "1"}, {"lastPid": True}, {"lastPid": 1.5}])
def test_a_memory_of_the_wrong_type_is_refused(metadata: object) -> None:
    with pytest.raises(ApiError):
        configuration.check_metadata({"metadata": metadata})
