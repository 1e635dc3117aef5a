"""What a QEMU command line is made from: one value that says everything, and nothing that must be looked up.

Next: `reconciler.qemu.devices`, where each device makes its piece of the command line from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from reconciler.model.observed import Identity
from reconciler.model.vm import Accel, VMSpec, is_vm_name

MEMORY_BLOCK_MIB = 2  # the grain of virtio-mem


class FdSet(IntEnum):
    """QEMU's numbers for the files that it has as descriptors from the start. Others it numbers itself."""

    DISK = 1
    SERIAL_LOG = 2
    ISO = 3
    FIRST_PORT = 16  # and the hot-plug ports after it: data disks


@dataclass(frozen=True)
class SocketFds:
    """Descriptors of the listening sockets that QEMU serves, as numbered in the agent and so in QEMU."""

    qmp: int
    human: int
    serial: int
    guest_agent: int


@dataclass(frozen=True)
class IsoFd:
    """An ISO that lies in the CD drive from the start: its read-only descriptor, its block node's name."""

    fd: int
    node_name: str


@dataclass(frozen=True)
class Machine:
    """One VM as it is to be launched. `accel` is what was resolved, kvm or tcg; `vnc_port` what was chosen.

    QEMU gets its files as descriptors: the disks open for reading and writing (data disks by name), the serial log
    for appending.
    Raises ValueError for values that no manifest and no agent can have made.
    """

    name: str
    spec: VMSpec
    identity: Identity
    accel: Accel
    vnc_port: int
    disk_fd: int
    serial_log_fd: int
    sockets: SocketFds
    iso: IsoFd | None = None
    data_disk_fds: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not is_vm_name(self.name):
            raise ValueError(f"not a VM's name: {self.name!r}")
        if self.accel is Accel.AUTO:
            raise ValueError("accel: auto must be resolved before a launch")

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Everything that QEMU has to inherit."""
        s = self.sockets
        iso = (self.iso.fd,) if self.iso else ()
        disks = self.data_disk_fds.values()
        return (self.disk_fd, self.serial_log_fd, s.qmp, s.human, s.serial, s.guest_agent, *iso, *disks)

    @property
    def extra_memory_mib(self) -> int:
        """What the guest may be given later, in whole blocks of virtio-mem."""
        extra_mib = (self.spec.max_memory_mib or self.spec.memory_mib) - self.spec.memory_mib
        return extra_mib - extra_mib % MEMORY_BLOCK_MIB
