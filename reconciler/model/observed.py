"""What was seen of one VM: its process, what QEMU itself answers, its disk, and what the agent remembers of it.

An `ObservedVM` is a snapshot: the planner compares it with the desired state and asks nothing further.
Times ending in `_s` are seconds of CLOCK_BOOTTIME, which no clock step moves; they mean something only together
with the boot id of the host. Next: `reconciler.model.plan`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from reconciler.model.vm import Accel, BootDevice, PortForward, VMSpec


@dataclass(frozen=True)
class Identity:
    """What makes a VM the same machine for its guest: made once, kept until the VM is deleted.

    `machine` is QEMU's versioned machine type, `slots` the PCI slot on the root bus of each device by its id.
    `vnc_port` is the port the agent chose where the manifest names none. `ports` gives the hot-plug port of each disk
    and network card that came later, `macs` their MAC addresses, both by the device's id. `started_at` is when the VM
    was started first.
    """

    uuid: str
    mac_address: str
    machine: str
    slots: dict[str, int]
    vnc_port: int | None = None
    ports: dict[str, int] = field(default_factory=dict)
    macs: dict[str, str] = field(default_factory=dict)
    started_at: str | None = None


@dataclass(frozen=True)
class ProcessHandle:
    """One process, told from every other that ever had its pid: boot id + pid + start ticks."""

    boot_id: str
    pid: int
    start_ticks: int


@dataclass(frozen=True)
class Foreign:
    """What a QEMU that somebody else started calls what our functions call by names of ours.

    `uuid` is what it answers, which may be none: zeros. `ids` gives, by our name of a device, what QMP's commands
    address it by, `paths` its place in QOM. `netdev` is the user network behind our first card; `media` gives our name
    of a medium by its block node. `limits` and `boot_order` are what it had: they stay until the manifest is changed.
    """

    uuid: str
    ids: dict[str, str] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)
    netdev: str | None = None
    media: dict[str, str] = field(default_factory=dict)
    limits: tuple[int, ...] = (0,) * 6
    boot_order: tuple[BootDevice, ...] = ()


@dataclass(frozen=True)
class LaunchRecord:
    """What QEMU was, or is about to be, started with. Without `process` it is an intent: nothing may have started.

    `spec` is the full normalised spec at the launch, against which pending changes are computed; `accel` and
    `vnc_port` are what was chosen where the spec leaves them open. `guest_ran`: the guest was seen running once.
    `told` is what QEMU was given since, and cannot be asked for: a link's state, an action. `foreign` is there for a
    QEMU that was imported: then nothing was launched, and the record says what was found. One without VNC has no port.
    """

    uuid: str
    generation: str
    spec: VMSpec
    argv: tuple[str, ...]
    accel: Accel
    vnc_port: int | None
    qemu_version: str
    requested_at: str
    requested_s: float
    process: ProcessHandle | None = None
    guest_ran: bool = False
    told: dict[str, str] = field(default_factory=dict)
    foreign: Foreign | None = None


@dataclass(frozen=True)
class Asked:
    """Something that the guest was asked for and decides itself: to let go of a device, to give back memory.

    `what` tells one wish from the next; it was asked first at `since_s`, and is to be asked again at `again_s`.
    """

    what: str
    since_s: float
    again_s: float
    times: int = 1


class StopRung(StrEnum):
    """The rungs of the stop ladder, each with its own deadline."""

    ACPI = "acpi"
    QUIT = "quit"
    TERM = "term"
    KILL = "kill"


class ExitKind(StrEnum):
    """How a QEMU came to its end."""

    STOPPED = "Stopped"
    """The agent asked for it."""
    GUEST_SHUTDOWN = "GuestShutdown"
    GUEST_PANICKED = "GuestPanicked"
    CRASHED = "Crashed"
    """The process vanished unasked, or QEMU reported an internal error."""
    HOST_QUIT = "HostQuit"
    """Somebody else ended QEMU from outside: by QMP's `quit`, or by a signal that asks it to end."""
    START_FAILED = "StartFailed"
    """It ended before its guest ever ran."""


@dataclass(frozen=True)
class StopPhase:
    """A stop under way: which rung was taken, why, when the next is due, and what the end will be called.

    `asked_s` is when the guest was last asked; one that is still booting does not hear the power button.
    """

    rung: StopRung
    cause: str
    deadline_s: float
    ends_as: ExitKind
    asked_s: float = 0.0


@dataclass(frozen=True)
class Exit:
    """The end of one QEMU, as far as it is known; `generation` is what its manifest said when it was noticed.

    `bundle` is the directory, below the VM's own, that keeps what was left of it.
    """

    kind: ExitKind
    generation: str
    message: str
    at: str
    at_s: float
    boot_id: str
    bundle: str | None = None


@dataclass(frozen=True)
class Lifecycle:
    """What has to be remembered between two rounds, and over a restart of the agent; replaced as a whole.

    `launch` is there from the intent until the end of its QEMU was noticed. `unanswered`: the last exit came
    unasked, and still decides whether and when there is another start. `failures` counts the failed runs in a row,
    without ten healthy minutes between them. `asked` is what the guest was asked for and has not done, by subject.
    `renew`: somebody asked for a new root disk, which the VM gets as soon as it is off. `started_at` is the first start
    that is known of a VM whose identity did not say so while it ran.
    """

    launch: LaunchRecord | None = None
    stop: StopPhase | None = None
    last_exit: Exit | None = None
    unanswered: bool = False
    failures: int = 0
    renew: bool = False
    asked: dict[str, Asked] = field(default_factory=dict)
    started_at: str | None = None


@dataclass(frozen=True)
class CdDrive:
    """The CD drive as `query-block` shows it. `node_name` is None where no medium is in."""

    node_name: str | None
    tray_open: bool
    locked: bool


@dataclass(frozen=True)
class DiskView:
    """A disk as `query-block` shows it: the device's id, and the name by which QEMU wants its limits addressed.

    `limits` are bps, bps_rd, bps_wr, iops, iops_rd, iops_wr; 0 is no limit.
    """

    device: str
    qdev: str
    node_name: str
    size_bytes: int
    limits: tuple[int, ...] = (0,) * 6


@dataclass(frozen=True)
class MemoryView:
    """The guest's memory: what it was started with, what virtio-mem adds, what the balloon leaves of the first.

    `requested_bytes` is what virtio-mem was asked for, `plugged_bytes` what the guest has taken of it;
    `balloon_bytes` is None where there is no balloon.
    """

    base_bytes: int
    balloon_bytes: int | None = None
    plugged_bytes: int = 0
    requested_bytes: int = 0
    pluggable_bytes: int = 0

    @property
    def most_bytes(self) -> int:
        """What the guest can have in this run."""
        return self.base_bytes + self.pluggable_bytes

    @property
    def guest_bytes(self) -> int:
        """What the guest really has."""
        base = self.base_bytes if self.balloon_bytes is None else self.balloon_bytes
        return base + self.plugged_bytes


@dataclass(frozen=True)
class Hardware:
    """What QEMU says of the devices of a VM that runs.

    `devices` are the ids of all that have one, `nodes` the names of all block nodes, `netdevs` the user networks.
    `forwards` are those of the first network card. `boot_order` is what the next reset of the guest will follow.
    `agent_open`: an agent listens inside the guest; `cpus_online` is what it says of the cores in use, if it was asked.
    """

    cpus: int
    cpus_max: int
    memory: MemoryView
    disks: tuple[DiskView, ...]
    devices: frozenset[str]
    nodes: frozenset[str]
    netdevs: frozenset[str]
    forwards: tuple[PortForward, ...]
    vnc_port: int | None
    boot_order: tuple[BootDevice, ...]
    agent_open: bool = False
    cpus_online: int | None = None

    @property
    def cpus_used(self) -> int:
        """The cores that the guest uses, as far as it was asked."""
        return self.cpus if self.cpus_online is None else self.cpus_online

    def disk(self, device: str) -> DiskView | None:
        """The disk with this id."""
        return next((disk for disk in self.disks if disk.device == device), None)


@dataclass(frozen=True)
class QemuView:
    """What QEMU itself answers. `run_state` is QMP's RunState: running, paused, prelaunch, shutdown, …

    `hardware` is looked at while there is a guest that uses it. `shutdown_reason` is what QEMU last gave as the reason
    of a SHUTDOWN event, where the agent heard one.
    """

    run_state: str
    cd: CdDrive | None
    hardware: Hardware | None = None
    shutdown_reason: str | None = None


@dataclass(frozen=True)
class Gone:
    """No QEMU of this VM exists. The exit status is None where it was no child of this agent.

    `shutdown_reason` is QMP's ShutdownCause in its last SHUTDOWN event; None where none was heard.
    """

    exit_status: int | None = None
    last_words: str = ""
    shutdown_reason: str | None = None


@dataclass(frozen=True)
class Alive:
    """The QEMU of this VM exists and answers."""

    handle: ProcessHandle
    qemu: QemuView


@dataclass(frozen=True)
class Unknown:
    """It could not be found out. Such a VM is neither killed nor started."""

    reason: str
    message: str
    handle: ProcessHandle | None = None


Process = Gone | Alive | Unknown


@dataclass(frozen=True)
class Disk:
    """The root disk: its file and its virtual size."""

    path: str
    virtual_size_bytes: int


@dataclass(frozen=True)
class Medium:
    """An ISO file that was found and may be used. `node_name` is QEMU's name for it, derived from `path`."""

    path: str
    node_name: str


@dataclass(frozen=True)
class Fault:
    """Something that stands in the way; `reason` is the CamelCase word that a condition shows."""

    reason: str
    message: str


@dataclass(frozen=True)
class ObservedVM:
    """All that was seen of one VM in one look.

    `disk` and `medium` are a `Fault` where they must not or cannot be used; `medium` is None where the manifest
    wants an empty drive; `disk` is None where there is none yet, and is looked at where a manifest wants one;
    `data_disks` are those that the manifest names, in the same way. `vnc_offer` is the port that is the VM's where its
    manifest names none.
    `waits_for` says of each VM that has to be ready first and is not what it is, `needed_by` names those that have to
    be off first, while the host goes down.
    `serial_log_bytes` is how much of the guest's serial console has been written down. `exposed` says why its guest
    reaches what it should not on this host, where it does.
    """

    name: str
    now_s: float
    utc: str
    boot_id: str
    identity: Identity | None
    lifecycle: Lifecycle
    process: Process
    disk: Disk | Fault | None
    medium: Medium | Fault | None
    serial_log_bytes: int = 0
    data_disks: dict[str, Disk | Fault | None] = field(default_factory=dict)
    vnc_offer: int | None = None
    waits_for: tuple[str, ...] = ()
    needed_by: tuple[str, ...] = ()
    exposed: Fault | None = None
