"""The only JSON shapes of the API: what a VM looks like from outside.

The documented fields are flat, with the documented names and units (MiB, GiB, TCP ports, ISO 8601 UTC with
milliseconds); what is not known is null. Statuses do not change once published, so each is encoded once.
Next: `reconciler.api.messages`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from reconciler.api.media import JsonObject, encode
from reconciler.model.inspection import FieldView, HostFacts, VMLogs
from reconciler.model.observed import Exit, Fault
from reconciler.model.plan import PendingChange, Plan
from reconciler.model.status import Condition, ConditionType, Truth, VMState, VMStatus
from reconciler.model.vm import Problem, VMSpec

MIB = 1024**2

_EXACT_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z\Z")


def time(text: str | None) -> str | None:
    """An ISO 8601 time in the one form that the API writes; a time without a zone is taken for UTC."""
    if text is None or _EXACT_TIME.match(text):
        return text
    moment = datetime.fromisoformat(text)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def is_shown(status: VMStatus) -> bool:
    """Whether there is such a VM: one that a manifest describes, or one that still runs without any."""
    return (
        status.desired is not None
        or status.process is not None
        or status.state is not VMState.STOPPED
        or not status.settled
    )


def brief(status: VMStatus) -> JsonObject:
    """The `vm` of an operation's answer: name, state, pid."""
    return {
        "name": status.name,
        "status": status.state.value,
        "pid": status.process.pid if status.process else None,
    }


def vm(status: VMStatus) -> JsonObject:
    """One VM of `GET /api/vms`: the documented fields, then what we add."""
    spec = status.desired.spec if status.desired else None
    settings = config(spec, status.vnc_port)
    mounted = is_mounted(status)
    return {
        **brief(status),
        "memory": settings["memory"],
        "cpuCores": settings["cpuCores"],
        "diskSize": settings["diskSize"],
        "vncPort": status.vnc_port or settings["vncPort"],
        "startTime": time(status.started_at) if status.process else None,
        "desiredState": spec.state.value if spec else None,
        "networkType": settings["networkType"],
        "bootOrder": settings["bootOrder"],
        "isoPath": settings["isoPath"],
        "isMountIso": mounted,
        "requiresRestart": requires_restart(status),
        "labels": dict(status.desired.labels) if status.desired else {},
        "conditions": [condition(c) for c in status.conditions],
        "config": settings,
        "metadata": {"lastPid": status.process.pid if status.process else None, "isMountIso": mounted},
    }


def vm_in_full(status: VMStatus) -> JsonObject:
    """The VM of `GET /api/vms/{name}`: the same, with the facts behind it."""
    desired = status.desired
    return vm(status) | {
        "uuid": status.uuid,
        "generation": desired.generation if desired else None,
        "observedGeneration": status.observed_generation,
        "settled": status.settled,
        "pending": [pending(p) for p in status.pending],
        "lastExit": last_exit(status.last_exit) if status.last_exit else None,
        "failures": status.failures,
        "nextTryInSeconds": status.next_try_in_s,
        "plan": status.plan,
        "source": {
            "file": desired.source.file,
            "line": desired.source.line,
            "column": desired.source.column,
        }
        if desired
        else None,
    }


def config(spec: VMSpec | None, vnc_port: int | None) -> JsonObject:
    """The documented `config`, full; `vnc_port` is the agent's choice where the manifest names none."""
    if spec is None:
        names = ("memory", "cpuCores", "diskSize", "networkType", "vncPort", "bootOrder", "isoPath")
        return dict.fromkeys(names)
    return {
        "memory": spec.memory_mib,
        "cpuCores": spec.cpu_cores,
        "diskSize": spec.disk_size_gib,
        "networkType": spec.network_type.value,
        "vncPort": spec.vnc_port or vnc_port,
        "bootOrder": ",".join(spec.boot_order),
        "isoPath": spec.iso_path,
    }


def is_mounted(status: VMStatus) -> bool:
    """Whether the ISO lies in the drive; of a VM that does not run, whether it will."""
    if status.process and status.state is not VMState.STARTING:
        return status.medium_inserted
    return status.desired is not None and status.desired.spec.medium is not None


def requires_restart(status: VMStatus) -> bool:
    """Whether the running VM differs from its manifest in what only a restart brings."""
    stated = status.condition(ConditionType.RESTART_REQUIRED)
    return stated.status is Truth.TRUE if stated else bool(status.pending)


def condition(stated: Condition) -> JsonObject:
    """A condition, with Kubernetes' names."""
    return {
        "type": stated.type.value,
        "status": stated.status.value,
        "reason": stated.reason,
        "message": stated.message,
        "lastTransitionTime": time(stated.last_transition),
    }


def pending(change: PendingChange) -> JsonObject:
    """A field whose change waits for a restart."""
    return {
        "field": change.field,
        "running": change.running,
        "wanted": change.wanted,
        "why": change.why or None,
    }


def explained(row: FieldView) -> JsonObject:
    """One field of `explain`."""
    return {
        "field": row.field,
        "manifest": row.manifest,
        "launched": row.launched,
        "now": row.now,
        "reach": row.reach,
        "how": row.how,
        "pending": row.pending,
    }


def plan(made: Plan) -> JsonObject:
    """A plan: as text, and its parts."""
    return {
        "plan": made.render(),
        "actions": [{"action": type(a).__name__, "text": a.render(), "cause": a.cause} for a in made.actions],
        "pending": [pending(p) for p in made.pending],
        "blocked": fault(made.blocked) if made.blocked else None,
        "degraded": fault(made.degraded) if made.degraded else None,
        "waiting": fault(made.waiting) if made.waiting else None,
    }


def fault(found: Fault) -> JsonObject:
    """Something that stands in the way."""
    return {"reason": found.reason, "message": found.message}


def last_exit(end: Exit) -> JsonObject:
    """How the VM last came to its end."""
    return {
        "kind": end.kind.value,
        "message": end.message,
        "time": time(end.at),
        "generation": end.generation,
        "crashBundle": f"crashes/{end.bundle}" if end.bundle else None,
    }


def logs(found: VMLogs) -> JsonObject:
    """The ends of a VM's logs, each with the size of the whole."""
    return {
        "qemu": found.qemu.text,
        "serial": found.serial.text,
        "qemuBefore": found.qemu_before.text,
        "sizes": {
            "qemu": found.qemu.total_bytes,
            "serial": found.serial.total_bytes,
            "qemuBefore": found.qemu_before.total_bytes,
        },
    }


def host(facts: HostFacts) -> JsonObject:
    """The host; memory in MiB."""
    accelerators: dict[bool | None, str | None] = {True: "kvm", False: "tcg", None: None}
    return {
        "qemuBinary": facts.qemu_binary,
        "qemuVersion": facts.qemu_version,
        "accelerator": accelerators[facts.kvm],
        "acceleratorReason": facts.why,
        "qemuUser": facts.qemu_user,
        "isolated": facts.isolated,
        "cpus": facts.cpus,
        "memory": facts.memory_bytes // MIB,
        "memoryAvailable": facts.memory_available_bytes // MIB,
    }


def problem(found: Problem) -> JsonObject:
    """One thing wrong with a manifest."""
    return {
        "file": found.file,
        "line": found.line,
        "column": found.column,
        "field": found.field,
        "message": found.message,
    }


class VMList:
    """The body of `GET /api/vms`. Keeps each VM's JSON until its status is another one."""

    def __init__(self) -> None:
        self._encoded: dict[str, tuple[VMStatus, bytes]] = {}

    def encode(
        self, statuses: tuple[VMStatus, ...], problems: tuple[Problem, ...], held: tuple[str, ...]
    ) -> bytes:
        """The whole body. Threads may race for the memory: each leaves a right one."""
        before = self._encoded
        now = {s.name: self._entry(s, before.get(s.name)) for s in statuses if is_shown(s)}
        self._encoded = now
        vms = b",".join(data for _, data in now.values())
        rest = encode({"problems": [problem(p) for p in problems], "held": list(held)})
        return b'{"success":true,"vms":[' + vms + b"]," + rest[1:]

    @staticmethod
    def _entry(status: VMStatus, known: tuple[VMStatus, bytes] | None) -> tuple[VMStatus, bytes]:
        return known if known and known[0] is status else (status, encode(vm(status)))
