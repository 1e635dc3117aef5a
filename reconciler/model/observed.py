"""What was seen of one VM: its process, what QEMU itself answers, its disk, and what the agent remembers of it.

An `ObservedVM` is a snapshot: the planner compares it with the desired state and asks nothing further.
Times ending in `_s` are seconds of CLOCK_BOOTTIME, which no clock step moves; they mean something only together
with the boot id of the host. Next: `reconciler.model.plan`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from reconciler.model.vm import Accel, VMSpec


@dataclass(frozen=True)
class Identity:
    """What makes a VM the same machine for its guest: made once, kept until the VM is deleted.

    `machine` is QEMU's versioned machine type, `slots` the PCI slot on the root bus of each device by its id.
    `vnc_port` is the port the agent chose where the manifest names none.
    """

    uuid: str
    mac_address: str
    machine: str
    slots: dict[str, int]
    vnc_port: int | None = None


@dataclass(frozen=True)
class ProcessHandle:
    """One process, told from every other that ever had its pid: boot id + pid + start ticks."""

    boot_id: str
    pid: int
    start_ticks: int


@dataclass(frozen=True)
class LaunchRecord:
    """What QEMU was, or is about to be, started with. Without `process` it is an intent: nothing may have started.

    `spec` is the full normalised spec at the launch, against which pending changes are computed; `accel` and
    `vnc_port` are what was chosen where the spec leaves them open. `guest_ran`: the guest was seen running once.
    """

    uuid: str
    generation: str
    spec: VMSpec
    argv: tuple[str, ...]
    accel: Accel
    vnc_port: int
    qemu_version: str
    requested_at: str
    requested_s: float
    process: ProcessHandle | None = None
    guest_ran: bool = False


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
    """The end of one QEMU, as far as it is known; `generation` is what its manifest said when it was noticed."""

    kind: ExitKind
    generation: str
    message: str
    at: str
    at_s: float
    boot_id: str


@dataclass(frozen=True)
class Lifecycle:
    """What has to be remembered between two rounds, and over a restart of the agent; replaced as a whole.

    `launch` is there from the intent until the end of its QEMU was noticed. `unanswered`: the last exit came
    unasked, and still decides whether and when there is another start. `failures` counts the failed runs in a row,
    without ten healthy minutes between them.
    """

    launch: LaunchRecord | None = None
    stop: StopPhase | None = None
    last_exit: Exit | None = None
    unanswered: bool = False
    failures: int = 0


@dataclass(frozen=True)
class CdDrive:
    """The CD drive as `query-block` shows it. `node_name` is None where no medium is in."""

    node_name: str | None
    tray_open: bool
    locked: bool


@dataclass(frozen=True)
class QemuView:
    """What QEMU itself answers. `run_state` is QMP's RunState: running, paused, prelaunch, shutdown, …"""

    run_state: str
    cd: CdDrive | None


@dataclass(frozen=True)
class Gone:
    """No QEMU of this VM exists. The exit status is None where it was no child of this agent."""

    exit_status: int | None = None
    last_words: str = ""


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
    wants an empty drive; `disk` is None where there is none yet, and is looked at where a manifest wants one.
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
    exposed: Fault | None = None
