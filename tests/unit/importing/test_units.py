"""libvirt's units, and that our limits are those of the schema."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.importing import units
from reconciler.manifest.schema import schema
from reconciler.model.vm import GIB


@pytest.mark.parametrize(
    ("unit", "worth"),
    [
        ("b", 1),
        ("bytes", 1),
        ("KB", 1000),
        ("k", 1024),
        ("K", 1024),
        ("KiB", 1024),
        ("MB", 10**6),
        ("M", 1024**2),
        ("MiB", 1024**2),
        ("GB", 10**9),
        ("G", 1024**3),
        ("TiB", 1024**4),
        ("EB", 10**18),
        ("", None),
        ("KiBi", None),
        ("Z", None),
        ("KB ", None),
    ],
)
def test_units(unit: str, worth: int | None) -> None:
    assert units.unit_bytes(unit) == worth


def test_a_disk_is_never_smaller_than_its_image() -> None:
    assert [units.disk_gib(size) for size in (0, 1, GIB, GIB + 1, 10**18)] == [1, 1, 1, 2, units.DISK_MAX_GIB]


def test_the_limits_are_those_of_the_schema() -> None:
    whole: Any = schema()
    spec, shared = whole["properties"]["spec"]["properties"], whole["definitions"]
    assert (spec["memory"]["minimum"], spec["memory"]["maximum"]) == (
        units.MEMORY_MIN_MIB,
        units.MEMORY_MAX_MIB,
    )
    assert (
        spec["diskSize"]["maximum"] == shared["disk"]["properties"]["size"]["maximum"] == units.DISK_MAX_GIB
    )
    assert (shared["iops"]["maximum"], shared["mbps"]["maximum"]) == (units.IOPS_MAX, units.MBPS_MAX)
