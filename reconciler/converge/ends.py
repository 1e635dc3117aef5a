"""How a QEMU that is gone came to its end: its class, the words for it, and what is kept of a bad one. Pure.

QEMU is launched so that a guest's power-off or panic leaves a QEMU that says so (`planner`); a process that is simply
gone was ended from outside, or crashed. What tells the two apart is QEMU's last SHUTDOWN event, its exit status where
it was a child of this agent, and what it wrote to stderr, which an agent that was not there can still read.
Called by `reconciler.converge.absent`; what follows from the class stands in `policy`.
"""

from __future__ import annotations

from reconciler.model.crash import CrashReport
from reconciler.model.observed import ExitKind, Gone, LaunchRecord, ObservedVM
from reconciler.model.plan import KeepCrash

BY_COMMAND, BY_SIGNAL = "host-qmp-quit", "host-signal"  # QMP's ShutdownCause
SIGNAL_WORDS = "terminating on signal"  # QEMU's stderr, when SIGTERM, SIGINT or SIGHUP ends it


def kind(process: Gone, record: LaunchRecord, seen: ObservedVM) -> ExitKind:
    """The class of an end."""
    if seen.lifecycle.stop:
        return seen.lifecycle.stop.ends_as
    if rebooted(record, seen):
        return ExitKind.STOPPED
    if process.shutdown_reason in {BY_COMMAND, BY_SIGNAL} or SIGNAL_WORDS in process.last_words:
        return ExitKind.HOST_QUIT
    if not record.guest_ran:
        return ExitKind.START_FAILED
    # A QEMU of ours exits with 0 only if it was told to; who told it, was not heard.
    return ExitKind.HOST_QUIT if process.exit_status == 0 else ExitKind.CRASHED


def rebooted(record: LaunchRecord, seen: ObservedVM) -> bool:
    """Whether the host was booted since: nothing of then is left, and nobody is to blame."""
    return record.process is not None and record.process.boot_id != seen.boot_id


def words(process: Gone, ended_as: ExitKind, *, rebooted: bool) -> str:
    """The end in words; QEMU's own last ones included."""
    if rebooted:
        return "the host was booted"
    how = _how_it_was_quit(process) if ended_as is ExitKind.HOST_QUIT else _how_it_vanished(process)
    return f"{how}: {process.last_words}" if process.last_words else how


def bundle(
    process: Gone, record: LaunchRecord, seen: ObservedVM, ended_as: ExitKind, message: str
) -> KeepCrash:
    """What is to be kept of a bad end."""
    status = process.exit_status
    report = CrashReport(
        kind=ended_as,
        message=message,
        started_at=record.requested_at,
        ended_at=seen.utc,
        generation=record.generation,
        qemu_version=record.qemu_version,
        pid=record.process.pid if record.process else None,
        exit_status=status if status is not None and status >= 0 else None,
        signal=-status if status is not None and status < 0 else None,
    )
    return KeepCrash(f"it ended as {ended_as}", _name(record), report)


def _name(record: LaunchRecord) -> str:
    """By the launch, so that a round that has to note the same end again finds the bundle that is there."""
    when = record.requested_at.replace("-", "").replace(":", "")
    return f"{when}-{record.process.pid}" if record.process else when


def _how_it_was_quit(process: Gone) -> str:
    if process.shutdown_reason == BY_COMMAND:
        return "somebody had QEMU quit, by a QMP command"
    if process.shutdown_reason == BY_SIGNAL or SIGNAL_WORDS in process.last_words:
        return "somebody ended QEMU by a signal"
    return "QEMU was told to quit, and not by the agent"


def _how_it_vanished(process: Gone) -> str:
    match process.exit_status:
        case None:
            return "QEMU vanished"
        case status if status < 0:
            return f"QEMU was ended by signal {-status}"
        case status:
            return f"QEMU ended by itself with exit status {status}"
