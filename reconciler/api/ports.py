"""What the API needs of the agent, as protocols; `Backend` is all of it.

`reconciler.control` and `reconciler.console` satisfy them; so does, in the tests of the API, a small controller
that keeps its VMs in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from reconciler.model.plan import Wish
from reconciler.model.status import VMStatus
from reconciler.model.vm import Problem, Wanted


class BoardPort(Protocol):
    """The latest status of every VM."""

    def get(self, name: str, /) -> VMStatus | None:
        """The latest status, or None for a name that was never looked at, or is gone."""

    def all(self) -> tuple[VMStatus, ...]:
        """Every status, sorted by name."""

    def wait_for(
        self, name: str, predicate: Callable[[VMStatus | None], bool], timeout_s: float, /
    ) -> VMStatus | None:
        """The last status seen, whether the predicate came true or the time ran out."""


class ControllerPort(Protocol):
    """The one door to the work of the agent."""

    @property
    def board(self) -> BoardPort:
        """What is known."""

    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the manifests."""

    def wanted(self, name: str, /) -> Wanted:
        """What is wanted of a name."""

    def held(self) -> tuple[str, ...]:
        """The VMs whose removal waits to be confirmed."""

    def ask(self, name: str, wish: Wish | None = None, /) -> int:
        """Look at this VM now; a status of a round greater than the ticket returned has seen all before."""

    def confirm_prune(self, names: Sequence[str], /) -> tuple[str, ...]:
        """Let these held removals happen; returns those that were held."""

    def restore(self, name: str, /) -> None:
        """Bring a VM back that was set aside. Raises StateError or ConflictError."""

    def edit(self, name: str, changes: Mapping[tuple[str, ...], str], /) -> None:
        """Change the VM's manifest. Raises ManifestError, ConflictError or OSError."""

    def ready(self) -> bool:
        """Whether the manifests were read and every VM looked at once."""


@dataclass(frozen=True)
class Gateway:
    """A noVNC service: the process and the port of its web pages."""

    pid: int
    web_port: int


class ConsolesPort(Protocol):
    """The noVNC services, one for each web port, and the tokens that open consoles through them."""

    def serve(self, web_port: int, /) -> Gateway:
        """The service on this port, started at need. Raises ConsoleError that says why it cannot be."""

    def grant(self, name: str, vnc_port: int, /) -> str:
        """A new token that opens the console of this VM, and of no other. Raises ConsoleError."""


@dataclass(frozen=True)
class VMLogs:
    """The ends of what was written down of one VM: QEMU's stderr and the guest's serial console."""

    qemu: str
    serial: str


@dataclass(frozen=True)
class HostFacts:
    """The host as VMs find it. `kvm` says why guests run under KVM or do not."""

    qemu_version: str
    accelerator: str
    kvm: str
    isolated: bool
    cpus: int
    memory_bytes: int
    memory_available_bytes: int


class InspectorPort(Protocol):
    """What can be looked at beyond the board."""

    def logs(self, name: str, max_bytes: int, /) -> VMLogs:
        """The ends of both logs, each of at most so many bytes. Raises OSError."""

    def screenshot(self, name: str, /) -> bytes:
        """The screen of a running VM as PNG. Raises ReconcilerError or OSError."""

    def host(self) -> HostFacts:
        """The host, now."""


@dataclass(frozen=True)
class Backend:
    """What the API is made of."""

    controller: ControllerPort
