"""What the API needs of the agent: two protocols, which `reconciler.control` satisfies.

The tests of the API satisfy them with a small controller that keeps its VMs in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
