"""What is to be done about one VM: an ordered list of actions, each with its cause.

Each action is one call of the executor. `Plan.render()` is the form that tests compare and people read.
Next: `reconciler.model.status`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum

from reconciler.model.crash import CrashReport
from reconciler.model.observed import Fault, Lifecycle, ProcessHandle
from reconciler.model.vm import DesiredVM


class Wish(StrEnum):
    """What somebody asked for just now, beyond what the manifest says. Not kept: the plan turns it into memory."""

    START = "start"
    STOP = "stop"
    FORCE_STOP = "force-stop"
    RECREATE = "recreate"
    """A new, blank root disk, though that takes a stop."""


@dataclass(frozen=True)
class Action:
    """One call. `cause` says, in words for people, why it is made."""

    cause: str

    def render(self) -> str:
        """`Name(argument, …) because cause`; arguments too long to read are left to the type."""
        shown = [str(getattr(self, f.name)) for f in fields(self) if f.name != "cause" and f.repr]
        return f"{type(self).__name__}({', '.join(shown)}) because {self.cause}"


@dataclass(frozen=True)
class CreateIdentity(Action):
    """Give the VM its UUID, MAC address, machine type and PCI slots."""


@dataclass(frozen=True)
class CreateDisk(Action):
    """Make the root disk."""

    size_gib: int

    def render(self) -> str:
        """With the unit."""
        return f"CreateDisk({self.size_gib} GiB) because {self.cause}"


@dataclass(frozen=True)
class GrowDisk(Action):
    """Grow the root disk of a VM that does not run."""

    size_gib: int

    def render(self) -> str:
        """With the unit."""
        return f"GrowDisk({self.size_gib} GiB) because {self.cause}"


@dataclass(frozen=True)
class ReplaceDisk(Action):
    """Set the root disk of a VM that does not run aside, below its own directory; where there is none, nothing."""


@dataclass(frozen=True)
class Launch(Action):
    """Start QEMU, halted before the first instruction; the intent is made durable before."""

    desired: DesiredVM

    def render(self) -> str:
        """Name the generation; the spec itself would fill the line."""
        return f"Launch({self.desired.generation}) because {self.cause}"


@dataclass(frozen=True)
class Continue(Action):
    """Let the guest run (QMP `cont`)."""


@dataclass(frozen=True)
class CutSerialLog(Action):
    """Begin the serial console's log anew; the end of it is kept aside."""


@dataclass(frozen=True)
class PowerDown(Action):
    """Press the power button (QMP `system_powerdown`)."""


@dataclass(frozen=True)
class Quit(Action):
    """End QEMU in its own way (QMP `quit`)."""


@dataclass(frozen=True)
class Terminate(Action):
    """SIGTERM."""


@dataclass(frozen=True)
class Kill(Action):
    """SIGKILL."""


@dataclass(frozen=True)
class Remember(Action):
    """Make the new memory durable."""

    lifecycle: Lifecycle

    def render(self) -> str:
        """Show what a reader looks for: the rung of a stop, the kind of an end, the failures in a row."""
        now = self.lifecycle
        shown = [f"stop={now.stop.rung}"] if now.stop else []
        shown += [f"exit={now.last_exit.kind}"] if now.last_exit else []
        shown += ["renew"] if now.renew else []
        shown += ["unanswered"] if now.unanswered else []
        shown += [f"failures={now.failures}"] if now.failures else []
        return f"Remember({', '.join(shown)}) because {self.cause}"


@dataclass(frozen=True)
class KeepScreen(Action):
    """Keep what a guest shows that came to a bad end, while its QEMU still answers. Fails without a word."""


@dataclass(frozen=True)
class KeepCrash(Action):
    """Keep what is left of a run that came to a bad end, in a directory of its own. Hinders nothing if it fails."""

    bundle: str
    report: CrashReport = field(repr=False)


@dataclass(frozen=True)
class CleanUp(Action):
    """Remove the sockets of a QEMU that is gone, give back its port, and forget its process."""

    handle: ProcessHandle | None = field(default=None, repr=False)


@dataclass(frozen=True)
class SetAside(Action):
    """Move identity, disks and the last manifest to the trash, for so many days."""

    last: DesiredVM

    def render(self) -> str:
        """Name the retention."""
        return f"SetAside({self.last.spec.retain_days} days) because {self.cause}"


@dataclass(frozen=True)
class Discard(Action):
    """Delete identity and disks at once, as `deletionPolicy: delete` says."""


@dataclass(frozen=True)
class PendingChange:
    """A field whose change waits for a restart: what the VM has, what the manifest says, and why it has to wait.

    `by_guest`: it was to be had live, and the guest does not follow. Nobody restarts a VM for that unasked.
    """

    field: str
    running: str
    wanted: str
    why: str = ""
    by_guest: bool = False

    def __str__(self) -> str:
        why = f" ({self.why})" if self.why else ""
        return f"{self.field}: {self.running} → {self.wanted}{why}"


@dataclass(frozen=True)
class Plan:
    """The ordered actions, and what the planner saw that is not to be acted upon.

    `blocked` says why a wish of the manifest cannot be followed (Stalled), `degraded` what of a running VM could
    not be brought in line; `waiting` why the VM is not started or stopped now, or any more; `look_again_s` is when
    time alone makes another look worthwhile, `later_s` the same where everything is settled until then.
    """

    name: str
    actions: tuple[Action, ...] = ()
    pending: tuple[PendingChange, ...] = ()
    blocked: Fault | None = None
    degraded: Fault | None = None
    waiting: Fault | None = None
    look_again_s: float | None = None
    later_s: float | None = None

    def render(self) -> str:
        """The plan as text, a line for each action, then what waits."""
        lines = [a.render() for a in self.actions]
        lines += [f"pending {p}" for p in self.pending]
        if self.blocked:
            lines.append(f"blocked {self.blocked.reason}: {self.blocked.message}")
        if self.waiting:
            lines.append(f"waiting {self.waiting.reason}: {self.waiting.message}")
        if self.degraded:
            lines.append(f"degraded {self.degraded.reason}: {self.degraded.message}")
        return "\n".join(lines) or "nothing to do"


@dataclass(frozen=True)
class Outcome:
    """What became of a plan: the actions that were done, and the first that failed, with the reason."""

    done: tuple[Action, ...] = ()
    failed: Action | None = None
    fault: Fault | None = None


@dataclass(frozen=True)
class Verdict:
    """When to look again: at once (0), after so many seconds, or only when something happens (None).

    `failed`: an action failed, and the next failure in a row waits longer.
    """

    again_s: float | None
    failed: bool
