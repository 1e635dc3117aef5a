"""What comes before what: `dependsOn` held against the board, for the observer. Changes nothing.

A VM is started when those that it names are ready; when the host goes down, it is stopped before them. A VM that runs
is never stopped because another is not ready. Next: `reconciler.converge.absent` and `.planner`, which wait.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reconciler.model.status import ConditionType, Truth, VMState, VMStatus
from reconciler.model.vm import DesiredVM, Removal, Wanted

OFF = frozenset({VMState.STOPPED, VMState.FAILED})


@dataclass(frozen=True)
class Order:
    """Looks at other VMs than the one in question: at what is said of them, and what is wanted of them.

    `dependents` gives the VMs that name this one. `going_down`: the host is, so that order is reversed.
    """

    status: Callable[[str], VMStatus | None]
    wanted: Callable[[str], Wanted]
    dependents: Callable[[str], tuple[str, ...]]
    going_down: bool = False

    def waits_for(self, wanted: Wanted) -> tuple[str, ...]:
        """What keeps this VM from being started, in words, one for each VM that is not ready."""
        if self.going_down or not isinstance(wanted, DesiredVM):
            return ()
        states = ((name, self.status(name)) for name in wanted.spec.depends_on)
        return tuple(self._words(name, status) for name, status in states if not is_ready(status))

    def needed_by(self, name: str) -> tuple[str, ...]:
        """The VMs that have to be off before this one is stopped.

        Of one that does not answer nobody knows when it will be; it costs the others no proper end.
        """
        if not self.going_down:
            return ()
        return tuple(other for other in self.dependents(name) if not self._lets_go(other))

    def neighbours(self, before: VMStatus | None, now: VMStatus) -> tuple[str, ...]:
        """The VMs that are worth a look, now that this is said of one; none where it changes nothing for them."""
        if before and (before.state, is_ready(before)) == (now.state, is_ready(now)):
            return ()
        if not self.going_down:
            return self.dependents(now.name)
        return now.desired.spec.depends_on if now.desired else ()

    def _lets_go(self, name: str) -> bool:
        status = self.status(name)
        return status is not None and (status.state in OFF or status.state is VMState.UNKNOWN)

    def _words(self, name: str, status: VMStatus | None) -> str:
        match self.wanted(name):
            case None:
                return f"{name}, which no manifest describes"
            case Removal():
                return f"{name}, which is being removed"
        if status is None:
            return f"{name}, which was not looked at yet"
        ready = status.condition(ConditionType.READY)
        reason = ready.reason if ready and ready.reason.lower() != status.state else None
        return f"{name}, which is {status.state}" + (f" ({reason})" if reason else "")


def is_ready(status: VMStatus | None) -> bool:
    """Whether others may count on this VM: it is as it should be, and that is running."""
    ready = status.condition(ConditionType.READY) if status else None
    return (
        status is not None
        and status.state is VMState.RUNNING
        and ready is not None
        and ready.status is Truth.TRUE
    )
