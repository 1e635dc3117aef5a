"""What is said of a VM: its state in one word, typed conditions as in Kubernetes, and the facts behind them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from reconciler.model.observed import Exit, ProcessHandle
from reconciler.model.plan import PendingChange
from reconciler.model.vm import DesiredVM


class VMState(StrEnum):
    """The `status` of the documented API, `running` and `stopped`, and what is true where neither is."""

    RUNNING = "running"
    STOPPED = "stopped"
    STARTING = "starting"
    STOPPING = "stopping"
    PAUSED = "paused"
    FAILED = "failed"
    UNKNOWN = "unknown"


class ConditionType(StrEnum):
    """The kinds of statement that are made of a VM."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    RESTART_REQUIRED = "RestartRequired"
    DEGRADED = "Degraded"
    PRUNE_HELD = "PruneHeld"
    SUSPENDED = "Suspended"
    HOST_REACHABLE = "HostReachable"
    """The guest reaches ports of the host that should be closed to it."""


class Truth(StrEnum):
    """The value of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True)
class Condition:
    """One typed statement. `last_transition` is the UTC time at which `status` last changed."""

    type: ConditionType
    status: Truth
    reason: str
    message: str
    last_transition: str


@dataclass(frozen=True)
class VMStatus:
    """All that the API, the command line and the log say of one VM.

    `desired` is None for a VM that runs without a manifest. `observed_generation` is the generation the agent has
    settled; `settled` is False while a round has more to do or to wait for. `round` counts the looks of the agent:
    a status whose round is later than an edit has seen that edit. `forwarded_ports` are the host's ports that lead
    into the running guest, or will after its next start. `vnc_port` is the one in use, or the one it will have.
    `disk_size_bytes` is what the guest sees of its root disk; None where there is none yet, or it cannot be read.
    `renews`: a new root disk was asked for, and is not there yet. `acting`: what was seen is being changed just now.
    """

    name: str
    state: VMState
    desired: DesiredVM | None
    conditions: tuple[Condition, ...]
    pending: tuple[PendingChange, ...]
    process: ProcessHandle | None
    started_at: str | None
    vnc_port: int | None
    disk_size_bytes: int | None
    forwarded_ports: frozenset[int]
    uuid: str | None
    last_exit: Exit | None
    failures: int
    next_try_in_s: float | None
    medium_inserted: bool
    observed_generation: str | None
    settled: bool
    plan: str
    round: int
    renews: bool = False
    acting: bool = False

    def condition(self, kind: ConditionType) -> Condition | None:
        """The condition of this type, if it is being stated."""
        return next((c for c in self.conditions if c.type is kind), None)
