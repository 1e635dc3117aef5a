"""The proof of the accelerator, with a real QEMU under TCG and with programs in place of QEMU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.model.observed import Fault
from reconciler.model.vm import Accel
from reconciler.qemu.accel import GUEST, AccelProof, Prover, kvm_groups, resolve
from reconciler.qemu.process import ProcessState, parse_stat
from tests.contract.qemu.live import QEMU, qemu_user, wait_for

GOOD = AccelProof(True, "a guest ran under it", "boot", "7.2", "")
BAD = replace(GOOD, kvm_usable=False, why="/dev/kvm: No such file or directory")

PROVE = """
import sys
from reconciler.model.vm import Accel
from reconciler.qemu.accel import Prover

Prover(sys.argv[1], "7.2", "boot", None, ()).run(Accel.KVM)
"""


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "accel.json"


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """A file in place of /dev/kvm that everybody may open."""
    path = tmp_path / "kvm"
    path.touch()
    path.chmod(0o666)
    return path


@pytest.fixture
def prover(short_dir: Path, device: Path) -> Prover:
    """One whose QEMU notes that it was run, and says what a working KVM would."""
    short_dir.chmod(0o777)
    return Prover(
        qemu(short_dir, f"echo >> {short_dir}/ran; exit 33"), "7.2", "boot", qemu_user(), (), device
    )


def qemu(directory: Path, text: str) -> str:
    path = directory / "qemu"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def is_dead(pid: int) -> bool:
    """Whether there is no such process, or one that waits for somebody to ask for its exit status."""
    try:
        return parse_stat(Path(f"/proc/{pid}/stat").read_bytes()).state is ProcessState.DEAD
    except (FileNotFoundError, ProcessLookupError):
        return True


def runs(prover: Prover) -> int:
    ran = Path(prover.binary).with_name("ran")
    return len(ran.read_text().splitlines()) if ran.exists() else 0


def test_the_guest_runs_under_tcg_as_qemus_user(device: Path) -> None:
    assert Prover(QEMU, "7.2", "boot", qemu_user(), (), device).run(Accel.TCG) is None


def test_the_guest_is_the_multiboot_image_that_was_tried() -> None:
    assert len(GUEST) == 39
    magic, flags, checksum = (int.from_bytes(GUEST[i : i + 4], "little") for i in (0, 4, 8))
    assert magic == 0x1BADB002
    assert (magic + flags + checksum) % 2**32 == 0


def test_a_guest_that_ran_proves_kvm_once_for_this_boot(prover: Prover, cache: Path) -> None:
    proofs = [prover.prove(cache) for _ in range(3)]
    assert proofs == [replace(GOOD, user=prover.user.name if prover.user else "")] * 3
    assert runs(prover) == 1


@pytest.mark.parametrize("change", [{"boot_id": "next"}, {"qemu_version": "8.0"}, {"user": None}])
def test_another_boot_qemu_or_user_is_proved_anew(
    prover: Prover, cache: Path, change: dict[str, str]
) -> None:
    prover.prove(cache)
    other = replace(prover, **change)  # type: ignore[arg-type]
    if other == prover:
        pytest.skip("not root: there is one user only")
    other.prove(cache)
    assert runs(prover) == 2


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "{}", '{"kvm_usable": true}'])
def test_a_cache_that_is_none_is_no_proof(prover: Prover, cache: Path, text: str) -> None:
    cache.write_text(text)
    assert prover.prove(cache).kvm_usable
    assert runs(prover) == 1
    assert json.loads(cache.read_text())["boot_id"] == "boot"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("exit 0", "QEMU ended with 0: no word"),
        ("echo 'failed to set MSR 0x10a' >&2; kill -ABRT $$", "QEMU ended with -6: failed to set MSR 0x10a"),
        ("exec sleep 1000", "a guest of five instructions did not end within 2 s"),
    ],
)
def test_anything_but_status_33_in_time_is_no_kvm_and_says_why(
    prover: Prover, cache: Path, short_dir: Path, text: str, words: str
) -> None:
    proof = replace(prover, binary=qemu(short_dir, text)).prove(cache)
    assert (proof.kvm_usable, proof.why) == (False, words)


def test_a_qemu_that_is_not_there_is_no_kvm(prover: Prover, cache: Path) -> None:
    proof = replace(prover, binary="/no/such/qemu").prove(cache)
    assert not proof.kvm_usable
    assert "could not be started" in proof.why


def test_what_could_not_be_started_is_tried_again_by_the_next_agent(prover: Prover, cache: Path) -> None:
    replace(prover, binary="/no/such/qemu").prove(cache)
    assert prover.prove(cache).kvm_usable
    assert runs(prover) == 1


def test_a_proof_that_cannot_be_kept_is_as_true(
    prover: Prover, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = cache / "no" / "directory"
    assert prover.prove(nowhere).kvm_usable
    assert f"{nowhere}: cannot be written" in caplog.text


def test_whatever_goes_wrong_is_no_kvm_and_says_why(
    prover: Prover, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Prover, "run", fail)
    proof = prover.prove(cache)
    assert (proof.kvm_usable, proof.why) == (False, "it could not be tried: can't start new thread")
    assert not cache.exists()


def test_a_qemu_that_hangs_dies_with_its_agent(prover: Prover, short_dir: Path) -> None:
    """Where KVM runs no guest, the guest of a killed agent would take a CPU for ever."""
    qemu(short_dir, f"echo $$ > {short_dir}/pid; exec sleep 1000")
    written = short_dir / "pid"
    with subprocess.Popen((sys.executable, "-c", PROVE, prover.binary)) as agent:
        pid = int(wait_for("the probe", lambda: written.exists() and written.read_text()))
        agent.kill()
    wait_for("its end", lambda: is_dead(pid))


def test_without_the_device_nothing_is_run_and_nothing_is_kept(prover: Prover, cache: Path) -> None:
    prover.kvm.unlink()
    proof = prover.prove(cache)
    assert (proof.kvm_usable, proof.why) == (False, f"{prover.kvm}: No such file or directory")
    prover.kvm.touch()
    prover.kvm.chmod(0o666)
    assert prover.prove(cache).kvm_usable, "it was mended, and still not believed"


@pytest.mark.skipif(os.getuid() != 0, reason="only root tries it as another user")
def test_a_device_that_is_closed_to_the_user_is_said_plainly_unless_a_group_opens_it(
    prover: Prover, cache: Path
) -> None:
    prover.kvm.chmod(0o660)
    os.chown(prover.kvm, 0, 4242)
    assert prover.user is not None
    assert prover.prove(cache).why == f"{prover.kvm} is not open to {prover.user.name}"
    assert runs(prover) == 0
    assert kvm_groups(prover.kvm) == (4242,)
    assert replace(prover, groups=kvm_groups(prover.kvm)).prove(cache).kvm_usable
    os.chown(prover.kvm, prover.user.uid, 0)
    assert prover.prove(cache).kvm_usable


def test_a_device_without_a_group_of_its_own_needs_none(device: Path) -> None:
    device.chmod(0o600)
    assert kvm_groups(device) == ()
    assert kvm_groups(device.with_name("none")) == ()


@pytest.mark.parametrize(
    ("wanted", "proof", "accel"),
    [
        (Accel.AUTO, GOOD, Accel.KVM),
        (Accel.AUTO, BAD, Accel.TCG),
        (Accel.TCG, GOOD, Accel.TCG),
        (Accel.KVM, GOOD, Accel.KVM),
    ],
)
def test_auto_takes_kvm_where_it_is_proved(wanted: Accel, proof: AccelProof, accel: Accel) -> None:
    assert resolve(wanted, proof) is accel


def test_kvm_that_does_not_work_is_a_fault_that_says_why_and_what_to_write() -> None:
    fault = resolve(Accel.KVM, BAD)
    assert isinstance(fault, Fault)
    assert fault.reason == "KvmUnusable"
    assert BAD.why in fault.message
    assert "write auto or tcg" in fault.message
