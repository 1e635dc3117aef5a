"""What to say of a VM after a round: its state in one word, and its conditions. Pure.

Conditions are abnormal-true, as kstatus has it: `Ready` is always stated, the others only while they hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reconciler.converge import policy
from reconciler.model.observed import Alive, Disk, Fault, Gone, Medium, ObservedVM, Unknown
from reconciler.model.plan import Continue, Launch, Outcome, Plan, Remember, ReplaceDisk
from reconciler.model.status import Condition, ConditionType, Truth, VMState, VMStatus
from reconciler.model.vm import DesiredVM, PowerState, Problem, Removal, Wanted


@dataclass(frozen=True)
class Context:
    """What a status needs beyond the round itself.

    `problems` are those of the files that hold the VM; `held` says why its removal waits, where it does; `previous`
    is the last status, whose transition times go on; `round` is this round's number; `retry_s` is how long it will be
    until the next try, should an action fail.
    """

    round: int
    retry_s: float = 0.0
    problems: tuple[Problem, ...] = ()
    held: Fault | None = None
    previous: VMStatus | None = None


@dataclass(frozen=True)
class _Said:
    type: ConditionType
    status: Truth
    reason: str
    message: str


def summarise(wanted: Wanted, seen: ObservedVM, plan: Plan, outcome: Outcome, context: Context) -> VMStatus:
    """The status of a VM from one round."""
    desired = wanted if isinstance(wanted, DesiredVM) else None
    state = state_of(wanted, seen, plan, outcome)
    said = _conditions(wanted, seen, plan, outcome, context, state)
    record = seen.lifecycle.launch
    settled = not plan.actions and not outcome.fault and plan.look_again_s is None
    previous_generation = context.previous.observed_generation if context.previous else None
    return VMStatus(
        name=seen.name,
        state=state,
        desired=desired,
        conditions=tuple(_dated(c, seen.utc, context.previous) for c in said),
        pending=plan.pending,
        process=record.process if record and not isinstance(seen.process, Gone) else None,
        started_at=record.requested_at if record and not isinstance(seen.process, Gone) else None,
        vnc_port=_vnc_port(desired, seen),
        disk_size_bytes=seen.disk.virtual_size_bytes if isinstance(seen.disk, Disk) else None,
        forwarded_ports=_forwarded_ports(desired, seen),
        uuid=seen.identity.uuid if seen.identity else None,
        last_exit=seen.lifecycle.last_exit,
        failures=seen.lifecycle.failures,
        next_try_in_s=_next_try_s(state, plan, outcome, context),
        medium_inserted=_medium_inserted(seen),
        observed_generation=desired.generation if desired and settled else previous_generation,
        acting=bool(plan.actions) and outcome.fault is None,
        settled=settled,
        plan=plan.render(),
        round=context.round,
        renews=seen.lifecycle.renew
        or any(isinstance(a, Remember) and a.lifecycle.renew for a in plan.actions),
    )


def state_of(wanted: Wanted, seen: ObservedVM, plan: Plan, outcome: Outcome) -> VMState:
    """One word for what was seen, and for what the plan has just begun."""
    match seen.process:
        case Unknown():
            return VMState.STOPPING if seen.lifecycle.stop else VMState.UNKNOWN
        case Alive(qemu=qemu):
            return _state_alive(qemu.run_state, seen, plan)
        case Gone():
            return _state_gone(wanted, seen, plan, outcome)


def _state_alive(run_state: str, seen: ObservedVM, plan: Plan) -> VMState:
    begins_stop = any(isinstance(a, Remember) and a.lifecycle.stop for a in plan.actions)
    if seen.lifecycle.stop or begins_stop:
        return VMState.STOPPING
    match run_state:
        case "running":
            return VMState.RUNNING
        case "prelaunch":
            return VMState.STARTING
        case _:
            return VMState.PAUSED


def _state_gone(wanted: Wanted, seen: ObservedVM, plan: Plan, outcome: Outcome) -> VMState:
    if seen.lifecycle.launch:
        return VMState.STOPPING
    if not isinstance(wanted, DesiredVM) or wanted.spec.state is PowerState.STOPPED or wanted.spec.suspend:
        return VMState.STOPPED
    if outcome.fault and not isinstance(outcome.failed, Continue):
        return VMState.FAILED  # what came of a QEMU that was started, the next round sees
    if any(isinstance(a, Launch | Continue | ReplaceDisk) for a in plan.actions):
        return VMState.STARTING
    if plan.waiting:
        return VMState.STOPPED
    last = seen.lifecycle.last_exit
    went_off = policy.stays_off(wanted.spec, seen) and last and last.kind not in policy.FAILURES
    return VMState.STOPPED if went_off else VMState.FAILED


def _vnc_port(desired: DesiredVM | None, seen: ObservedVM) -> int | None:
    if seen.lifecycle.launch and not isinstance(seen.process, Gone):
        return seen.lifecycle.launch.vnc_port
    claimed = desired.spec.vnc_port if desired else None
    return claimed or (seen.identity.vnc_port if seen.identity else None)


def _forwarded_ports(desired: DesiredVM | None, seen: ObservedVM) -> frozenset[int]:
    specs = [desired.spec] if desired else []
    if seen.lifecycle.launch and not isinstance(seen.process, Gone):
        specs.append(seen.lifecycle.launch.spec)
    return frozenset(forward.host_port for spec in specs for forward in spec.port_forwards)


def _next_try_s(state: VMState, plan: Plan, outcome: Outcome, context: Context) -> float | None:
    if outcome.fault:
        return context.retry_s
    return plan.look_again_s if state is VMState.FAILED else None


def _medium_inserted(seen: ObservedVM) -> bool:
    """Whether the ISO that the manifest names lies in the drive; where it wants none, whether any does."""
    drive = seen.process.qemu.cd if isinstance(seen.process, Alive) else None
    if drive is None or not isinstance(seen.medium, Medium):
        return drive is not None and drive.node_name is not None
    return drive.node_name == seen.medium.node_name


def _conditions(
    wanted: Wanted, seen: ObservedVM, plan: Plan, outcome: Outcome, context: Context, state: VMState
) -> Iterator[_Said]:
    yield _ready(wanted, seen, plan, outcome, state)
    waits = plan.look_again_s is not None and not plan.blocked
    if plan.actions or waits:
        idle = plan.waiting.message if plan.waiting else "waiting"
        message = plan.actions[-1].cause if plan.actions else idle
        yield _Said(ConditionType.RECONCILING, Truth.TRUE, "Progressing", message)
    if context.problems:
        message = "; ".join(str(p) for p in context.problems)
        yield _Said(ConditionType.STALLED, Truth.TRUE, "ManifestInvalid", message)
    elif plan.blocked:
        yield _Said(ConditionType.STALLED, Truth.TRUE, plan.blocked.reason, plan.blocked.message)
    if plan.pending:
        fields = "; ".join(str(p) for p in plan.pending)
        yield _Said(ConditionType.RESTART_REQUIRED, Truth.TRUE, "PendingChanges", fields)
    unseen = isinstance(seen.process, Alive) or isinstance(wanted, Removal)
    degraded = plan.degraded or (outcome.fault if unseen else None)
    if degraded:
        yield _Said(ConditionType.DEGRADED, Truth.TRUE, degraded.reason, degraded.message)
    if context.held:
        yield _Said(ConditionType.PRUNE_HELD, Truth.TRUE, context.held.reason, context.held.message)
    if isinstance(wanted, DesiredVM) and wanted.spec.suspend:
        yield _Said(
            ConditionType.SUSPENDED, Truth.TRUE, "Suspended", "spec.suspend is true: nothing is changed"
        )
    if seen.exposed and not isinstance(seen.process, Gone):
        yield _Said(ConditionType.HOST_REACHABLE, Truth.TRUE, seen.exposed.reason, seen.exposed.message)


def _ready(wanted: Wanted, seen: ObservedVM, plan: Plan, outcome: Outcome, state: VMState) -> _Said:
    def say(status: Truth, reason: str, message: str) -> _Said:
        return _Said(ConditionType.READY, status, reason, message)

    if isinstance(seen.process, Unknown):
        return say(Truth.UNKNOWN, seen.process.reason, seen.process.message)
    if not isinstance(wanted, DesiredVM):
        message = wanted.cause if isinstance(wanted, Removal) else "it runs without a manifest"
        return say(Truth.FALSE, "Removing" if isinstance(wanted, Removal) else "NoManifest", message)
    if outcome.fault and state is not VMState.RUNNING:
        return say(Truth.FALSE, outcome.fault.reason, outcome.fault.message)
    if state.value == wanted.spec.state.value:
        return say(Truth.TRUE, state.value.capitalize(), f"the VM is {state}, as it should be")
    return say(Truth.FALSE, *_why_not(wanted, seen, plan, state))


def _why_not(desired: DesiredVM, seen: ObservedVM, plan: Plan, state: VMState) -> tuple[str, str]:
    """Reason and message for a VM that is not as its manifest says."""
    last = seen.lifecycle.last_exit
    if stated := plan.blocked or plan.waiting:
        return stated.reason, stated.message
    if last and seen.lifecycle.unanswered and state in {VMState.STOPPED, VMState.FAILED}:
        if policy.stays_off(desired.spec, seen):
            how = f"restartPolicy is {desired.spec.restart_policy}; start it, or edit its manifest"
            return last.kind.value, f"{last.message}; it stays off: {how}"
        count = f"{seen.lifecycle.failures} failures in a row"
        return last.kind.value, f"{last.message}; {count}, next try in {policy.wait_s(seen):.0f} s"
    if state is VMState.PAUSED and isinstance(seen.process, Alive):
        return "Paused", f"QEMU says {seen.process.qemu.run_state}"
    return state.value.capitalize(), plan.actions[-1].cause if plan.actions else f"the VM is {state}"


def _dated(said: _Said, now: str, previous: VMStatus | None) -> Condition:
    before = previous.condition(said.type) if previous else None
    since = before.last_transition if before and before.status is said.status else now
    return Condition(said.type, said.status, said.reason, said.message, since)
