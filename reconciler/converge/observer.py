"""The eyes: one look at everything that is known of one VM, as a value. Changes nothing.

Looking also subscribes: a QEMU that was seen is connected to and its process watched, so that what happens to it next
puts its name on the queue. Next: `reconciler.model.observed` for what a look gives.
"""

from __future__ import annotations

from dataclasses import dataclass

from reconciler.clock import timestamp
from reconciler.converge.doors import Doors
from reconciler.model.errors import ImageError, QemuError, QmpLostError, StateError
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
from reconciler.model.vm import DesiredVM, PowerState, Wanted
from reconciler.qemu import isos, view
from reconciler.qemu.process import ProcessState
from reconciler.storage import logs

LAST_WORDS_BYTES = 2000
LAST_BREATH_S = 0.5  # a QEMU that ends closes its sockets first, and then gives back its memory


@dataclass(frozen=True)
class Observer:
    """Looks at VMs. One serves all workers."""

    doors: Doors

    def observe(self, name: str, wanted: Wanted) -> ObservedVM:
        """One look at the VM. What cannot be found out is `Unknown` in the answer; nothing is raised."""
        identity, lifecycle, process = None, Lifecycle(), None
        try:
            identity = self.doors.records.identity(name)
            lifecycle = self.doors.records.lifecycle(name)
            process = self._process(name, identity, lifecycle.launch)
        except StateError as error:
            process = Unknown(error.reason, str(error))
        may_start = isinstance(process, Gone) and _wants_running(wanted)
        return ObservedVM(
            name=name,
            now_s=self.doors.clock.now_s(),
            utc=timestamp(self.doors.clock.utc()),
            boot_id=self.doors.clock.boot_id,
            identity=identity,
            lifecycle=lifecycle,
            process=process,
            disk=self._disk(name) if may_start else None,
            medium=self._medium(wanted),
            serial_log_bytes=logs.size(self.doors.layout.vm(name).serial_log),
        )

    def _process(self, name: str, identity: Identity | None, record: LaunchRecord | None) -> Process:
        if record is None:
            return Gone()
        handle = record.process or self._find(record.uuid)
        if isinstance(handle, Unknown):
            return handle
        if handle is None or handle.boot_id != self.doors.clock.boot_id:
            return Gone()
        return self._state(name, handle, identity or record)

    def _find(self, uuid: str) -> ProcessHandle | Unknown | None:
        """The process that came of an intent, searched for by the UUID on its command line."""
        found = self.doors.processes.find(uuid)
        if len(found) > 1:
            pids = ", ".join(str(h.pid) for h in found)
            return Unknown("TwoProcesses", f"several QEMUs bear its UUID (pids {pids}); end all but one")
        return found[0] if found else None

    def _state(self, name: str, handle: ProcessHandle, identity: Identity | LaunchRecord) -> Process:
        match self.doors.processes.state(handle):
            case ProcessState.DEAD:
                return Gone(self.doors.processes.reap(handle), self._last_words(name))
            case ProcessState.STOPPED:
                self.doors.exits.watch(name, handle)
                remedy = f"`kill -CONT {handle.pid}` lets it go on"
                return Unknown(
                    "ProcessStopped", f"QEMU (pid {handle.pid}) is stopped by a signal; {remedy}", handle
                )
            case ProcessState.RUNNING:
                self.doors.exits.watch(name, handle)
                return self._ask(name, handle, identity.uuid)

    def _ask(self, name: str, handle: ProcessHandle, uuid: str) -> Process:
        path = self.doors.layout.sockets(uuid).qmp
        try:
            seen = view.observe(self.doors.monitors.session(name, path), uuid)
            return Alive(handle, seen)
        except QemuError as error:
            grace_s = LAST_BREATH_S if isinstance(error, QmpLostError) else 0.0
            if self.doors.processes.ends_within(handle, grace_s):
                return Gone(self.doors.processes.reap(handle), self._last_words(name))
            return Unknown(error.reason, f"QEMU (pid {handle.pid}) does not answer: {error}", handle)

    def _disk(self, name: str) -> Disk | Fault | None:
        path = self.doors.layout.vm(name).disk
        if not path.exists():
            return None
        try:
            return Disk(str(path), self.doors.images.inspect(path))
        except ImageError as error:
            return Fault(error.reason, str(error))

    def _medium(self, wanted: Wanted) -> Medium | Fault | None:
        if not isinstance(wanted, DesiredVM) or wanted.spec.medium is None:
            return None
        return isos.look_at(wanted.spec.medium, self.doors.layout.iso, self.doors.iso_roots)

    def _last_words(self, name: str) -> str:
        """The end of QEMU's stderr, without its time stamps: on one line, for a message."""
        text = logs.read_tail(self.doors.layout.vm(name).qemu_log, LAST_WORDS_BYTES).decode(errors="replace")
        lines = [line.partition("Z ")[2] or line for line in text.splitlines() if line.strip()]
        return " / ".join(line.strip() for line in lines[-3:])


def _wants_running(wanted: Wanted) -> bool:
    return isinstance(wanted, DesiredVM) and wanted.spec.state is PowerState.RUNNING
