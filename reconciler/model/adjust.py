"""The actions that change a QEMU while its guest runs. Each is one call, and each leaves the others alone.

One that fails hinders none of the rest. What QEMU cannot be asked for afterwards, or a guest decides for itself, is
kept in memory by `remembered`. Next: `reconciler.converge.changes`, which asks for them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from reconciler.model.observed import Asked, Lifecycle, Medium
from reconciler.model.plan import Action
from reconciler.model.vm import BootDevice, DataDisk, Link, Nic, PortForward, Throttle

MIB = 1024**2
IN_DOUBT = "?"
ASK_AGAIN_FIRST_S = 10.0  # a guest that is still booting does not hear a request to unplug
ASK_AGAIN_MAX_S = 300.0


@dataclass(frozen=True)
class Adjust(Action):
    """A change of a running QEMU. `asks` names the subject of a request that the guest may follow or not."""

    asks: str | None = field(default=None, repr=False, kw_only=True)

    @property
    def wish(self) -> str:
        """What is asked for, without the cause."""
        return self.render().partition(" because ")[0]

    @property
    def told(self) -> tuple[str, str] | None:
        """What QEMU was given and cannot be asked for: a subject and its value."""
        return None

    @property
    def in_doubt(self) -> tuple[str, str] | None:
        """The same while it is not known whether QEMU was given it: equal to no wish."""
        return (self.told[0], IN_DOUBT) if self.told else None


@dataclass(frozen=True)
class ChangeMedium(Adjust):
    """Put this medium into the CD drive, in place of what lies there; None empties it."""

    medium: Medium | None
    force: bool = False

    def render(self) -> str:
        """Name the file."""
        what = self.medium.path if self.medium else "empty"
        return f"ChangeMedium({what}{', force' if self.force else ''}) because {self.cause}"


@dataclass(frozen=True)
class AskForMedium(Adjust):
    """Ask the guest, which holds its CD drive locked, to open it."""


@dataclass(frozen=True)
class ResizeDisk(Adjust):
    """Tell QEMU and the guest that a disk is larger now."""

    node_name: str
    size_bytes: int

    def render(self) -> str:
        """With the unit."""
        return f"ResizeDisk({self.node_name}, {self.size_bytes / 1024**3:g} GiB) because {self.cause}"


@dataclass(frozen=True)
class LimitDisk(Adjust):
    """Set how much a disk may do in a second."""

    qdev: str = field(repr=False)
    device: str
    throttle: Throttle

    def render(self) -> str:
        """With the units."""
        limits = f"{self.throttle.iops or 'no'} iops, {self.throttle.mbps or 'no'} MB/s"
        return f"LimitDisk({self.device}, {limits}) because {self.cause}"


@dataclass(frozen=True)
class CreateDataDisk(Adjust):
    """Make the file of a data disk, which is not there yet."""

    disk: DataDisk

    def render(self) -> str:
        """Name and size."""
        return f"CreateDataDisk({self.disk.name}, {self.disk.size_gib} GiB) because {self.cause}"


@dataclass(frozen=True)
class PlugDisk(Adjust):
    """Plug a data disk into this hot-plug port."""

    disk: DataDisk
    port: int

    def render(self) -> str:
        """Name and port."""
        return f"PlugDisk({self.disk.name}, port {self.port}) because {self.cause}"


@dataclass(frozen=True)
class PlugNic(Adjust):
    """Plug a network card into this hot-plug port."""

    nic: Nic
    port: int

    @property
    def told(self) -> tuple[str, str]:
        """A new card's cable is plugged in."""
        return f"link:nic-{self.nic.name}", Link.UP.value

    def render(self) -> str:
        """Name and port."""
        return f"PlugNic({self.nic.name}, port {self.port}) because {self.cause}"


@dataclass(frozen=True)
class Unplug(Adjust):
    """Ask the guest to let go of a device."""

    device: str


@dataclass(frozen=True)
class DropNode(Adjust):
    """Close the block node of a disk that is unplugged."""

    node_name: str


@dataclass(frozen=True)
class DropNetdev(Adjust):
    """Remove the network behind a card that is unplugged."""

    netdev: str


@dataclass(frozen=True)
class SetLink(Adjust):
    """Plug in, or out, the cable of a network card."""

    device: str
    link: Link

    @property
    def told(self) -> tuple[str, str]:
        """QEMU has no question for it."""
        return f"link:{self.device}", self.link.value


@dataclass(frozen=True)
class SetWatchdog(Adjust):
    """Say what happens when the guest's watchdog bites."""

    action: str

    @property
    def told(self) -> tuple[str, str]:
        """QEMU has no question for it."""
        return "watchdog", self.action


@dataclass(frozen=True)
class SetReboot(Adjust):
    """Say what a guest's reboot does: `reset`, as ever, or `shutdown`, which lets another QEMU take over."""

    action: str

    @property
    def told(self) -> tuple[str, str]:
        """QEMU has no question for it."""
        return "reboot", self.action


@dataclass(frozen=True)
class PlugCpus(Adjust):
    """Add CPU cores, up to this number."""

    cores: int


@dataclass(frozen=True)
class UseCpus(Adjust):
    """Have the guest's agent take cores out of use, or back into it: QEMU itself cannot unplug one."""

    cores: int

    @property
    def told(self) -> tuple[str, str]:
        """From then on the guest is asked how many it uses."""
        return "cpus", str(self.cores)


@dataclass(frozen=True)
class SetMemory(Adjust):
    """Ask the guest to take so much of what virtio-mem offers, and to keep so much of what it was started with.

    None: there is no such device.
    """

    requested_bytes: int | None
    balloon_bytes: int | None
    wanted_mib: int = field(repr=False)

    @property
    def wish(self) -> str:
        """What the guest shall have, however that is made up."""
        return f"{self.wanted_mib} MiB"

    def render(self) -> str:
        """With the units."""
        plugged = "" if self.requested_bytes is None else f"virtio-mem {self.requested_bytes // MIB} MiB"
        balloon = "" if self.balloon_bytes is None else f"balloon {self.balloon_bytes // MIB} MiB"
        return f"SetMemory({', '.join(filter(None, (plugged, balloon)))}) because {self.cause}"


@dataclass(frozen=True)
class AddForward(Adjust):
    """Forward a port of the host to the guest."""

    forward: PortForward

    def render(self) -> str:
        """As people write it."""
        return f"AddForward({self.forward}) because {self.cause}"


@dataclass(frozen=True)
class RemoveForward(Adjust):
    """Forward it no longer."""

    forward: PortForward

    def render(self) -> str:
        """As people write it."""
        return f"RemoveForward({self.forward}) because {self.cause}"


@dataclass(frozen=True)
class MoveVnc(Adjust):
    """Let the screen be seen on this port, and on no other."""

    port: int
    chosen: bool = field(default=False, repr=False)


@dataclass(frozen=True)
class NoteVnc(Adjust):
    """Write down on which port QEMU serves the screen; what is not written down is not closed to guests."""

    port: int


@dataclass(frozen=True)
class SetBootOrder(Adjust):
    """Say what the guest's next reset boots from."""

    order: tuple[BootDevice, ...]

    def render(self) -> str:
        """As the manifest writes it."""
        return f"SetBootOrder({','.join(self.order)}) because {self.cause}"


def begun(memory: Lifecycle, action: Adjust) -> Lifecycle:
    """What is to be known before this action is done, lest an agent dies right after."""
    return _with_told(memory, action.in_doubt)


def remembered(memory: Lifecycle, action: Adjust, now_s: float) -> Lifecycle:
    """What is to be known after this action was done, where QEMU and guest cannot be asked for it."""
    memory = _with_told(memory, action.told)
    if action.asks:
        asked = _asked(memory.asked.get(action.asks), action.wish, now_s)
        memory = replace(memory, asked={**memory.asked, action.asks: asked})
    return memory


def _with_told(memory: Lifecycle, told: tuple[str, str] | None) -> Lifecycle:
    if told is None or memory.launch is None:
        return memory
    launch = replace(memory.launch, told={**memory.launch.told, told[0]: told[1]})
    return replace(memory, launch=launch)


def _asked(before: Asked | None, what: str, now_s: float) -> Asked:
    if before is None or before.what != what:
        return Asked(what, now_s, now_s + ASK_AGAIN_FIRST_S)
    wait_s = min(ASK_AGAIN_FIRST_S * 2.0 ** min(before.times, 10), ASK_AGAIN_MAX_S)
    return replace(before, again_s=now_s + wait_s, times=before.times + 1)
