"""What is written down of a run that came to a bad end, for whoever wants to know why.

Kept by `reconciler.storage.crashes` beside the ends of the logs and the last screen.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.model.observed import ExitKind


@dataclass(frozen=True)
class CrashReport:
    """How one QEMU ended. Exit status and signal are None where QEMU was no child of the agent that noticed."""

    kind: ExitKind
    message: str
    started_at: str
    ended_at: str
    generation: str
    qemu_version: str
    pid: int | None = None
    exit_status: int | None = None
    signal: int | None = None
