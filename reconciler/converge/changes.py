"""How each field of a manifest is brought to a VM that runs: one pure function for each.

Every function compares what the guest really has with what is wanted, and never what was asked for: what is not
there yet, was refused, or was undone behind our back is found again in the next round. Those of disks and network
cards that come and go stand in `reconciler.converge.plugging`; the table of all is `reconciler.converge.fields`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from reconciler.converge.disks import too_small
from reconciler.converge.policy import LOOK_AGAIN_BLOCKED_S
from reconciler.model.adjust import (
    AddForward,
    Adjust,
    AskForMedium,
    ChangeMedium,
    LimitDisk,
    MoveVnc,
    NoteVnc,
    PlugCpus,
    RemoveForward,
    ResizeDisk,
    SetBootOrder,
    SetLink,
    SetMemory,
    SetWatchdog,
    UseCpus,
)
from reconciler.model.observed import (
    DiskView,
    Fault,
    Hardware,
    LaunchRecord,
    Medium,
    MemoryView,
    ObservedVM,
    QemuView,
)
from reconciler.model.plan import PendingChange
from reconciler.model.vm import GIB, Accel, BootDevice, EjectPolicy, Link, Throttle, VMSpec
from reconciler.qemu.devices import DISK_NODE, FIRST_NIC
from reconciler.qemu.live import MB
from reconciler.qemu.machine import MEMORY_BLOCK_MIB

MIB = 1024**2
FORCE_AFTER_S = 10.0  # how long a guest may hold a medium that ejectPolicy lets be torn out
TRAY_PATIENCE_S = 1.0  # a tray opens at once, or not for as long as the CD is mounted
PATIENCE_S = 30.0  # how long a guest may take before it is said that it does not do what it was asked for
STUCK_MAX_BYTES = 16 * MIB


@dataclass(frozen=True)
class Running:
    """A VM that runs, as a field's change sees it."""

    seen: ObservedVM
    record: LaunchRecord
    qemu: QemuView
    hardware: Hardware

    def told(self, subject: str, otherwise: str) -> str:
        """What QEMU was given since its launch, where it cannot be asked."""
        return self.record.told.get(subject, otherwise)


@dataclass(frozen=True)
class Change:
    """What one field asks for now. `waiting` are the subjects that the guest was asked for and has not done."""

    actions: tuple[Adjust, ...] = ()
    pending: PendingChange | None = None
    blocked: Fault | None = None
    degraded: Fault | None = None
    look_again_s: float | None = None
    waiting: frozenset[str] = field(default=frozenset())


NOTHING = Change()
Bring = Callable[[Running, VMSpec], Change]


def together(*changes: Change) -> Change:
    """Several changes of one field as one: all actions, and the first of each trouble."""
    waits = [c.look_again_s for c in changes if c.look_again_s is not None]
    return Change(
        tuple(action for c in changes for action in c.actions),
        next((c.pending for c in changes if c.pending), None),
        next((c.blocked for c in changes if c.blocked), None),
        next((c.degraded for c in changes if c.degraded), None),
        min(waits, default=None),
        frozenset[str]().union(*(c.waiting for c in changes)),
    )


def do(*actions: Adjust) -> Change:
    """A change that these actions bring."""
    return Change(actions)


def ask(vm: Running, subject: str, action: Adjust, refused: Fault, patience_s: float = PATIENCE_S) -> Change:
    """A change that the guest has to agree to: ask, wait, ask again ever more rarely, and say so when it takes long."""
    action = replace(action, asks=subject)
    asked = vm.seen.lifecycle.asked.get(subject)
    if asked is None or asked.what != action.wish:
        return Change((action,), waiting=frozenset({subject}))
    late_s = vm.seen.now_s - asked.since_s - patience_s
    due_s = asked.again_s - vm.seen.now_s
    return Change(
        (action,) if due_s <= 0 else (),
        degraded=refused if late_s >= 0 else None,
        look_again_s=max(0.1, due_s if late_s >= 0 else min(due_s, -late_s)),
        waiting=frozenset({subject}),
    )


def refusable(change: Change, pending: PendingChange) -> Change:
    """What the guest has refused, a restart would bring: said, and left to people."""
    if change.degraded is None:
        return change
    return replace(change, pending=replace(pending, why="the guest does not follow", by_guest=True))


def restarts(name: str, show: Callable[[VMSpec], str]) -> Bring:
    """A field that only a restart brings: the launch against the manifest."""

    def bring(vm: Running, wanted: VMSpec) -> Change:
        has, asked = show(vm.record.spec), show(wanted)
        return NOTHING if has == asked else Change(pending=PendingChange(name, has, asked))

    return bring


def accel(vm: Running, wanted: VMSpec) -> Change:
    """`auto` is what the VM has, whatever that is; and naming just that is no change."""
    if wanted.accel in {Accel.AUTO, vm.record.accel}:
        return NOTHING
    return Change(pending=PendingChange("accel", vm.record.accel.value, wanted.accel.value))


def nothing(_vm: Running, _wanted: VMSpec) -> Change:
    """A field that is the agent's own policy: QEMU has nothing to do with it."""
    return NOTHING


def cpu_cores(vm: Running, wanted: VMSpec) -> Change:
    """More cores are plugged in; fewer are a matter of the guest's own agent, where there is one."""
    has, used, asked, most = vm.hardware.cpus, vm.hardware.cpus_used, wanted.cpu_cores, vm.hardware.cpus_max
    if used == asked:
        return NOTHING
    cause, pending = f"cpuCores: {used} → {asked}", PendingChange("cpuCores", str(used), str(asked))
    if asked > most:
        return Change(pending=replace(pending, why=f"this run can have {most} at most"))
    if asked > has:
        return do(PlugCpus(cause, asked))
    if not vm.hardware.agent_open and "cpus" in vm.record.told:
        return Change(look_again_s=PATIENCE_S)  # it boots, and its agent will listen again
    if not vm.hardware.agent_open:
        return Change(pending=replace(pending, why="only an agent in the guest can give up a core"))
    refused = Fault("CoresKept", f"spec.cpuCores: the guest uses {used} cores, and was asked to use {asked}")
    return refusable(ask(vm, "cpus", UseCpus(cause, asked), refused), pending)


def max_cpu_cores(vm: Running, wanted: VMSpec) -> Change:
    """A lower limit takes nothing away from a VM that runs, and is in force at its next start."""
    has, asked = vm.hardware.cpus_max, wanted.max_cpu_cores
    if asked is None or asked <= has:
        return NOTHING
    return Change(pending=PendingChange("maxCpuCores", str(has), str(asked)))


def memory(vm: Running, wanted: VMSpec) -> Change:
    """Above what it was started with by virtio-mem, below by the balloon; the guest follows, or does not."""
    has, asked = vm.hardware.memory, wanted.memory_mib * MIB
    now = f"{has.guest_bytes / MIB:g}"
    pending = PendingChange("memory", now, str(wanted.memory_mib))
    if asked >= has.most_bytes + MEMORY_BLOCK_MIB * MIB:
        why = f"this run can have {has.most_bytes // MIB} at most"
        return Change(pending=replace(pending, why=why))
    if asked < has.base_bytes and has.balloon_bytes is None:
        return Change(pending=replace(pending, why="it has no balloon"))
    extra, balloon = memory_target(has, asked, late=_is_late(vm, "memory", f"{wanted.memory_mib} MiB"))
    if has.requested_bytes == extra and has.guest_bytes == min(asked, has.base_bytes) + extra:
        return NOTHING
    cause, plugged = f"memory: {now} → {wanted.memory_mib}", extra if has.pluggable_bytes else None
    action = SetMemory(cause, plugged, balloon, wanted.memory_mib)
    asking = ask(vm, "memory", action, _memory_refused(now, wanted.memory_mib))
    return refusable(asking, pending)


def memory_target(has: MemoryView, asked_bytes: int, *, late: bool) -> tuple[int, int | None]:
    """What virtio-mem and the balloon should come to, in bytes, for so much memory.

    A guest seldom gives back all that virtio-mem lent it, at once or ever: for the last blocks, or when it has taken
    its time, the balloon makes up for it.
    """
    block = MEMORY_BLOCK_MIB * MIB
    extra = min(max(0, asked_bytes - has.base_bytes) // block * block, has.pluggable_bytes)
    stuck = max(0, has.plugged_bytes - extra)
    if stuck > STUCK_MAX_BYTES and not late:
        stuck = 0
    return extra, None if has.balloon_bytes is None else max(0, min(asked_bytes, has.base_bytes) - stuck)


def _is_late(vm: Running, subject: str, what: str) -> bool:
    """Whether the guest was asked for just this, and has taken its time."""
    asked = vm.seen.lifecycle.asked.get(subject)
    return asked is not None and asked.what == what and vm.seen.now_s >= asked.since_s + PATIENCE_S


def _memory_refused(now: str, wanted_mib: int) -> Fault:
    how = "it follows if it has the drivers virtio-balloon and virtio-mem and can spare the memory"
    return Fault(
        "MemoryNotTaken", f"spec.memory: the guest has {now} MiB, and was asked for {wanted_mib}: {how}"
    )


def max_memory(vm: Running, wanted: VMSpec) -> Change:
    """As `max_cpu_cores`."""
    has, asked = vm.hardware.memory.most_bytes, wanted.max_memory_mib
    if asked is None or asked * MIB < has + MEMORY_BLOCK_MIB * MIB:
        return NOTHING
    return Change(pending=PendingChange("maxMemory", str(has // MIB), str(asked)))


def disk_size(vm: Running, wanted: VMSpec) -> Change:
    return size_of(vm.hardware.disk(DISK_NODE), wanted.disk_size_gib, "diskSize")


def size_of(disk: DiskView | None, wanted_gib: int, what: str) -> Change:
    """A disk grows at once, and never shrinks."""
    if disk is None or disk.size_bytes == wanted_gib * GIB:
        return NOTHING
    if disk.size_bytes > wanted_gib * GIB:
        return Change(blocked=too_small(what, wanted_gib, disk.size_bytes))
    cause = f"{what}: {disk.size_bytes / GIB:g} → {wanted_gib}"
    return do(ResizeDisk(cause, disk.node_name, wanted_gib * GIB))


def root_disk(vm: Running, wanted: VMSpec) -> Change:
    return limits_of(vm.hardware.disk(DISK_NODE), wanted.root_disk)


def limits_of(disk: DiskView | None, wanted: Throttle) -> Change:
    """A disk's limits, as QEMU lists them."""
    if disk is None or disk.limits == (wanted.mbps * MB, 0, 0, wanted.iops, 0, 0):
        return NOTHING
    return do(LimitDisk("the manifest sets other limits", disk.qdev, disk.device, wanted))


def port_forwards(vm: Running, wanted: VMSpec) -> Change:
    has, asked = set(vm.hardware.forwards), set(wanted.port_forwards)
    return do(
        *(RemoveForward("the manifest does not name it", one) for one in sorted(has - asked)),
        *(AddForward("the manifest names it", one) for one in sorted(asked - has)),
    )


def vnc_port(vm: Running, wanted: VMSpec) -> Change:
    has, known, asked = vm.hardware.vnc_port, vm.record.vnc_port, wanted.vnc_port or vm.seen.vnc_offer
    if asked is None or has == known == asked:
        return NOTHING
    if has is not None and has != known:
        return do(NoteVnc("QEMU serves the screen on another port than was written down", has))
    chosen = wanted.vnc_port is None
    if known == asked:
        cause = "the screen was moved away from it"
    else:
        cause = f"another manifest claims {known}" if chosen else "the manifest names it"
    return do(MoveVnc(cause, asked, chosen))


def boot_order(vm: Running, wanted: VMSpec) -> Change:
    has, asked = vm.hardware.boot_order, wanted.boot_order
    if has == asked:
        return NOTHING
    if BootDevice.NET in asked and BootDevice.NET not in vm.record.spec.boot_order:
        why = "the network card was started without its boot ROM"
        return Change(pending=PendingChange("bootOrder", ",".join(has), ",".join(asked), why))
    return do(SetBootOrder(f"bootOrder: {','.join(has)} → {','.join(asked)}", asked))


def network_link(vm: Running, wanted: VMSpec) -> Change:
    return link_of(vm, FIRST_NIC, wanted.network_link)


def link_of(vm: Running, device: str, wanted: Link) -> Change:
    """The cable of one card. QEMU cannot be asked, so what it was told counts."""
    if vm.told(f"link:{device}", Link.UP) == wanted:
        return NOTHING
    return do(SetLink("the manifest says so", device, wanted))


def watchdog(vm: Running, wanted: VMSpec) -> Change:
    has = vm.record.spec.watchdog
    if (has is None) != (wanted.watchdog is None):
        shown = (has or "none", wanted.watchdog or "none")
        return Change(pending=PendingChange("watchdog", *shown, "the card cannot come or go"))
    if has is None or wanted.watchdog is None or vm.told("watchdog", has) == wanted.watchdog:
        return NOTHING
    return do(SetWatchdog("the manifest says so", wanted.watchdog.value))


def medium(vm: Running, wanted: VMSpec) -> Change:
    """What lies in the CD drive: changed at once, unless the guest holds it."""
    drive, asked = vm.qemu.cd, vm.seen.medium
    if isinstance(asked, Fault):
        return Change(degraded=asked, look_again_s=LOOK_AGAIN_BLOCKED_S)
    if drive is None or drive.node_name == (asked.node_name if asked else None):
        return NOTHING
    change = ChangeMedium(medium_cause(drive.node_name, asked), asked)
    if drive.node_name is None or drive.tray_open or not drive.locked:
        return do(change)
    asked_before = vm.seen.lifecycle.asked.get("medium")
    waited_s = vm.seen.now_s - asked_before.since_s if asked_before else 0.0
    if wanted.eject_policy is EjectPolicy.FORCE and waited_s >= FORCE_AFTER_S:
        return do(replace(change, force=True))
    how = "unmount the CD there, or write ejectPolicy: force"
    refused = Fault("MediumLocked", f"the guest holds its CD drive locked: {how}")
    return ask(vm, "medium", AskForMedium("the guest holds the drive locked"), refused, TRAY_PATIENCE_S)


def medium_cause(inserted: str | None, asked: Medium | None) -> str:
    """Why a medium is changed, in words."""
    if asked is None:
        return "the manifest wants the drive empty"
    return "the manifest names another ISO" if inserted else "the manifest wants an ISO in the drive"
