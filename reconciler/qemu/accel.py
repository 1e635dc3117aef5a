"""Proof that KVM works here, by a guest that has to run: once for each boot, QEMU and user.

That /dev/kvm exists and opens proves nothing: there are hosts where a guest under it never executes an
instruction, or QEMU aborts. The guest here is five instructions long. It needs protected mode and the
firmware before it, which is where such hosts fail (a real-mode reset vector ran on one of them all the same),
and answers through QEMU's isa-debug-exit device: exit status 33 within two seconds, or there is no KVM.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from reconciler import durable
from reconciler.model.errors import SpawnError
from reconciler.model.observed import Fault
from reconciler.model.vm import Accel
from reconciler.qemu.command_line import cpu_model
from reconciler.settings import QemuUser

log = logging.getLogger(__name__)

KVM = Path("/dev/kvm")
TIMEOUT_S = 2.0  # TCG takes 60 ms for it
PASSED = 33
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")  # a guest that KVM never runs would stay for ever

GUEST = (
    # The multiboot header. Bit 16 of the flags: the addresses stand here, not in an ELF header.
    bytes.fromhex("02b0ad1b 00000100 fe4f51e4")  # magic, flags, checksum
    + bytes.fromhex("00001000 00001000")  # this header's address and the load address: 1 MiB
    + bytes.fromhex("00000000 00000000 20001000")  # load and bss end: the whole file; entry: 32 bytes on
    # 32-bit code in protected mode
    + bytes.fromhex("b010")  # mov al, 0x10
    + bytes.fromhex("e6f4")  # out 0xf4, al: isa-debug-exit makes it exit status 0x10 << 1 | 1 = 33
    + bytes.fromhex("f4")  # hlt
    + bytes.fromhex("ebfd")  # jmp to the hlt
)


@dataclass(frozen=True)
class AccelProof:
    """Whether KVM runs guests for this user, and why not, in words for people. For one boot and one QEMU."""

    kvm_usable: bool
    why: str
    boot_id: str
    qemu_version: str
    user: str


@dataclass(frozen=True)
class Prover:
    """Everything that the proof depends on. `groups` are the extra groups that QEMU will have under KVM."""

    binary: str
    qemu_version: str
    boot_id: str
    user: QemuUser | None
    groups: Sequence[int]
    kvm: Path = KVM

    def prove(self, cache: Path) -> AccelProof:
        """The proof of this boot, from the cache where it stands there. Never raises: what is not proved is not so.

        Kept is only what a QEMU that ran has shown. That the device is missing or closed is looked at each time,
        for a `usermod` may mend it, and so is everything else that keeps QEMU from being tried.
        """
        try:
            missing = self._missing()
            return self._proof(False, missing) if missing else self._kept(cache) or self._tried(cache)
        except SpawnError as error:
            return self._proof(False, str(error))
        except Exception as error:  # guests can do without KVM, and the agent not without an answer
            log.exception("KVM could not be tried")
            return self._proof(False, f"it could not be tried: {error}")

    def run(self, accel: Accel) -> str | None:
        """Run the guest. None if it ran, otherwise what happened. Raises SpawnError where nothing could run."""
        if shutil.which(self.binary) is None:
            raise SpawnError(f"{self.binary} could not be started: there is no such program")
        try:
            with _guest_file() as guest:
                qemu = self._start(accel, guest)
        except (OSError, subprocess.SubprocessError) as error:
            raise SpawnError(f"{self.binary} could not be started: {error}") from error
        return _verdict(qemu)

    def _kept(self, cache: Path) -> AccelProof | None:
        """What the cache holds, if that is of this boot, QEMU and user."""
        kept = _read(cache)
        return kept if kept and kept == self._proof(kept.kvm_usable, kept.why) else None

    def _tried(self, cache: Path) -> AccelProof:
        """What a guest shows now, put into the cache; where that fails, it is as true without."""
        fault = self.run(Accel.KVM)
        proof = self._proof(fault is None, fault or "a guest ran under it")
        try:
            durable.write(cache, json.dumps(asdict(proof), indent=1).encode())
        except OSError as error:
            log.warning("%s: cannot be written, so the next agent proves KVM anew: %s", cache, error.strerror)
        return proof

    def _missing(self) -> str | None:
        """What can be said of the device without running anything."""
        try:
            status = self.kvm.stat()
        except OSError as error:
            return f"{self.kvm}: {error.strerror}"
        if self.user is None:
            allowed = os.access(self.kvm, os.R_OK | os.W_OK)
        else:
            allowed = _may_use(status, self.user, self.groups)
        who = self.user.name if self.user else "the agent's user"
        return None if allowed else f"{self.kvm} is not open to {who}"

    def _start(self, accel: Accel, guest: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            (
                *DIES_WITH_US,
                self.binary,
                *("-nodefaults", "-no-user-config", "-no-reboot"),
                *("-machine", "pc"),
                *("-accel", accel.value),
                *("-cpu", cpu_model(accel)),
                *("-m", "16"),
                *("-display", "none"),
                *("-device", "isa-debug-exit,iobase=0xf4,iosize=4"),
                *("-kernel", f"/proc/self/fd/{guest}"),
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(guest,),
            cwd="/",
            start_new_session=True,
            user=self.user.uid if self.user else None,
            group=self.user.gid if self.user else None,
            extra_groups=tuple(self.groups) if self.user else None,
        )

    def _proof(self, usable: bool, why: str) -> AccelProof:
        return AccelProof(usable, why, self.boot_id, self.qemu_version, self.user.name if self.user else "")


def resolve(wanted: Accel, proof: AccelProof) -> Accel | Fault:
    """Who is to execute the guest: never AUTO. KVM that is asked for and does not work is a fault."""
    match wanted:
        case Accel.TCG:
            return Accel.TCG
        case Accel.AUTO:
            return Accel.KVM if proof.kvm_usable else Accel.TCG
        case Accel.KVM if proof.kvm_usable:
            return Accel.KVM
    return Fault("KvmUnusable", f"spec.accel: kvm does not work here ({proof.why}); write auto or tcg")


def kvm_groups(kvm: Path = KVM) -> tuple[int, ...]:
    """The group that /dev/kvm is open to, which QEMU's user needs under KVM; none where there is none."""
    try:
        status = kvm.stat()
    except OSError:
        return ()
    return (
        (status.st_gid,) if status.st_gid != 0 and _both(status.st_mode, stat.S_IRGRP, stat.S_IWGRP) else ()
    )


def _may_use(status: os.stat_result, user: QemuUser, groups: Sequence[int]) -> bool:
    """Whether the mode lets the user read and write. Access lists are for people who log in: not asked."""
    if user.uid == 0:
        return True
    if status.st_uid == user.uid:
        return _both(status.st_mode, stat.S_IRUSR, stat.S_IWUSR)
    if status.st_gid in {user.gid, *groups}:
        return _both(status.st_mode, stat.S_IRGRP, stat.S_IWGRP)
    return _both(status.st_mode, stat.S_IROTH, stat.S_IWOTH)


def _both(mode: int, read: int, write: int) -> bool:
    return mode & (read | write) == read | write


def _verdict(qemu: subprocess.Popen[bytes]) -> str | None:
    try:
        _, complaint = qemu.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        qemu.kill()
        with suppress(subprocess.TimeoutExpired):  # a broken KVM can hold a process that was killed
            qemu.communicate(timeout=TIMEOUT_S)
        return f"a guest of five instructions did not end within {TIMEOUT_S:g} s"
    if qemu.returncode == PASSED:
        return None
    words = complaint.decode(errors="replace").strip().splitlines()
    return f"QEMU ended with {qemu.returncode}: {words[-1] if words else 'no word'}"


@contextmanager
def _guest_file() -> Iterator[int]:
    """The guest in a file without a name, so that nothing has to be made where QEMU's user may read."""
    guest = os.memfd_create("accel-guest")
    try:
        os.write(guest, GUEST)
        yield guest
    finally:
        os.close(guest)


def _read(cache: Path) -> AccelProof | None:
    try:
        return AccelProof(**json.loads(cache.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
