"""The JSON Schema: sound by itself, in agreement with the model, and plain in what it says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from reconciler.manifest.fields import spec_of
from reconciler.manifest.nodes import Value, dotted
from reconciler.manifest.schema import Schema, complaints, schema
from reconciler.model.vm import NAME_PATTERN, PortForward, VMSpec


def parts(part: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every schema within a schema."""
    yield path, part
    for key, shown in (("properties", ""), ("definitions", ".definitions")):
        for name, inner in part.get(key, {}).items():
            yield from parts(inner, f"{path}{shown}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(part.get(key), dict):
            yield from parts(part[key], f"{path}[]")


PARTS = dict(parts(schema()))


def manifest(**spec: Value) -> dict[str, Value]:
    return {"apiVersion": "reconciler/v1", "kind": "VirtualMachine", "metadata": {"name": "a"}, "spec": spec}


def said(value: Value) -> dict[str, str]:
    return {dotted(one.path): str(one) for one in complaints(value)}


@pytest.mark.parametrize("validator", [Draft202012Validator, Draft7Validator])
def test_the_schema_is_one_for_today_s_tools_and_for_those_that_know_draft_07(validator: Any) -> None:
    validator.check_schema(schema())


def test_every_section_refuses_unknown_fields_and_every_field_has_a_tooltip() -> None:
    for path, part in PARTS.items():
        if "object" in part.get("type", ()):
            assert part.get("additionalProperties") is False or path.endswith(".labels"), path
        assert "$ref" in part or "title" in part, path
        assert "$ref" in part or "description" in part or path.endswith(".labels[]"), path


def test_every_pattern_is_anchored_and_explains_itself() -> None:
    for path, part in PARTS.items():
        if "pattern" in part:
            assert part["pattern"].startswith("^"), path
            assert part["pattern"].endswith("$"), path
            assert re.fullmatch(r"Expected .*\.", part["patternErrorMessage"]), path
            assert "maxLength" in part, f"{path}: an endless text would keep a regular expression busy"


def test_the_name_s_pattern_is_the_model_s() -> None:
    assert PARTS[".metadata.name"]["pattern"] == f"^{NAME_PATTERN}$"


def test_the_schema_s_defaults_are_the_model_s() -> None:
    spec = schema()["properties"]["spec"]["properties"]
    defaults = {name: part["default"] for name, part in spec.items() if "default" in part}
    timeout = spec["shutdown"]["properties"]["timeoutSeconds"]["default"]
    assert spec_of(defaults | {"shutdown": {"timeoutSeconds": timeout}}) == VMSpec() == spec_of({})
    assert set(spec) - set(defaults) == {
        *("vncPort", "isoPath", "mountIso", "restartedAt", "shutdown", "maxMemory", "maxCpuCores"),
        *("rootDisk", "watchdog", "updateWindow", "ttl"),
    }


def test_a_port_forward_s_defaults_are_the_model_s() -> None:
    forward = schema()["definitions"]["portForward"]["properties"]
    defaults = {name: part["default"] for name, part in forward.items() if "default" in part}
    given: Value = [{"hostPort": 1, "guestPort": 2} | defaults]
    assert spec_of({"portForwards": given}).port_forwards == (PortForward(1, 2),)


def test_every_example_and_default_is_valid() -> None:
    for path, part in PARTS.items():
        for value in [*part.get("examples", ()), *([part["default"]] if "default" in part else ())]:
            if path.startswith(".definitions."):
                assert said(manifest(**in_its_place(path.split("."), value))) == {}, path
            else:
                assert complaints(value, path.strip(".").split(".")) == (), path


def in_its_place(path: list[str], value: Value) -> dict[str, Value]:
    """Fields in which a value of a shared definition stands, and which are sound otherwise."""
    match path[2:]:
        case ["portForward", field]:
            return {"portForwards": [{"hostPort": 1, "guestPort": 1, field: value}]}
        case ["iops" | "mbps" as field]:
            return {"rootDisk": {field: value}}
        case ["nic", field]:
            return {"nics": [{"name": "lan", field: value}]}
        case ["timeOfDay"]:
            return {"updateWindow": {"days": ["sun"], "from": value, "to": value}}
    raise AssertionError(path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("memory", "2G", 'found "2G", expected a whole number from 16 to 16777216 (memory in MiB)'),
        ("memory", 15, "found the number 15, expected a whole number from 16"),
        ("memory", 2048.5, "found the number 2048.5, expected a whole number"),
        ("cpuCores", True, "found true, expected a whole number from 1 to 255"),
        ("cpuCores", None, "found nothing, expected a whole number from 1 to 255"),
        ("diskSize", [], "found a list, expected a whole number from 1 to 65536 (root disk in GiB)"),
        ("vncPort", 80, "found the number 80, expected a whole number from 5900 to 65535"),
        ("state", "on", 'found "on", expected running or stopped'),
        ("state", 1, "found the number 1, expected running or stopped"),
        ("networkType", "bridge", 'found "bridge", expected user'),
        ("mountIso", "yes", 'found "yes", expected true or false'),
        (
            "isoPath",
            5,
            "found the number 5, expected the path of a file, without control characters; quotes make",
        ),
        ("isoPath", "a\nb", 'found "a\\nb", expected the path of a file'),
        ("isoPath", "", "found empty text, expected the path of a file"),
        ("isoPath", "x" * 5000, "found text of 5000 characters, expected at most 4096"),
        ("restartedAt", "now", 'found "now", expected a time with its zone (RFC 3339)'),
        ("restartedAt", "2025-06-30T12:00:00", "expected a time with its zone"),
        ("shutdown", 60, "found the number 60, expected a section with the fields timeoutSeconds"),
        ("portForwards", {}, "found a section of fields, expected a list"),
        (
            "portForwards",
            [{"hostPort": 1, "guestPort": 2}] * 257,
            "found a list of 257, expected at most 256",
        ),
        ("retainDays", 3651, "expected a whole number from 0 to 3650 (days)"),
    ],
)
def test_a_complaint_says_what_was_found_and_what_is_expected(field: str, value: Value, message: str) -> None:
    (complaint,) = complaints(manifest(**{field: value}))
    assert dotted(complaint.path) == f"spec.{field}"
    assert message in str(complaint)


@pytest.mark.parametrize(
    ("value", "field", "message"),
    [
        ({"memry": 1}, "spec.memry", "found the unknown field memry, expected memory"),
        ({"cpucores": 1}, "spec.cpucores", "expected cpuCores"),
        ({"labels": {}}, "spec.labels", "expected it under metadata"),
        ({"zzz": 1}, "spec.zzz", "expected one of state, memory"),
        ({"portForwards": [{"hostPort": 1}]}, "spec.portForwards[0].guestPort", "found nothing, expected a"),
        (
            {"portForwards": [{"name": "x"}]},
            "spec.portForwards[0].name",
            "expected one of hostPort, guestPort",
        ),
        (
            {"portForwards": [{"hostAddress": "256.1.1.1"}]},
            "spec.portForwards[0].hostAddress",
            "an IPv4 address",
        ),
        ({"portForwards": [{"protocol": "sctp"}]}, "spec.portForwards[0].protocol", "expected tcp or udp"),
    ],
)
def test_unknown_and_missing_fields_are_named_with_the_one_that_was_meant(
    value: dict[str, Value], field: str, message: str
) -> None:
    assert message in said(manifest(**value))[field]


def test_fields_of_the_spec_on_the_wrong_level_are_sent_there() -> None:
    assert (
        said(manifest() | {"memory": 1})["memory"] == "found the unknown field memory, expected it under spec"
    )


def test_a_field_that_is_missing_is_explained_though_it_is_defined_elsewhere() -> None:
    found = said(manifest(updateWindow={}))
    assert found["spec.updateWindow.from"] == "found nothing, expected hours and minutes, such as 02:30"
    assert found.keys() == {f"spec.updateWindow.{field}" for field in ("days", "from", "to")}


def test_all_that_is_missing_is_said_at_once() -> None:
    assert set(said({})) == {"apiVersion", "kind", "metadata"}
    assert set(said({"apiVersion": "v1", "kind": "Pod", "metadata": {}})) == {
        "apiVersion",
        "kind",
        "metadata.name",
    }


@pytest.mark.parametrize("name", ["", "-x", "..", ".a", "a b", "a/b", "vm1\n", "a\0b", "ä", "x" * 64])
def test_a_name_that_could_be_anything_else_is_refused(name: str) -> None:
    assert "metadata.name" in said(manifest() | {"metadata": {"name": name}})


@pytest.mark.parametrize(
    "order", ["cd", "hd", "net", "cd,hd", "net,cd,hd", "c", "d", "n", "dc", "cdn", "ncd"]
)
def test_boot_orders_are_words_with_commas_or_qemu_s_letters(order: str) -> None:
    assert said(manifest(bootOrder=order)) == {}


@pytest.mark.parametrize(
    "order", ["", "cd,cd", "cd, hd", "cd,", "dd", "cdnc", "a", "hd,c", "cd\n", "hd,hd,net"]
)
def test_a_boot_order_with_repetitions_or_strangers_is_refused(order: str) -> None:
    assert "spec.bootOrder" in said(manifest(bootOrder=order))


def test_a_part_of_a_manifest_can_be_judged_by_itself() -> None:
    assert complaints({"memory": 64, "portForwards": [{"hostPort": 1, "guestPort": 1}]}, ("spec",)) == ()
    (complaint,) = complaints("2G", ("spec", "memory"))
    assert complaint.expected == "a whole number from 16 to 16777216 (memory in MiB)"


def test_empty_sections_are_as_good_as_none() -> None:
    value = manifest(portForwards=None, shutdown=None) | {"metadata": {"name": "a", "labels": None}}
    assert said(value) == {}
    assert said(value | {"spec": None}) == {}
