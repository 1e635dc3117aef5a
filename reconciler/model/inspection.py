"""What can be looked at beyond a VM's status: its logs, and the host that it runs on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LogEnd:
    """The last lines of a log, harmless to show. `total_bytes` is the size of the whole log."""

    text: str = ""
    total_bytes: int = 0


@dataclass(frozen=True)
class VMLogs:
    """The ends of what was written down of one VM.

    `qemu` is QEMU's stderr in this run, `qemu_before` that of the run before, `serial` the guest's serial console.
    """

    qemu: LogEnd
    qemu_before: LogEnd
    serial: LogEnd


@dataclass(frozen=True)
class FieldView:
    """One field of a VM: what its manifest says, what QEMU was launched with, what QEMU says now; as people write it.

    None: there is none of it, or QEMU has nothing to do with the field. `reach` is the way that a change takes, `how`
    says so in words, `pending` what waits for a restart just now.
    """

    field: str
    manifest: str | None
    launched: str | None
    now: str | None
    reach: str
    how: str
    pending: str | None


@dataclass(frozen=True)
class HostFacts:
    """The host as VMs find it.

    `kvm` is None until it is proved whether guests run under KVM; `why` says so in words for people. `qemu_user` is
    the user that QEMU runs as, `isolated` whether that is another one than the agent's.
    """

    qemu_binary: str
    qemu_version: str
    kvm: bool | None
    why: str
    qemu_user: str
    isolated: bool
    cpus: int
    memory_bytes: int
    memory_available_bytes: int
