"""The decision: from what is wanted and what was seen of one VM to what is to be done. Pure, and the only judge.

No clock, no file, no process: a plan is a value, and its text is what the tests compare. The stop ladder stands in
`ladder`, restart policy and back-off in `policy`, the reach of each field in `reconciler.qemu.fields`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from reconciler.converge import ladder, policy
from reconciler.model.observed import (
    Alive,
    Disk,
    Exit,
    ExitKind,
    Fault,
    Gone,
    LaunchRecord,
    Lifecycle,
    Medium,
    ObservedVM,
    StopRung,
    Unknown,
)
from reconciler.model.plan import (
    Action,
    ChangeMedium,
    CleanUp,
    Continue,
    CreateDisk,
    CreateIdentity,
    CutSerialLog,
    Discard,
    GrowDisk,
    Launch,
    PendingChange,
    Plan,
    Remember,
    SetAside,
    Wish,
)
from reconciler.model.vm import GIB, DeletionPolicy, DesiredVM, PowerState, Removal, Wanted
from reconciler.qemu.fields import pending_changes

MIB = 1024**2
SERIAL_LOG_MAX_BYTES = 16 * MIB  # a guest writes what it likes, and must not fill the host's disk
LOOK_AGAIN_UNKNOWN_S = 5.0
LOOK_AGAIN_BLOCKED_S = 30.0  # what blocks is often a file that somebody is still copying

ENDED = {
    "shutdown": (ExitKind.GUEST_SHUTDOWN, "the guest powered itself off"),
    "guest-panicked": (ExitKind.GUEST_PANICKED, "the guest's kernel panicked"),
    "internal-error": (ExitKind.CRASHED, "QEMU reports an internal error"),
}


def make_plan(wanted: Wanted, seen: ObservedVM, wish: Wish | None = None) -> Plan:
    """What to do now about one VM, given what is wanted, what was seen, and what somebody asked for just now."""
    if isinstance(wanted, DesiredVM) and wanted.spec.suspend:
        return _suspended(wanted, seen)
    match seen.process:
        case Unknown() as unknown:
            return _unknown(unknown, wanted, seen, wish)
        case Alive() as alive:
            return _alive(alive, wanted, seen, wish)
        case Gone() as gone:
            return _gone(gone, wanted, seen, wish)


def _suspended(desired: DesiredVM, seen: ObservedVM) -> Plan:
    """Nothing is done to the VM; what happens to it is noticed, and what would wait for a restart is said."""
    match seen.process:
        case Gone() as gone if seen.lifecycle.launch:
            return _note_end(gone, seen.lifecycle.launch, desired, seen, None)
        case Gone():
            return Plan(seen.name)
        case Unknown():
            return Plan(seen.name, pending=_pending(desired, seen), look_again_s=LOOK_AGAIN_UNKNOWN_S)
        case Alive():
            return Plan(seen.name, pending=_pending(desired, seen))


def _unknown(process: Unknown, wanted: Wanted, seen: ObservedVM, wish: Wish | None) -> Plan:
    """Nothing is killed or started; only a stop that had begun goes on, by signals to the process that is known."""
    if seen.lifecycle.stop and process.handle:
        return ladder.climb(seen, wish, answers=False)
    pending = _pending(wanted, seen) if isinstance(wanted, DesiredVM) else ()
    return Plan(seen.name, pending=pending, look_again_s=LOOK_AGAIN_UNKNOWN_S)


def _alive(process: Alive, wanted: Wanted, seen: ObservedVM, wish: Wish | None) -> Plan:
    record = seen.lifecycle.launch
    if record and record.process is None:
        memory = replace(seen.lifecycle, launch=replace(record, process=process.handle))
        then = _alive(process, wanted, replace(seen, lifecycle=memory), wish)
        found = Remember(f"QEMU (pid {process.handle.pid}) was started, and not yet written down", memory)
        return replace(then, actions=(found, *then.actions))
    state = process.qemu.run_state
    if seen.lifecycle.stop:
        return ladder.climb(seen, wish, guest_off=state in ENDED)
    if state in ENDED:
        kind, words = ENDED[state]
        return ladder.begin(seen, StopRung.QUIT, words, ends_as=kind)
    if cause := _why_stop(wanted, record, wish):
        first = StopRung.QUIT if state == "prelaunch" or wish is Wish.FORCE_STOP else StopRung.ACPI
        return ladder.begin(seen, first, cause, timeout_s=_shutdown_timeout_s(wanted, record))
    if state == "prelaunch":
        return Plan(seen.name, (Continue("QEMU is ready and its guest has not begun"),))
    return _running(process, wanted, seen) if isinstance(wanted, DesiredVM) else Plan(seen.name)


def _why_stop(wanted: Wanted, record: LaunchRecord | None, wish: Wish | None) -> str | None:
    """The reason why a running VM has to stop, or None."""
    match wanted:
        case Removal(cause=cause):
            return cause
        case DesiredVM(spec=spec) if spec.state is PowerState.STOPPED:
            return "a stop was asked for"
        case DesiredVM(spec=spec) if record and _later(spec.restarted_at, record.spec.restarted_at):
            return f"restartedAt is now {spec.restarted_at}"
        case None if wish in {Wish.STOP, Wish.FORCE_STOP}:
            return "a stop was asked for"
    return None


def _later(wanted: str | None, launched: str | None) -> bool:
    """Whether `restartedAt` moved forward; taken back or removed it asks for nothing."""
    if wanted is None or launched is None:
        return wanted is not None
    return datetime.fromisoformat(wanted) > datetime.fromisoformat(launched)


def _shutdown_timeout_s(wanted: Wanted, record: LaunchRecord | None) -> float:
    match wanted:
        case DesiredVM(spec=spec) | Removal(last=DesiredVM(spec=spec)):
            return spec.shutdown.timeout_s
        case None:
            return record.spec.shutdown.timeout_s if record else ladder.ACPI_DEFAULT_S


def _running(process: Alive, desired: DesiredVM, seen: ObservedVM) -> Plan:
    """A VM that runs and should: live changes now, the rest is pending."""
    record = seen.lifecycle.launch
    actions: list[Action] = []
    if record and not record.guest_ran and process.qemu.run_state == "running":
        memory = replace(seen.lifecycle, launch=replace(record, guest_ran=True))
        actions.append(Remember("the guest runs", memory))
    drive, medium = process.qemu.cd, seen.medium
    if drive and not isinstance(medium, Fault) and drive.node_name != (medium.node_name if medium else None):
        actions.append(ChangeMedium(_medium_cause(drive.node_name, medium), medium))
    if seen.serial_log_bytes > SERIAL_LOG_MAX_BYTES:
        actions.append(CutSerialLog(f"it has grown to {seen.serial_log_bytes // MIB} MiB"))
    fault = next((f for f in (medium, seen.disk) if isinstance(f, Fault)), None)
    return Plan(
        seen.name,
        tuple(actions),
        _pending(desired, seen),
        blocked=_shrink(desired, seen),
        degraded=fault,
        look_again_s=LOOK_AGAIN_BLOCKED_S if fault else None,
    )


def _pending(desired: DesiredVM, seen: ObservedVM) -> tuple[PendingChange, ...]:
    """What waits for a restart: the launch against the manifest, and for the disk its true size."""
    record = seen.lifecycle.launch
    if record is None:
        return ()
    changes = pending_changes(record.spec, record.vnc_port, desired.spec, record.accel)
    others = tuple(change for change in changes if change.field != "diskSize")
    wanted = desired.spec.disk_size_gib
    if not isinstance(seen.disk, Disk) or wanted * GIB <= seen.disk.virtual_size_bytes:
        return others
    present = f"{seen.disk.virtual_size_bytes / GIB:g}"
    return (*others, PendingChange("diskSize", present, str(wanted)))


def _medium_cause(inserted: str | None, medium: Medium | None) -> str:
    if medium is None:
        return "the manifest wants the drive empty"
    return "the manifest names another ISO" if inserted else "the manifest wants an ISO in the drive"


def _shrink(desired: DesiredVM, seen: ObservedVM) -> Fault | None:
    wanted = desired.spec.disk_size_gib
    if not isinstance(seen.disk, Disk) or wanted * GIB >= seen.disk.virtual_size_bytes:
        return None
    present = f"{seen.disk.virtual_size_bytes / GIB:g}"
    return Fault(
        "DiskShrink", f"spec.diskSize: {wanted} GiB is less than the disk's {present} GiB; write {present}"
    )


def _gone(process: Gone, wanted: Wanted, seen: ObservedVM, wish: Wish | None) -> Plan:
    if seen.lifecycle.launch:
        return _note_end(process, seen.lifecycle.launch, wanted, seen, wish)
    match wanted:
        case None:
            return Plan(seen.name)
        case Removal(last=last, discard=discard, cause=cause):
            if discard or last.spec.deletion_policy is DeletionPolicy.DELETE:
                return Plan(seen.name, (Discard(cause),))
            return Plan(seen.name, (SetAside(cause, last),))
        case DesiredVM() as desired:
            return _off(desired, seen, wish)


def _note_end(
    process: Gone, record: LaunchRecord, wanted: Wanted, seen: ObservedVM, wish: Wish | None
) -> Plan:
    """Say how it ended, once: the record goes and the exit comes in the same durable write."""
    if record.process is None:
        memory = replace(seen.lifecycle, launch=None, stop=None)
        return Plan(
            seen.name, (Remember("no QEMU came of the last intent", memory), CleanUp("nothing started"))
        )
    stop = seen.lifecycle.stop
    rebooted = record.process.boot_id != seen.boot_id
    kind = _end_kind(record, seen)
    words = stop.cause if stop else _how_it_vanished(process, rebooted=rebooted)
    asked = kind is ExitKind.STOPPED or wish is Wish.START
    ran_s = seen.now_s - record.requested_s
    generation, spec = record.generation, record.spec
    if isinstance(wanted, DesiredVM):
        generation, spec = wanted.generation, wanted.spec
    memory = Lifecycle(
        last_exit=Exit(kind, generation, words, seen.utc, seen.now_s, seen.boot_id),
        unanswered=not asked,
        failures=0 if asked else policy.failures_after(spec, kind, seen.lifecycle.failures, ran_s),
    )
    return Plan(
        seen.name, (Remember(f"QEMU is gone: {words}", memory), CleanUp("QEMU is gone", record.process))
    )


def _end_kind(record: LaunchRecord, seen: ObservedVM) -> ExitKind:
    if seen.lifecycle.stop:
        return seen.lifecycle.stop.ends_as
    if record.process and record.process.boot_id != seen.boot_id:
        return ExitKind.STOPPED
    return ExitKind.CRASHED if record.guest_ran else ExitKind.START_FAILED


def _how_it_vanished(process: Gone, *, rebooted: bool) -> str:
    if rebooted:
        return "the host was booted"
    match process.exit_status:
        case None:
            how = "QEMU vanished"
        case status if status < 0:
            how = f"QEMU was ended by signal {-status}"
        case status:
            how = f"QEMU ended by itself with exit status {status}"
    return f"{how}: {process.last_words}" if process.last_words else how


def _off(desired: DesiredVM, seen: ObservedVM, wish: Wish | None) -> Plan:
    """A VM that does not run: answer its last end, wait, or start."""
    actions: list[Action] = []
    if cause := _why_forget(desired, seen, wish):
        memory = replace(seen.lifecycle, unanswered=False, failures=0)
        actions.append(Remember(cause, memory))
        seen = replace(seen, lifecycle=memory)
    if desired.spec.state is PowerState.STOPPED or policy.stays_off(desired.spec, seen):
        return Plan(seen.name, tuple(actions))
    if (wait_s := policy.wait_s(seen)) > 0:
        return Plan(seen.name, tuple(actions), look_again_s=wait_s)
    return _start(desired, seen, actions)


def _why_forget(desired: DesiredVM, seen: ObservedVM, wish: Wish | None) -> str | None:
    """Why the last end no longer decides, or None where it still does, or never did."""
    last = seen.lifecycle.last_exit
    if last is None or not seen.lifecycle.unanswered:
        return None
    if wish is Wish.START:
        return "a start was asked for"
    if last.boot_id != seen.boot_id:
        return "the host was booted"
    return "the manifest was edited" if last.generation != desired.generation else None


def _start(desired: DesiredVM, seen: ObservedVM, actions: list[Action]) -> Plan:
    cause = "the manifest says running"
    fault = next((f for f in (_disk_fault(seen), seen.medium) if isinstance(f, Fault)), None)
    if fault:
        return Plan(seen.name, tuple(actions), blocked=fault, look_again_s=LOOK_AGAIN_BLOCKED_S)
    if seen.identity is None:
        actions.append(CreateIdentity("it has none yet"))
    match seen.disk:
        case None:
            actions.append(CreateDisk("it has none yet", desired.spec.disk_size_gib))
        case Disk(virtual_size_bytes=size) if size < desired.spec.disk_size_gib * GIB:
            actions.append(GrowDisk("the manifest wants a larger disk", desired.spec.disk_size_gib))
    actions += [Launch(cause, desired), Continue(cause)]
    return Plan(seen.name, tuple(actions), blocked=_shrink(desired, seen))


def _disk_fault(seen: ObservedVM) -> Fault | None:
    """A disk that must not be used; or one that is gone, of a VM that had run from it: no blank one takes its place."""
    if isinstance(seen.disk, Fault):
        return seen.disk
    if seen.disk is None and seen.lifecycle.last_exit:
        remedy = (
            f"put it back, or, to begin anew, remove the directory vms/{seen.name} of the state directory"
        )
        return Fault("DiskMissing", f"the root disk of a VM that has run is not there: {remedy}")
    return None
