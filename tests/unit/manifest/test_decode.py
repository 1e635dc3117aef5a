"""From bytes to desired VMs."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from reconciler.manifest.decode import Decoded, decode
from reconciler.model.vm import (
    Accel,
    BootDevice,
    DeletionPolicy,
    ManifestRef,
    PortForward,
    PowerState,
    Profile,
    Protocol,
    RestartPolicy,
    Shutdown,
    VMSpec,
)

MINIMAL = b"apiVersion: reconciler/v1\nkind: VirtualMachine\nmetadata:\n  name: web\n"
EVERY_FIELD = b"""\
# a comment before it
apiVersion: reconciler/v1
kind: VirtualMachine
metadata:
  name: web
  labels: {tier: web, answer: no}
spec:
  state: stopped
  memory: 0x1000
  cpuCores: 4.0
  diskSize: 40
  networkType: user
  portForwards:
    - {hostPort: 8080, guestPort: 80, hostAddress: 0.0.0.0}
    - {hostPort: 5353, guestPort: 53, protocol: udp}
  vncPort: 5901
  bootOrder: net,cd
  isoPath: a.iso
  mountIso: false
  profile: compatible
  accel: tcg
  restartPolicy: always
  restartedAt: 2025-06-30T14:00:00.5+02:00
  shutdown: {timeoutSeconds: 5}
  suspend: true
  protect: true
  deletionPolicy: delete
  retainDays: 0
"""


def with_spec(spec: str) -> Decoded:
    return decode(MINIMAL + f"spec: {spec}\n".encode(), "f.yaml")


def spec_of(spec: str) -> VMSpec:
    decoded = with_spec(spec)
    assert decoded.problems == ()
    return decoded.vms[0].spec


def test_a_name_is_all_that_a_vm_needs() -> None:
    decoded = decode(MINIMAL, "sub/web.yaml")
    (vm,) = decoded.vms
    assert (vm.name, vm.spec, vm.labels) == ("web", VMSpec(), {})
    assert vm.source == ManifestRef("sub/web.yaml", 1, 1)
    assert (decoded.problems, decoded.names) == ((), ("web",))


def test_every_field_reaches_the_model() -> None:
    (vm,) = decode(EVERY_FIELD, "web.yaml").vms
    assert vm.labels == {"tier": "web", "answer": "no"}
    assert vm.source == ManifestRef("web.yaml", 2, 1)
    assert vm.text == EVERY_FIELD.decode()
    assert vm.spec == VMSpec(
        state=PowerState.STOPPED,
        memory_mib=4096,
        cpu_cores=4,
        disk_size_gib=40,
        port_forwards=(PortForward(5353, 53, Protocol.UDP), PortForward(8080, 80, host_address="0.0.0.0")),
        vnc_port=5901,
        boot_order=(BootDevice.NET, BootDevice.CD),
        iso_path="a.iso",
        mount_iso=False,
        profile=Profile.COMPATIBLE,
        accel=Accel.TCG,
        restart_policy=RestartPolicy.ALWAYS,
        restarted_at="2025-06-30T12:00:00.500000Z",
        shutdown=Shutdown(5),
        suspend=True,
        protect=True,
        deletion_policy=DeletionPolicy.DELETE,
        retain_days=0,
    )
    assert isinstance(vm.spec.cpu_cores, int)


@pytest.mark.parametrize("spec", ["", "~", "{}", "{portForwards: , shutdown: }"])
def test_an_empty_spec_is_one_of_defaults(spec: str) -> None:
    assert spec_of(spec) == VMSpec()


def test_an_iso_is_in_the_drive_unless_the_manifest_says_otherwise() -> None:
    assert spec_of("{isoPath: a.iso}").medium == "a.iso"
    assert spec_of("{isoPath: a.iso, mountIso: false}").medium is None
    assert spec_of("{mountIso: false}").medium is None


@pytest.mark.parametrize(
    ("written", "order"),
    [("dc", ("cd", "hd")), ("cd", ("cd",)), ("c", ("hd",)), ("hd,net", ("hd", "net")), ("n", ("net",))],
)
def test_boot_orders_are_read_in_words_and_in_qemu_s_letters(written: str, order: tuple[str, ...]) -> None:
    assert spec_of(f'{{bootOrder: "{written}"}}').boot_order == order


def test_port_forwards_in_another_order_are_the_same_spec() -> None:
    one, other = "{hostPort: 1, guestPort: 1}", "{hostPort: 2, guestPort: 2}"
    assert spec_of(f"{{portForwards: [{one}, {other}]}}") == spec_of(f"{{portForwards: [{other}, {one}]}}")


def test_restart_requests_compare_as_text_whatever_their_zone() -> None:
    times = ["2025-06-30T12:00:00Z", "2025-06-30t14:00:00.1+02:00", "2025-06-30 11:59:59.999999999-00:30"]
    found = [str(spec_of(f'{{restartedAt: "{time}"}}').restarted_at) for time in times]
    assert found == sorted(found)
    assert all(re.fullmatch(r"2025-06-30T12:\d\d:\d\d\.\d{6}Z", time) for time in found)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("{mountIso: true}", "f.yaml:5:8: spec.mountIso: found true without an ISO, expected isoPath"),
        ("{restartedAt: 2025-02-30T00:00:00Z}", 'found "2025-02-30T00:00:00Z", expected a day that'),
        ("{restartedAt: 0001-01-01T00:00:00+14:00}", "spec.restartedAt"),
        (
            "{portForwards: [{hostPort: 80, guestPort: 1}, {hostPort: 80, guestPort: 2}]}",
            "f.yaml:5:54: spec.portForwards[1].hostPort: found port 80, which portForwards[0] has already",
        ),
        (
            "{portForwards: [{hostPort: 8, guestPort: 1}, {hostPort: 8, guestPort: 2, hostAddress: 0.0.0.0}]}",
            "spec.portForwards[1].hostPort",
        ),
        (
            "{vncPort: 5900, portForwards: [{hostPort: 5900, guestPort: 80}]}",
            "spec.portForwards[0].hostPort: found port 5900, which vncPort has already",
        ),
    ],
)  # fmt: skip
def test_fields_that_contradict_each_other_are_a_problem(spec: str, said: str) -> None:
    decoded = with_spec(spec)
    assert said in str(decoded.problems[0])
    assert (len(decoded.problems), decoded.vms, decoded.names) == (1, (), ("web",))


@pytest.mark.parametrize(
    "forwards",
    [
        "{hostPort: 80, guestPort: 1}, {hostPort: 80, guestPort: 1, protocol: udp}",
        "{hostPort: 80, guestPort: 1}, {hostPort: 80, guestPort: 1, hostAddress: 10.0.0.1}",
        "{hostPort: 80, guestPort: 1}, {hostPort: 81, guestPort: 1, hostAddress: 0.0.0.0}",
        "{hostPort: 5900, guestPort: 1, protocol: udp}, {hostPort: 5900, guestPort: 1, hostAddress: 1.2.3.4}",
    ],
)
def test_one_port_on_different_addresses_or_protocols_is_no_clash(forwards: str) -> None:
    assert len(spec_of(f"{{vncPort: 5900, portForwards: [{forwards}]}}").port_forwards) == 2


def test_problems_of_fields_and_between_fields_are_told_together_in_the_order_of_the_file() -> None:
    decoded = with_spec(
        "\n  mountIso: true\n  memory: 2G\n  portForwards: [5, {hostPort: x, protocol: []}]\n"
    )
    assert [problem.field for problem in decoded.problems] == [
        "spec.mountIso",
        "spec.memory",
        "spec.portForwards[0]",
        "spec.portForwards[1].guestPort",
        "spec.portForwards[1].hostPort",
        "spec.portForwards[1].protocol",
    ]


def test_two_documents_of_one_name_are_both_problems_and_neither_wins() -> None:
    decoded = decode(MINIMAL + b"---\n" + MINIMAL.replace(b"web", b"db") + b"---\n" + MINIMAL, "f.yaml")
    assert [vm.name for vm in decoded.vms] == ["db"]
    assert [(problem.line, problem.field) for problem in decoded.problems] == [
        (4, "metadata.name"),
        (14, "metadata.name"),
    ]
    assert "found web in 2 documents of this file" in decoded.problems[0].message
    assert decoded.names == ("web", "db")


def test_a_broken_document_costs_its_neighbours_nothing() -> None:
    decoded = decode(MINIMAL + b"spec: {memory: 2G}\n---\n" + MINIMAL.replace(b"web", b"db"), "f.yaml")
    assert [vm.name for vm in decoded.vms] == ["db"]
    assert decoded.vms[0].text == MINIMAL.replace(b"web", b"db").decode()
    assert decoded.vms[0].source == ManifestRef("f.yaml", 7, 1)
    assert decoded.names == ("web", "db")


@pytest.mark.parametrize(
    "damage",
    [
        b"spec: {",
        b"spec: *x\n",
        b"a: 1\na: 2\n",
        b"x:\n\ty: 1\n",
        b"x: \xff\n",
        b"x: \0\n",
        b"'",
        b"x: " + b"[" * 30_000,
    ],
)
def test_the_name_is_known_even_where_the_rest_cannot_be_read(damage: bytes) -> None:
    decoded = decode(MINIMAL + damage, "f.yaml")
    assert decoded.vms == ()
    assert decoded.problems
    assert decoded.names == ("web",)


def test_a_name_said_twice_counts_as_both() -> None:
    assert decode(b"metadata: {name: a, name: b}\nmetadata: {name: c}\n", "f").names == ("a", "b", "c")


@pytest.mark.parametrize("name", ["..", "-x", '"a\\0b"', '"vm1\\n"', "5", "[a]", "{a: b}", "", "'a/b'"])
def test_what_cannot_name_a_vm_is_a_problem_and_no_name(name: str) -> None:
    decoded = decode(MINIMAL.replace(b"web", name.encode()), "f.yaml")
    assert (decoded.vms, decoded.names) == ((), ())
    assert decoded.problems[0].field == "metadata.name"


def test_the_generation_is_that_of_spec_and_labels_as_written() -> None:
    def generation(data: bytes) -> str:
        (vm,) = decode(data, "f.yaml").vms
        return vm.generation

    base = MINIMAL + b"spec: {memory: 64, cpuCores: 1}\n"
    same = b"# c\n" + MINIMAL.replace(b"web", b"other") + b"spec:\n  cpuCores: 1 # c\n  memory: 0x40\n"
    assert re.fullmatch("[0-9a-f]{12}", generation(base))
    assert generation(base) == generation(same)
    assert generation(MINIMAL) == generation(MINIMAL + b"spec:\n")
    labelled = base.replace(b"name: web", b"name: web\n  labels: {a: b}")
    explicit = base.replace(b"64", b"64, diskSize: 20")
    assert len({generation(MINIMAL), generation(base), generation(labelled), generation(explicit)}) == 4


def test_a_vm_is_the_same_wherever_its_text_stands() -> None:
    (alone,) = decode(EVERY_FIELD, "a.yaml").vms
    second = decode(MINIMAL.replace(b"web", b"x") + b"---\n" + EVERY_FIELD, "a.yaml").vms[1]
    assert replace(second, source=alone.source) == alone
    assert second.text == alone.text


def test_more_problems_than_anyone_reads_are_counted() -> None:
    decoded = decode(b"a: 1\n---\n" * 100, "f.yaml")
    assert len(decoded.problems) == 101
    assert decoded.problems[-1].message == "and 300 more problems from here on"
