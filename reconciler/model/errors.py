"""Errors that carry data and say what to do next.

ReconcilerError
├── ManifestError        a file that cannot be used; holds every Problem
├── ConflictError        a file changed between reading and writing it
├── PreconditionError    a manifest is not the version that the writer has seen
├── QemuError            QEMU was asked and said no, or could not be asked
│   ├── QmpError         the command was refused; `qmp_class` and QEMU's own words
│   ├── QmpTimeoutError  no answer in time; the command may or may not have run
│   ├── QmpLostError     the connection ended; the command may or may not have run
│   ├── SpawnError       the process could not be started at all
│   └── MediumLockedError  the guest holds the CD tray
├── AccelError           the accelerator asked for does not work here
├── PortConflictError    a port of the host is taken
├── ImageError           qemu-img failed, or an image must not be used
├── PathError            an ISO or image path that may not be opened
├── FirewallError        nftables rules could not be set
├── ConsoleError         a noVNC service cannot be had
├── ImportRefusedError   another program's description of a VM cannot be read, or is of no VM that can run here
├── StateError           the agent's own records cannot be read or written
└── SettingsError        a setting that cannot be honoured
"""

from __future__ import annotations

from reconciler.model.vm import Problem


class ReconcilerError(Exception):
    """The root of everything that the agent raises on purpose.

    `reason` is the CamelCase word that a condition shows for it.
    """

    reason = "Error"


class ManifestError(ReconcilerError):
    """A manifest cannot be used. `problems` holds all that is wrong with it, never empty."""

    reason = "ManifestInvalid"

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(p) for p in problems))
        self.problems = problems


class ConflictError(ReconcilerError):
    """A file is not what was read before the edit: read it again, and apply the edit to that."""

    reason = "Conflict"


class PreconditionError(ReconcilerError):
    """The manifest is not the version that the writer has seen; nothing was written. `now` is its generation."""

    reason = "PreconditionFailed"

    def __init__(self, message: str, now: str | None) -> None:
        super().__init__(message)
        self.now = now


class ProtectedError(ReconcilerError):
    """The VM's manifest says that it must not be removed."""

    reason = "Protected"


class QemuError(ReconcilerError):
    """QEMU was asked and said no, or could not be asked."""

    reason = "QemuFailed"


class QmpError(QemuError):
    """QEMU refused a command; the message is QEMU's own."""

    def __init__(self, command: str, qmp_class: str, description: str) -> None:
        super().__init__(f"{command}: {description}")
        self.command = command
        self.qmp_class = qmp_class
        self.description = description


class GuestAgentError(QemuError):
    """The agent inside the guest did not answer, refused, or said what is not understood."""

    reason = "GuestAgentFailed"


class QmpTimeoutError(QemuError):
    """No answer within the deadline. The command may or may not have run: look again before repeating it."""

    reason = "QmpTimeout"


class QmpLostError(QemuError):
    """The connection to QEMU ended or never stood. The command may or may not have run."""

    reason = "QmpLost"


class SpawnError(QemuError):
    """The QEMU process could not be started (no such program, no more processes, no such user)."""

    reason = "SpawnFailed"


class MediumLockedError(QemuError):
    """The guest holds the tray of its CD drive locked: unmount the medium in the guest."""

    reason = "MediumLocked"


class ConsoleError(ReconcilerError):
    """A noVNC service cannot be started or asked; the message says why and what to do."""

    reason = "ConsoleFailed"


class AccelError(ReconcilerError):
    """The accelerator that a manifest insists on does not work here; the message says why."""

    reason = "KvmUnusable"


class PortConflictError(ReconcilerError):
    """A port of the host is held by another VM or another program; the message says by whom."""

    reason = "PortConflict"


class ImageError(ReconcilerError):
    """qemu-img failed, or a disk image must not be used; the message says which and why."""

    reason = "DiskFailed"


class PathError(ReconcilerError):
    """A path in a manifest that may not be opened; `reason` is a CamelCase word for conditions."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class FirewallError(ReconcilerError):
    """nftables rules could not be set or read; `reason` is a CamelCase word for conditions."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ImportRefusedError(ReconcilerError):
    """Another program's description of a VM cannot be read or converted; the message says where and why."""

    reason = "ImportRefused"


class StateError(ReconcilerError):
    """The agent's own records cannot be read or written; nothing may be concluded from that."""

    reason = "StateUnusable"


class SettingsError(ReconcilerError):
    """A setting that cannot be honoured; the message names it and says what to do."""

    reason = "SettingsInvalid"
