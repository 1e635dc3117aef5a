"""What a manifest asks for: the desired state of one VM, decoded and with every default filled in.

The defaults live here and nowhere else; the JSON Schema describes the same fields as a user writes them.
Next: `reconciler.model.observed`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}"
_NAME = re.compile(NAME_PATTERN + r"\Z")

GIB = 1024**3

CPU_CORES_MAX = 255
PLUGGABLE_MAX = 8  # data disks and further network cards: a VM's board has so many ports for them
VNC_PORT_MIN = 5900
VNC_PORT_MAX = 65535


def is_vm_name(text: str) -> bool:
    """Whether `text` may name a VM. Every door of the agent checks with this one function."""
    return _NAME.match(text) is not None


class PowerState(StrEnum):
    """`spec.state`."""

    RUNNING = "running"
    STOPPED = "stopped"


class NetworkType(StrEnum):
    """`spec.networkType`: QEMU's user networking. Bridges and NAT come with their own back ends."""

    USER = "user"


class BootDevice(StrEnum):
    """One entry of `spec.bootOrder`."""

    CD = "cd"
    HD = "hd"
    NET = "net"


class RestartPolicy(StrEnum):
    """`spec.restartPolicy`: what becomes of a VM that ended by itself (KubeVirt's run strategies)."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NEVER = "never"


class DeletionPolicy(StrEnum):
    """`spec.deletionPolicy`: what becomes of the disks when the manifest goes away."""

    RETAIN = "retain"
    DELETE = "delete"


class Profile(StrEnum):
    """`spec.profile`: the devices where no field says otherwise."""

    DEFAULT = "default"
    COMPATIBLE = "compatible"


class Accel(StrEnum):
    """`spec.accel`: who executes the guest's instructions."""

    AUTO = "auto"
    KVM = "kvm"
    TCG = "tcg"


class Protocol(StrEnum):
    """Transport of a port forward."""

    TCP = "tcp"
    UDP = "udp"


class UpdatePolicy(StrEnum):
    """`spec.updatePolicy`: when a running VM gets the changes that only a restart brings."""

    MANUAL = "manual"
    ON_GUEST_REBOOT = "on-guest-reboot"
    RESTART = "restart"
    WINDOW = "window"


class EjectPolicy(StrEnum):
    """`spec.ejectPolicy`: what becomes of a medium that the guest has locked in its drive."""

    WAIT = "wait"
    FORCE = "force"


class Link(StrEnum):
    """Whether a network card's cable is plugged in."""

    UP = "up"
    DOWN = "down"


class WatchdogAction(StrEnum):
    """`spec.watchdog.action`: what QEMU does when the guest's watchdog bites."""

    RESET = "reset"
    POWEROFF = "poweroff"
    PAUSE = "pause"
    NONE = "none"


class Weekday(StrEnum):
    """A day of `spec.updateWindow`, in the order of ISO 8601."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


@dataclass(frozen=True)
class UpdateWindow:
    """`spec.updateWindow`: from `start_minute` to `end_minute` (after midnight, in `time_zone`) of each of `days`.

    An end that is not after the start is one of the day after.
    """

    days: tuple[Weekday, ...]
    start_minute: int
    end_minute: int
    time_zone: str


@dataclass(frozen=True, order=True)
class Throttle:
    """How much a disk may do in a second: operations, and megabytes (10⁶ bytes). 0: as much as it can."""

    iops: int = 0
    mbps: int = 0


@dataclass(frozen=True, order=True)
class DataDisk:
    """`spec.disks[]`: a disk beside the root disk, which the agent makes."""

    name: str
    size_gib: int
    throttle: Throttle = Throttle()


@dataclass(frozen=True, order=True)
class Nic:
    """`spec.nics[]`: a network card beside the first, on a user network of its own."""

    name: str
    link: Link = Link.UP


@dataclass(frozen=True, order=True)
class PortForward:
    """`spec.portForwards[]`: a port of the host that leads to a port of the guest."""

    host_port: int
    guest_port: int
    protocol: Protocol = Protocol.TCP
    host_address: str = "127.0.0.1"

    def __str__(self) -> str:
        return f"{self.host_address}:{self.host_port}->{self.guest_port}/{self.protocol.value}"


@dataclass(frozen=True)
class Shutdown:
    """`spec.shutdown`: how long the guest may take to obey an ACPI power-down."""

    timeout_s: int = 60


@dataclass(frozen=True)
class VMSpec:
    """`spec` of a manifest, normalised: two specs that mean the same are equal."""

    state: PowerState = PowerState.RUNNING
    memory_mib: int = 2048
    cpu_cores: int = 2
    disk_size_gib: int = 20
    network_type: NetworkType = NetworkType.USER
    port_forwards: tuple[PortForward, ...] = ()
    vnc_port: int | None = None
    boot_order: tuple[BootDevice, ...] = (BootDevice.CD, BootDevice.HD)
    iso_path: str | None = None
    mount_iso: bool = False
    eject_policy: EjectPolicy = EjectPolicy.WAIT
    max_memory_mib: int | None = None
    max_cpu_cores: int | None = None
    root_disk: Throttle = Throttle()
    disks: tuple[DataDisk, ...] = ()
    network_link: Link = Link.UP
    nics: tuple[Nic, ...] = ()
    watchdog: WatchdogAction | None = None
    profile: Profile = Profile.DEFAULT
    accel: Accel = Accel.AUTO
    update_policy: UpdatePolicy = UpdatePolicy.MANUAL
    update_window: UpdateWindow | None = None
    restart_policy: RestartPolicy = RestartPolicy.ON_FAILURE
    restarted_at: str | None = None
    shutdown: Shutdown = Shutdown()
    depends_on: tuple[str, ...] = ()
    ttl_s: int | None = None
    suspend: bool = False
    protect: bool = False
    deletion_policy: DeletionPolicy = DeletionPolicy.RETAIN
    retain_days: int = 30

    @property
    def most_cpu_cores(self) -> int:
        """What a QEMU launched for this spec can have at most. Room to grow costs a guest next to nothing."""
        roomy = self.profile is Profile.DEFAULT
        return self.max_cpu_cores or (min(self.cpu_cores * 4, CPU_CORES_MAX) if roomy else self.cpu_cores)

    @property
    def medium(self) -> str | None:
        """The ISO that should lie in the CD drive, as the manifest names it; None for an empty drive."""
        return self.iso_path if self.mount_iso else None


@dataclass(frozen=True)
class ManifestRef:
    """Where a VM is described: a file, and the position of its document's first key (both from 1)."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class DesiredVM:
    """One VM as a manifest describes it.

    `generation` is the digest of spec and labels as written, without defaults: neither a commit elsewhere nor a
    new version of the agent makes an edit of it. `text` is the document as it stands in its file.
    """

    name: str
    spec: VMSpec
    generation: str
    source: ManifestRef
    labels: dict[str, str] = field(default_factory=dict, hash=False)
    text: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True)
class Removal:
    """A VM whose manifest is gone, and whose removal is confirmed: stop it, set its disks aside.

    `last` is the last good manifest of it, which goes into the trash beside the disks. `discard`: somebody asked
    for its disks to be deleted, whatever the manifest says of them. `asked`: it is not only that a file went away.
    """

    last: DesiredVM
    discard: bool = False
    asked: bool = field(default=False, compare=False)

    @property
    def name(self) -> str:
        """The VM's name."""
        return self.last.name

    @property
    def cause(self) -> str:
        """Why it is removed, in words."""
        return "its deletion was asked for" if self.asked else "its manifest is gone"


Wanted = DesiredVM | Removal | None
"""What is wanted of a name. None: no manifest ever said, so a VM that runs is reported and left alone."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a manifest: where, which field, what was found and what would be right."""

    file: str
    line: int
    column: int
    field: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}"
        return f"{where}: {self.field}: {self.message}" if self.field else f"{where}: {self.message}"
