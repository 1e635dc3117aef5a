"""The plan for a VM that runs and should: what its manifest changes now, and what waits for a restart. Pure.

Called by `reconciler.converge.planner`; the table of fields says what becomes of each: `reconciler.converge.fields`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from reconciler.converge import disks, imported, ladder, policy
from reconciler.converge.changes import Change, Running
from reconciler.converge.fields import FIELDS
from reconciler.converge.window import seconds_until
from reconciler.model.adjust import SetReboot
from reconciler.model.observed import Alive, Fault, ObservedVM, StopRung
from reconciler.model.plan import Action, CutSerialLog, PendingChange, Plan, Remember
from reconciler.model.vm import Accel, DesiredVM, UpdatePolicy, VMSpec

MIB = 1024**2
SERIAL_LOG_MAX_BYTES = 16 * MIB  # a guest writes what it likes, and must not fill the host's disk


def running(process: Alive, desired: DesiredVM, seen: ObservedVM) -> Plan:
    """A VM that runs and should: live changes now; the rest is pending, or a restart brings it."""
    changes = _changes(desired.spec, seen)
    waits = tuple(change.pending for change in changes if change.pending)
    wait_s = _update_wait_s(desired, seen, changes)
    if wait_s == 0:
        cause = f"updatePolicy is {desired.spec.update_policy}: {'; '.join(map(str, waits))}"
        timeout_s = desired.spec.shutdown.timeout_s
        return replace(ladder.begin(seen, StopRung.ACPI, cause, timeout_s=timeout_s), pending=waits)
    disk = seen.disk if isinstance(seen.disk, Fault) else None
    looks = [policy.LOOK_AGAIN_BLOCKED_S if disk else None, *(change.look_again_s for change in changes)]
    return Plan(
        seen.name,
        (*_noticed(process, seen, changes), *_actions(desired, seen, changes)),
        waits,
        blocked=next((change.blocked for change in changes if change.blocked), None),
        degraded=next((change.degraded for change in changes if change.degraded), disk),
        look_again_s=min((look for look in looks if look is not None), default=None),
        later_s=wait_s,
    )


def pending(desired: DesiredVM, seen: ObservedVM) -> tuple[PendingChange, ...]:
    """What waits for a restart; nothing, where QEMU does not say what it has."""
    return tuple(change.pending for change in _changes(desired.spec, seen) if change.pending)


def as_running(seen: ObservedVM) -> Running | None:
    """The VM as its fields' changes see it; None where no guest runs, or nobody knows how it was launched."""
    record = seen.lifecycle.launch
    match seen.process:
        case Alive(qemu=qemu) if record and qemu.hardware:
            return Running(seen, record, qemu, qemu.hardware)
    return None


def _changes(spec: VMSpec, seen: ObservedVM) -> list[Change]:
    vm = as_running(seen)
    return [imported.bring(field, vm, spec) for field in FIELDS] if vm else []


def _noticed(process: Alive, seen: ObservedVM, changes: Sequence[Change]) -> Iterator[Action]:
    """What is to be remembered of this look: that the guest ran, and what it was asked for and has done."""
    memory, cause = seen.lifecycle, "the guest has answered"
    if memory.launch and not memory.launch.guest_ran and process.qemu.run_state == "running":
        memory, cause = replace(memory, launch=replace(memory.launch, guest_ran=True)), "the guest runs"
    waiting = frozenset[str]().union(*(change.waiting for change in changes))
    memory = replace(memory, asked={s: a for s, a in memory.asked.items() if s in waiting})
    if memory != seen.lifecycle:
        yield Remember(cause, memory)


def _actions(desired: DesiredVM, seen: ObservedVM, changes: Sequence[Change]) -> Iterator[Action]:
    for change in changes:
        yield from change.actions
    yield from _reboot(desired, seen, changes)
    if seen.serial_log_bytes > SERIAL_LOG_MAX_BYTES:
        yield CutSerialLog(f"it has grown to {seen.serial_log_bytes // MIB} MiB")


def _reboot(desired: DesiredVM, seen: ObservedVM, changes: Sequence[Change]) -> Iterator[Action]:
    """Where a guest's own reboot shall bring what waits, QEMU stops then, and lets the next one take over."""
    vm = as_running(seen)
    asked = desired.spec.update_policy is UpdatePolicy.ON_GUEST_REBOOT and any(c.pending for c in changes)
    replaced = asked and _could_start(desired, seen)
    wanted, cause = (
        ("shutdown", "changes wait for the guest's reboot") if replaced else ("reset", "none waits for it")
    )
    if vm and vm.told("reboot", "reset") != wanted:
        yield SetReboot(cause, wanted)


def _update_wait_s(desired: DesiredVM, seen: ObservedVM, changes: Sequence[Change]) -> float | None:
    """Seconds until a restart brings what waits for one, 0: now; None: nothing waits, or nobody asked for that.

    What can be had live comes first. A guest that does not follow is not restarted for it, one that is paused could
    not shut down, and a VM that could not be started again is not stopped.
    """
    waits = any(change.pending and not change.pending.by_guest for change in changes)
    busy = any(change.actions for change in changes) or not _runs(seen)
    if not waits or busy or not _could_start(desired, seen):
        return None
    match desired.spec.update_policy, desired.spec.update_window:
        case UpdatePolicy.RESTART, _:
            return 0.0
        case UpdatePolicy.WINDOW, window if window:
            return seconds_until(window, seen.utc)
    return None


def _runs(seen: ObservedVM) -> bool:
    return isinstance(seen.process, Alive) and seen.process.qemu.run_state == "running"


def _could_start(desired: DesiredVM, seen: ObservedVM) -> bool:
    """Whether nothing is known that would keep the VM from its next start. That KVM works is not known until it did."""
    record = seen.lifecycle.launch
    unproved = desired.spec.accel is Accel.KVM and (record is None or record.accel is not Accel.KVM)
    faults = isinstance(seen.medium, Fault) or disks.fault(desired, seen)
    return not (faults or unproved or seen.waits_for)
