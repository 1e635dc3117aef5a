"""The eyes: one look at everything that is known of one VM, as a value. Changes nothing.

Looking also subscribes: a QEMU that was seen is connected to and its process watched, so that what happens to it next
puts its name on the queue. Next: `reconciler.model.observed` for what a look gives.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from reconciler.clock import timestamp
from reconciler.converge.doors import Doors
from reconciler.converge.order import Order
from reconciler.model.errors import ImageError, QemuError, QmpLostError, QmpTimeoutError, StateError
from reconciler.model.observed import (
    Alive,
    Disk,
    Fault,
    Gone,
    Identity,
    LaunchRecord,
    Lifecycle,
    Medium,
    ObservedVM,
    Process,
    ProcessHandle,
    Unknown,
)
from reconciler.model.vm import DesiredVM, Wanted
from reconciler.qemu import guest_agent, isos, view
from reconciler.qemu.process import ProcessState
from reconciler.storage import logs

QMP_TIMEOUT_S = 5.0
MUTE_TIMEOUT_S = 0.5
LAST_WORDS_BYTES = 2000
LAST_BREATH_S = 0.5  # a QEMU that ends closes its sockets first, and then gives back its memory


@dataclass(frozen=True)
class Observer:
    """Looks at VMs. One serves all workers.

    `mute` are the VMs whose QEMU did not answer in time when it was last asked: they are given less time, so that
    many of them do not hold up the others.
    """

    doors: Doors
    order: Order
    mute: set[str] = field(default_factory=set)

    def observe(self, name: str, wanted: Wanted) -> ObservedVM:
        """One look at the VM. What cannot be found out is `Unknown` in the answer; nothing is raised."""
        identity: Identity | None = None
        lifecycle: Lifecycle | None = None
        process: Process
        try:
            identity = self.doors.records.identity(name)
            lifecycle = self.doors.records.lifecycle(name)
            process = self._process(name, identity, lifecycle)
        except StateError as error:
            process = Unknown(error.reason, str(error))
        except OSError as error:
            process = Unknown("HostFailed", f"{type(error).__name__}: {error}")
        return ObservedVM(
            name=name,
            now_s=self.doors.clock.now_s(),
            utc=timestamp(self.doors.clock.utc()),
            boot_id=self.doors.clock.boot_id,
            identity=identity,
            lifecycle=lifecycle or Lifecycle(),
            process=self._with_cpus(process, wanted, lifecycle),
            disk=self._disk(self.doors.layout.vm(name).disk) if isinstance(wanted, DesiredVM) else None,
            data_disks=self._data_disks(name, wanted),
            vnc_offer=self._vnc_offer(name, wanted),
            medium=self._medium(wanted),
            serial_log_bytes=logs.size(self.doors.layout.vm(name).serial_log),
            waits_for=self.order.waits_for(wanted),
            needed_by=self.order.needed_by(name),
            exposed=self.doors.firewall.gap(),
        )

    def _process(self, name: str, identity: Identity | None, lifecycle: Lifecycle | None) -> Process:
        if lifecycle is None:
            return self._unrecorded(identity) if identity else Gone()
        record = lifecycle.launch
        if record is None:
            return Gone()
        handle = record.process or self._find(record.uuid)
        if isinstance(handle, Unknown):
            return handle
        if handle is None or handle.boot_id != self.doors.clock.boot_id:
            return Gone()
        return self._state(name, handle, record)

    def _unrecorded(self, identity: Identity) -> Process:
        """A VM of which nothing is remembered; before its first start that is so, and later it was lost."""
        found = self._find(identity.uuid)
        if not isinstance(found, ProcessHandle):
            return found or Gone()
        remedy = f"put lifecycle.json back, or end it (`kill {found.pid}`)"
        what = f"a QEMU (pid {found.pid}) bears its UUID, and there is no record of its launch"
        return Unknown("NoRecord", f"{what}; {remedy}", found)

    def _find(self, uuid: str) -> ProcessHandle | Unknown | None:
        """The process that came of an intent, searched for by the UUID on its command line."""
        found = self.doors.processes.find(uuid)
        if len(found) > 1:
            pids = ", ".join(str(h.pid) for h in found)
            return Unknown("TwoProcesses", f"several QEMUs bear its UUID (pids {pids}); end all but one")
        return found[0] if found else None

    def _state(self, name: str, handle: ProcessHandle, record: LaunchRecord) -> Process:
        match self.doors.processes.state(handle):
            case ProcessState.DEAD:
                return self._gone(name, handle)
            case ProcessState.STOPPED:
                self.doors.exits.watch(name, handle)
                remedy = f"`kill -CONT {handle.pid}` lets it go on"
                return Unknown(
                    "ProcessStopped", f"QEMU (pid {handle.pid}) is stopped by a signal; {remedy}", handle
                )
            case ProcessState.RUNNING:
                self.doors.exits.watch(name, handle)
                return self._ask(name, handle, record)

    def _ask(self, name: str, handle: ProcessHandle, record: LaunchRecord) -> Process:
        timeout_s = MUTE_TIMEOUT_S if name in self.mute else QMP_TIMEOUT_S
        try:
            seen = view.observe(
                self.doors.session(name, record, timeout_s), record.uuid, deep=record.guest_ran
            )
            self.mute.discard(name)
            return Alive(handle, replace(seen, shutdown_reason=self.doors.monitors.shutdown_reason(name)))
        except QemuError as error:
            if isinstance(error, QmpTimeoutError):
                self.mute.add(name)
            grace_s = LAST_BREATH_S if isinstance(error, QmpLostError) else 0.0
            if self.doors.processes.ends_within(handle, grace_s):
                return self._gone(name, handle)
            remedy = f"if it stays so, `kill {handle.pid}` ends it, and the manifest decides"
            return Unknown(
                error.reason, f"QEMU (pid {handle.pid}) does not answer: {error}; {remedy}", handle
            )

    def _with_cpus(self, process: Process, wanted: Wanted, lifecycle: Lifecycle | None) -> Process:
        """Where the guest uses, or shall use, fewer cores than it has, only its own agent knows how many."""
        record = lifecycle.launch if lifecycle else None
        match process, wanted:
            case Alive(qemu=qemu), DesiredVM(spec=spec) if (
                record and qemu.hardware and qemu.hardware.agent_open
            ):
                if spec.cpu_cores >= qemu.hardware.cpus and "cpus" not in record.told:
                    return process
                try:
                    online = guest_agent.online_cpus(self.doors.layout.sockets(record.uuid).guest_agent)
                except QemuError:
                    return process
                hardware = replace(qemu.hardware, cpus_online=online)
                return replace(process, qemu=replace(qemu, hardware=hardware))
        return process

    def _gone(self, name: str, handle: ProcessHandle) -> Gone:
        status = self.doors.processes.reap(handle)
        return Gone(status, self._last_words(name), self.doors.monitors.last_reason(name))

    def _vnc_offer(self, name: str, wanted: Wanted) -> int | None:
        """Asked where it matters alone: the answer goes through all manifests."""
        names_none = isinstance(wanted, DesiredVM) and wanted.spec.vnc_port is None
        return self.doors.ports.standing(name) if names_none else None

    def _data_disks(self, name: str, wanted: Wanted) -> dict[str, Disk | Fault | None]:
        disks = wanted.spec.disks if isinstance(wanted, DesiredVM) else ()
        return {disk.name: self._disk(self.doors.layout.vm(name).data_disk(disk.name)) for disk in disks}

    def _disk(self, path: Path) -> Disk | Fault | None:
        try:
            if not path.exists():
                return None
            return Disk(str(path), self.doors.images.inspect(path))
        except ImageError as error:
            return Fault(error.reason, str(error))
        except OSError as error:
            return Fault("DiskFailed", f"the disk {path}: {error.strerror}")

    def _medium(self, wanted: Wanted) -> Medium | Fault | None:
        if not isinstance(wanted, DesiredVM) or wanted.spec.medium is None:
            return None
        return self.look_at_iso(wanted.spec.medium)

    def look_at_iso(self, iso_path: str) -> Medium | Fault:
        """The ISO that a manifest names, or why it cannot be used."""
        try:
            return isos.look_at(iso_path, self.doors.layout.iso, self.doors.iso_roots)
        except OSError as error:
            return Fault("IsoUnreadable", f"spec.isoPath: {iso_path!r}: {error.strerror}")

    def _last_words(self, name: str) -> str:
        """The end of QEMU's stderr, without its time stamps: on one line, for a message."""
        text = logs.read_tail(self.doors.layout.vm(name).qemu_log, LAST_WORDS_BYTES).decode(errors="replace")
        lines = [line.partition("Z ")[2] or line for line in text.splitlines() if line.strip()]
        return " / ".join(line.strip() for line in lines[-3:])
