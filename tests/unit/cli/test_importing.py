"""`reconciler import`: the manifest is data, what does not carry over is said, and images are looked at with care."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.cli.importing import virtual_size
from reconciler.cli.main import main
from reconciler.manifest.decode import decode
from reconciler.qemu.qcow2 import HEAD_BYTES
from tests.unit.importing.samples import DOMAINS, domain

LINUX = str(DOMAINS / "linux.xml")
DISK = "<disk type='file'><driver type='{}'/><source file='{}'/><target dev='vda' bus='virtio'/></disk>"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["import", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_manifest_is_printed_and_the_rest_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--libvirt", LINUX, "--state-dir", "/var/lib/s") == 0
    printed = capsys.readouterr()
    (vm,) = decode(printed.out.encode(), "x.yaml").vms
    assert (vm.name, vm.labels["title"]) == ("shop-db", "Shop database")
    lines = printed.err.splitlines()
    headings = [line for line in lines if line.endswith("):")]
    assert headings == [
        "to do before it is the same VM (4):",
        "carried over otherwise (7):",
        "does not carry over (9):",
    ]
    assert any(line.startswith(f"  {LINUX}:8: uuid: ") for line in lines)
    target = "/var/lib/s/vms/shop-db/disk-vdb.qcow2"
    assert f"  qemu-img convert -f raw -O qcow2 /dev/vg0/shop-db-data {target}" in lines


def test_what_comes_from_standard_input_goes_to_a_directory_and_over_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for code in (0, 1):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(domain().encode())))
        assert run("--libvirt", "-", "--name", "other", "--output", str(tmp_path)) == code
    assert "other.yaml exists already; it was left as it is" in capsys.readouterr().err
    assert [vm.name for vm in decode((tmp_path / "other.yaml").read_bytes(), "x").vms] == ["other"]


def test_a_file_is_made_at_the_place_that_is_named(tmp_path: Path) -> None:
    target = tmp_path / "sub.yaml"
    assert run("--libvirt", LINUX, "--output", str(target)) == 0
    assert not decode(target.read_bytes(), "x").problems
    assert run("--libvirt", LINUX, "--output", str(tmp_path / "nope" / "x.yaml")) == 1


@pytest.mark.parametrize(
    "arguments", [[], ["--libvirt", LINUX, "--name", "a b"], ["--libvirt", LINUX, "extra"]]
)
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "text", ["<domain>", "<network/>", "<!DOCTYPE d [<!ENTITY a 'b'>]><domain>&a;</domain>"]
)
def test_what_is_no_domain_exits_with_1_and_makes_nothing(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "x.xml"
    source.write_text(text)
    assert run("--libvirt", str(source), "--output", str(tmp_path / "x.yaml")) == 1
    assert capsys.readouterr().err.startswith(f"reconciler: {source}:1")
    assert not (tmp_path / "x.yaml").exists()
    assert run("--libvirt", str(tmp_path / "nope.xml")) == 1


def test_the_size_of_a_disk_is_read_from_its_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, image = tmp_path / "base image.qcow2", tmp_path / "top's.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", base, "3G"], check=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", image], check=True)
    source = tmp_path / "x.xml"
    source.write_text(domain(devices=DISK.format("qcow2", str(image).replace("'", "&apos;"))))
    assert run("--libvirt", str(source), "--state-dir", str(tmp_path)) == 0
    printed = capsys.readouterr()
    assert decode(printed.out.encode(), "x").vms[0].spec.disk_size_gib == 3
    (command,) = [line for line in printed.err.splitlines() if "qemu-img" in line]
    words = shlex.split(command)
    assert words == [
        "qemu-img",
        "convert",
        "-f",
        "qcow2",
        "-O",
        "qcow2",
        str(image),
        str(tmp_path / "vms/web/root.qcow2"),
    ]


def test_nothing_but_files_is_opened_for_a_size(tmp_path: Path) -> None:
    raw, fifo = tmp_path / "raw.img", tmp_path / "fifo"
    raw.write_bytes(b"QFI\xfb".ljust(HEAD_BYTES + 20, b"\xff"))
    os.mkfifo(fifo)
    assert virtual_size(str(raw), "raw") == HEAD_BYTES + 20  # whatever a guest wrote at its beginning
    assert virtual_size(str(raw), "qcow2") is None
    assert virtual_size(str(raw), "vmdk") is None
    for path in (fifo, tmp_path, tmp_path / "nope", "/dev/zero", "raw.img", "a\0b"):
        assert virtual_size(str(path), "raw") is None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "say what to import"),
        (("--qmp", "a.sock", "--libvirt", LINUX), "say what to import"),
        (("--qmp", "a.sock", "--output", "x.yaml"), "the agent writes the manifest"),
        (("--qmp", "a.sock", "--name", "../x"), "--name: found '../x'"),
    ],
)
def test_what_to_import_is_one_thing(
    words: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    assert expected in capsys.readouterr().err
