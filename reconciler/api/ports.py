"""What the API needs of the agent, as protocols; `Backend` is all of it.

`reconciler.control` and `reconciler.console` satisfy them; so does, in the tests of the API, a small controller
that keeps its VMs in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from reconciler.importing.outcome import Note
from reconciler.manifest.edit import Changes
from reconciler.manifest.nodes import Value
from reconciler.manifest.store import Expect
from reconciler.model.console import Gateway
from reconciler.model.inspection import FieldView, HostFacts, VMLogs
from reconciler.model.observed import Fault
from reconciler.model.plan import Plan, Wish
from reconciler.model.status import VMStatus
from reconciler.model.vm import DesiredVM, Problem, Removal, Wanted


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

    def scan(self) -> float | None:
        """Read the manifests again; in how many seconds once more, if so."""

    def ask(self, name: str, wish: Wish | None = None, /) -> int:
        """Look at this VM now; a status of a round greater than the ticket returned has seen all before."""

    def confirm_prune(self, names: Sequence[str], /, *, dry_run: bool = False) -> tuple[str, ...]:
        """Let these held removals happen; returns those that were held."""

    def preview(self, name: str, wanted: Wanted, wish: Wish | None = None, /) -> Plan:
        """What a round would do now, were this wanted of the VM."""

    def explain(self, name: str, /) -> tuple[FieldView, ...]:
        """Every field of the VM: as its manifest has it, as it was launched, as QEMU says now."""

    def ready(self) -> bool:
        """Whether the manifests were read and every VM looked at once."""


class ManifestsPort(Protocol):
    """The one hand that changes manifests. With `dry_run` everything is checked, and nothing written."""

    def edit(self, name: str, changes: Changes, *, expect: Expect = None, dry_run: bool = False) -> DesiredVM:
        """Change the VM's manifest; returns the VM as it is then described.

        Raises StateError, PortConflictError, ManifestError, PreconditionError, ConflictError or OSError.
        """

    def create(self, name: str, spec: Mapping[str, Value], *, dry_run: bool = False) -> DesiredVM:
        """Make a manifest. Raises ConflictError, PortConflictError, ManifestError or OSError."""

    def remove(self, name: str, *, discard: bool, expect: Expect = None, dry_run: bool = False) -> Removal:
        """Take the manifest away, and with it the VM; `discard`: its disks too. Raises as `edit` does."""

    def rename(self, name: str, new: str, /, *, expect: Expect = None, dry_run: bool = False) -> DesiredVM:
        """Give a VM that is off another name. Raises StateError, ConflictError, or as `edit` does."""

    def restore(self, name: str, /, *, dry_run: bool = False) -> None:
        """Bring a VM back that was set aside. Raises StateError or ConflictError."""

    def is_leftover(self, name: str, /) -> bool:
        """Whether something is kept of a VM that no manifest describes any more."""

    def iso_fault(self, iso_path: str, /) -> Fault | None:
        """Why this ISO cannot be used; None where it can."""


class ConsolesPort(Protocol):
    """The noVNC services, one for each web port, and the tokens that open consoles through them."""

    def serve(self, web_port: int, /) -> Gateway:
        """The service on this port, started at need. Raises ConsoleError that says why it cannot be."""

    def grant(self, name: str, /) -> str:
        """A new token that opens the console of this VM, and of no other. Raises ConsoleError."""


class InspectorPort(Protocol):
    """What can be looked at beyond the board."""

    def logs(self, name: str, max_bytes: int, lines: int, /) -> VMLogs:
        """The ends of the VM's logs, each of at most so many bytes and lines."""

    def screenshot(self, name: str, /) -> bytes:
        """The screen of a running VM as PNG. Raises ReconcilerError or OSError."""

    def host(self) -> HostFacts:
        """The host, now."""


class AdoptedPort(Protocol):
    """A QEMU as the VM that it is now."""

    @property
    def vm(self) -> DesiredVM:
        """What the manifest says."""

    @property
    def notes(self) -> Sequence[Note]:
        """What does not carry over."""


class AdoptionPort(Protocol):
    """Takes over QEMUs that somebody started by hand."""

    def adopt(self, socket: str, name: str | None = None, /, *, dry_run: bool = False) -> AdoptedPort:
        """Take over the QEMU behind this QMP socket. Raises ReconcilerError or OSError."""


@dataclass(frozen=True)
class Backend:
    """What the API is made of."""

    controller: ControllerPort
    manifests: ManifestsPort
    inspector: InspectorPort
    consoles: ConsolesPort
    adoption: AdoptionPort
