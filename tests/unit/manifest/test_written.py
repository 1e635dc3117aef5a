"""A spec can be written down again: what is read back is the same, and no default is written."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.manifest.decode import decode
from reconciler.manifest.edit import render_new
from reconciler.manifest.fields import says, written
from reconciler.manifest.nodes import Value
from reconciler.model import vm
from reconciler.model.vm import PortForward, Shutdown, VMSpec

FORWARDS = st.lists(
    st.builds(
        PortForward,
        st.integers(1, 5899),
        st.integers(1, 65535),
        st.sampled_from(vm.Protocol),
        st.just("127.0.0.1"),
    ),
    max_size=3,
    unique_by=lambda forward: (forward.host_port, forward.protocol),
).map(lambda forwards: tuple(sorted(forwards)))

SPECS = st.builds(
    VMSpec,
    state=st.sampled_from(vm.PowerState),
    memory_mib=st.integers(16, 16777216),
    cpu_cores=st.integers(1, 255),
    disk_size_gib=st.integers(1, 65536),
    port_forwards=FORWARDS,
    vnc_port=st.none() | st.integers(5900, 65535),
    boot_order=st.lists(st.sampled_from(vm.BootDevice), min_size=1, unique=True).map(tuple),
    iso_path=st.none() | st.sampled_from(["a.iso", "/srv/iso/b c: d.iso", "no", "010"]),
    profile=st.sampled_from(vm.Profile),
    accel=st.sampled_from(vm.Accel),
    restart_policy=st.sampled_from(vm.RestartPolicy),
    restarted_at=st.none() | st.just("2026-01-02T03:04:05.000006Z"),
    shutdown=st.integers(1, 86400).map(Shutdown),
    suspend=st.booleans(),
    protect=st.booleans(),
    deletion_policy=st.sampled_from(vm.DeletionPolicy),
    retain_days=st.integers(0, 3650),
).flatmap(
    lambda spec: st.sampled_from([True, False] if spec.iso_path else [False]).map(
        lambda mount: VMSpec(**{**vars(spec), "mount_iso": mount})
    )
)


@settings(deadline=None)  # a busy machine is no defect
@given(SPECS)
def test_what_was_written_reads_as_the_same_spec(spec: VMSpec) -> None:
    decoded = decode(render_new("web", written(spec)).encode(), "web.yaml")
    assert not decoded.problems
    assert decoded.vms[0].spec == spec


def test_defaults_are_not_written() -> None:
    assert written(VMSpec()) == {}
    assert written(VMSpec(iso_path="a.iso", mount_iso=True)) == {"isoPath": "a.iso"}


@pytest.mark.parametrize(
    ("field", "value", "same"),
    [
        ("bootOrder", "dc", True),
        ("bootOrder", "cd,hd", True),
        ("bootOrder", "hd", False),
        ("memory", 2048, True),
        ("memory", 2049, False),
        ("networkType", "user", True),
        ("shutdown", {"timeoutSeconds": 60}, True),
    ],
)
def test_a_value_in_other_words_is_the_same_value(field: str, value: Value, same: bool) -> None:
    assert says(VMSpec(), field, value) is same
