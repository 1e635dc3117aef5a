"""The names of all files that the agent makes at run time, in one place.

    state directory (outlives a boot)              run directory (does not)
    ├── agent.lock                                 ├── agent.json        address of the API
    ├── catalog.json    last good manifests        └── <short>/          one for each VM, 0700
    ├── accel.json      proof of the accelerator       ├── qmp.sock      the agent's
    ├── iso/  images/                                  ├── human.sock    QMP for people
    ├── vms/<name>/                                    ├── serial.sock
    │   ├── identity.json lifecycle.json               └── agent.sock    qemu-guest-agent's channel
    │   ├── qemu.log    QEMU's stderr                  by-name/<name> -> ../<short>
    │   ├── serial.log  what the guest said
    │   ├── replaced/<time>/  a root disk that `recreate` set aside
    │   ├── crashes/<start>-<pid>/  what was left of a run that came to a bad end
    │   └── root.qcow2  disk-<name>.qcow2
    └── trash/<name>-<time>/

A socket's path must stay below 108 bytes wherever the run directory lies: <short> is the head of the VM's UUID.
`consoles/` in the run directory is drawn at `ConsoleDir`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SUN_PATH_MAX = 107


@dataclass(frozen=True)
class CrashDir:
    """What was left of a run that came to a bad end."""

    path: Path

    @property
    def reason(self) -> Path:
        """How it ended, as JSON."""
        return self.path / "reason.json"

    @property
    def qemu_log(self) -> Path:
        """The end of QEMU's stderr."""
        return self.path / "qemu.log"

    @property
    def serial_log(self) -> Path:
        """The end of what the guest said."""
        return self.path / "serial.log"

    @property
    def screen(self) -> Path:
        """What the guest showed last; only of one whose QEMU still answered."""
        return self.path / "screen.png"


@dataclass(frozen=True)
class VMDir:
    """The state of one VM, below `vms/` or, set aside, below `trash/`."""

    path: Path

    @property
    def identity(self) -> Path:
        """UUID, MAC, machine type, slots."""
        return self.path / "identity.json"

    @property
    def lifecycle(self) -> Path:
        """Launch record, stop phase, last exit, failures."""
        return self.path / "lifecycle.json"

    @property
    def renaming(self) -> Path:
        """That the VM is about to get another name; there for a moment."""
        return self.path / "renaming.json"

    @property
    def manifest(self) -> Path:
        """The last good manifest, beside the disks of a VM that was set aside."""
        return self.path / "manifest.yaml"

    @property
    def qemu_log(self) -> Path:
        """QEMU's stderr."""
        return self.path / "qemu.log"

    @property
    def qemu_log_before(self) -> Path:
        """QEMU's stderr in the run before."""
        return self.path / "qemu.log.1"

    @property
    def screen(self) -> Path:
        """The screen of a guest that came to a bad end, until it lies with the rest of what is kept of that."""
        return self.path / "screen.png"

    @property
    def crashes(self) -> Path:
        """What was left of runs that came to a bad end, a directory each."""
        return self.path / "crashes"

    def crash(self, bundle: str) -> CrashDir:
        """What was left of one such run; `bundle` is its name: when it was started, and as which process."""
        return CrashDir(self.crashes / bundle)

    @property
    def disk(self) -> Path:
        """The root disk."""
        return self.path / "root.qcow2"

    def replaced_disk(self, moment: str) -> Path:
        """A root disk that made room for a blank one, by when it did."""
        return self.path / "replaced" / moment / "root.qcow2"

    def data_disk(self, name: str) -> Path:
        """A data disk, by its name in the manifest."""
        return self.path / f"disk-{name}.qcow2"

    @property
    def serial_log(self) -> Path:
        """What the guest said on its serial console, until it is cut."""
        return self.path / "serial.log"

    @property
    def serial_log_before(self) -> Path:
        """The end of what was cut off last."""
        return self.path / "serial.log.1"


@dataclass(frozen=True)
class SocketDir:
    """The sockets of one VM."""

    path: Path

    @property
    def qmp(self) -> Path:
        """The agent's QMP socket; it serves one client at a time."""
        return self.path / "qmp.sock"

    @property
    def human(self) -> Path:
        """A second QMP socket, for people and tools."""
        return self.path / "human.sock"

    @property
    def serial(self) -> Path:
        """The serial console."""
        return self.path / "serial.sock"

    @property
    def guest_agent(self) -> Path:
        """The channel of qemu-guest-agent."""
        return self.path / "agent.sock"


@dataclass(frozen=True)
class ConsoleDir:
    """What the agent and its noVNC services tell each other, 0700.

    consoles/
    ├── tokens/<sha256 of the token>        whose console it opens, and when it was made
    ├── tokens/<sha256 of the token>.used   when it was used first
    ├── targets/<VM>                        where that VM's VNC server is now
    ├── <webPort>.lock                      held by the service of this port; there as long as one is wanted
    └── <webPort>.log                       its stderr
    """

    path: Path

    @property
    def tokens(self) -> Path:
        """Tokens, by their digest: what lies here opens nothing."""
        return self.path / "tokens"

    @property
    def targets(self) -> Path:
        """Where the VMs' VNC servers are."""
        return self.path / "targets"

    def token(self, digest: str) -> Path:
        """What a token is good for."""
        return self.tokens / digest

    def used(self, digest: str) -> Path:
        """That a token was used."""
        return self.tokens / f"{digest}.used"

    def target(self, name: str) -> Path:
        """Where a VM's VNC server is."""
        return self.targets / name

    def lock(self, web_port: int) -> Path:
        """Held by the service on this port."""
        return self.path / f"{web_port}.lock"

    def log(self, web_port: int) -> Path:
        """What the service on this port has to say."""
        return self.path / f"{web_port}.log"

    def web_ports(self) -> tuple[int, ...]:
        """The ports that a service is wanted on."""
        return tuple(sorted(int(path.stem) for path in self.path.glob("*.lock") if path.stem.isdigit()))


@dataclass(frozen=True)
class Layout:
    """All paths below the two directories."""

    state_dir: Path
    run_dir: Path

    @property
    def lock(self) -> Path:
        """Held by the one agent of this state directory; its text is that agent's pid and start ticks."""
        return self.state_dir / "agent.lock"

    @property
    def catalog(self) -> Path:
        """Last good manifests and what each file held."""
        return self.state_dir / "catalog.json"

    @property
    def accel(self) -> Path:
        """The proof of the accelerator, valid for one boot and one QEMU."""
        return self.state_dir / "accel.json"

    @property
    def iso(self) -> Path:
        """Where relative ISO paths start."""
        return self.state_dir / "iso"

    @property
    def images(self) -> Path:
        """Base images."""
        return self.state_dir / "images"

    @property
    def vms(self) -> Path:
        """One directory a VM."""
        return self.state_dir / "vms"

    @property
    def trash(self) -> Path:
        """VMs that were set aside."""
        return self.state_dir / "trash"

    @property
    def by_name(self) -> Path:
        """Readable links to the socket directories."""
        return self.run_dir / "by-name"

    @property
    def address(self) -> Path:
        """Where the API of the running agent listens."""
        return self.run_dir / "agent.json"

    @property
    def consoles(self) -> ConsoleDir:
        """What the noVNC services live on."""
        return ConsoleDir(self.run_dir / "consoles")

    def vm(self, name: str) -> VMDir:
        """The state of the VM of this name."""
        return VMDir(self.vms / name)

    def sockets(self, uuid: str) -> SocketDir:
        """The sockets of the VM of this UUID."""
        return SocketDir(self.run_dir / uuid.replace("-", "")[:12])
