"""Taking over a QEMU that somebody started by hand: looked at, described by a manifest, recorded, and never restarted.

Everything that may fail comes first. Then the records are written, and the manifest last: a manifest without records
would be started a second time. What does not carry over is in the notes. Next: `reconciler.importing.qemu`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pwd
import secrets
import shlex
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from reconciler.clock import timestamp
from reconciler.control.manifests import Manifests
from reconciler.converge.doors import Doors
from reconciler.importing import qemu
from reconciler.importing.outcome import Imported, Kind, Note
from reconciler.importing.qemu import NO_UUID, Found
from reconciler.manifest.fields import written
from reconciler.model.errors import (
    ConflictError,
    ImageError,
    ImportRefusedError,
    QemuError,
    QmpError,
    StateError,
)
from reconciler.model.observed import Fault, Identity, LaunchRecord, Lifecycle, Medium, ProcessHandle
from reconciler.model.survey import Survey
from reconciler.model.vm import GIB, Accel, DesiredVM
from reconciler.qemu import isos, live, sockets, strangers
from reconciler.qemu.devices import SLOTS
from reconciler.qemu.identity import MAC_RANDOM_BYTES, mac_address
from reconciler.qemu.monitor import Monitors
from reconciler.qemu.survey import survey

SURVEY_TIMEOUT_S = 3.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Adopted:
    """A QEMU as the VM that it is now, or would be; `notes` say what does not carry over."""

    vm: DesiredVM
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class Stranger:
    """A QEMU that is about to be taken over; `identity` is what the VM will have."""

    socket: Path
    handle: ProcessHandle
    found: Found
    identity: Identity

    @property
    def root_file(self) -> str | None:
        """Its root disk, as it names it."""
        return self.found.root.medium.file if self.found.root and self.found.root.medium else None


@dataclass(frozen=True)
class Adoption:
    """Takes QEMUs over. Safe for any number of threads. `machine` is the versioned machine that new VMs get."""

    doors: Doors
    manifests: Manifests
    machine: str

    def adopt(self, socket: str, name: str | None = None, *, dry_run: bool = False) -> Adopted:
        """Take over the QEMU whose QMP socket this is. Raises ImportRefusedError, ConflictError, PortConflictError,
        ManifestError, StateError or OSError, with all as it was.
        """
        stranger = self._meet(Path(socket))
        chosen = qemu.name_of(stranger.found.survey, name)
        imported = qemu.convert(stranger.found, chosen)
        notes = (*imported.notes, *self._notes(stranger, imported))
        vm = self.manifests.adopt(
            chosen, written(imported.spec), lambda vm: self._recorded(vm, stranger), dry_run=dry_run
        )
        if not dry_run:
            self._have_it_wait(vm, stranger)
        return Adopted(vm, notes)

    # ---- looking ----------------------------------------------------------------------------------

    def _meet(self, socket: Path) -> Stranger:
        if not socket.is_absolute():
            raise ImportRefusedError(f"{socket}: write the whole path of the socket")
        pid = strangers.listening_at(socket)
        handle = self._process(socket, pid)
        self._must_be_new(socket, handle)
        seen = _ask(socket)
        found = Found(seen, self.doors.processes.command_line(pid), self._iso(pid, seen))
        identity = self._identity(found, handle)
        return Stranger(socket, handle, found, identity)

    def _process(self, socket: Path, pid: int) -> ProcessHandle:
        if pid == os.getpid():
            raise ImportRefusedError(f"{socket}: is one of this agent's own: that VM has a manifest already")
        program = strangers.program(pid)
        handle = self.doors.processes.handle(pid) if strangers.is_qemu(program) else None
        if handle is None:
            what = f"the process that made it (pid {pid}) is {program or 'gone, or not to be seen from here'}"
            raise ImportRefusedError(
                f"{socket}: {what}; only a QEMU that made its socket itself can be imported"
            )
        return handle

    def _must_be_new(self, socket: Path, handle: ProcessHandle) -> None:
        for name in self.doors.records.names():
            with contextlib.suppress(StateError):
                memory = self.doors.records.lifecycle(name)
                if memory and memory.launch and memory.launch.process == handle:
                    raise ConflictError(f"{socket}: its QEMU (pid {handle.pid}) is the VM {name} already")

    def _iso(self, pid: int, seen: Survey) -> Medium | Fault | None:
        drive = next(iter(seen.cd_drives), None)
        if drive is None or drive.medium is None:
            return None
        path = str(strangers.full_path(pid, drive.medium.file))
        return isos.look_at(path, self.doors.layout.iso, self.doors.iso_roots)

    def _identity(self, found: Found, handle: ProcessHandle) -> Identity:
        its_uuid = found.survey.uuid
        if its_uuid != NO_UUID:
            self._must_be_unique(its_uuid)
        card, machine = found.card, found.survey.machine
        return Identity(
            uuid=str(uuid.uuid4()) if its_uuid == NO_UUID else its_uuid,
            mac_address=card.mac_address if card else mac_address(secrets.token_bytes(MAC_RANDOM_BYTES)),
            machine=machine if machine.startswith("pc-q35-") else self.machine,
            slots=dict(SLOTS),
            started_at=self._started_at(handle),
        )

    def _must_be_unique(self, its_uuid: str) -> None:
        for name in self.doors.records.names():
            with contextlib.suppress(StateError):
                other = self.doors.records.identity(name)
                if other and other.uuid == its_uuid:
                    raise ConflictError(f"its UUID, {its_uuid}, is that of the VM {name}")

    def _started_at(self, handle: ProcessHandle) -> str:
        ago_s = self.doors.clock.now_s() - handle.start_ticks / TICKS_PER_S
        return timestamp(self.doors.clock.utc() - timedelta(seconds=ago_s))

    # ---- what has to be said ------------------------------------------------------------------------

    def _notes(self, stranger: Stranger, imported: Imported) -> Iterator[Note]:
        yield _note(
            Kind.CHANGED, str(stranger.socket), "the agent is its client from now on, and it serves one"
        )
        ends = "when its guest powers off or panics, it waits for the agent, as every VM's QEMU does"
        yield _note(Kind.CHANGED, "-action", ends)
        if stranger.root_file:
            yield self._disk_note(stranger, imported, stranger.root_file)
        owner = os.stat(f"/proc/{stranger.handle.pid}").st_uid
        own = self.doors.images.owner.uid if self.doors.images.owner else os.geteuid()
        if owner != own:
            users = f"it runs as {_user(owner)}, and as {_user(own)} from its next start on"
            until = "until then its guest passes for a user of this host, for the agent's API as well: restart it soon"
            yield _note(Kind.TO_DO, f"pid {stranger.handle.pid}", f"{users}; {until}")

    def _disk_note(self, stranger: Stranger, imported: Imported, file: str) -> Note:
        home = self.doors.layout.vm(imported.name)
        why = self._why_not_linked(stranger, file)
        if why is None:
            kept = f"is {home.disk} as well: one file with two names, neither copied nor moved"
            return _note(Kind.CHANGED, file, f"{kept}; do not use it by the old name any more")
        medium = stranger.found.root.medium if stranger.found.root else None
        source = strangers.full_path(stranger.handle.pid, file)
        words = ("qemu-img", "convert", "-f", medium.format if medium else "raw", "-O", "qcow2")
        command = f"`{shlex.join((*words, str(source), str(home.disk)))}`"
        if not os.path.exists(source):
            command = f"what it holds is brought as {home.disk}"
        return _note(Kind.TO_DO, file, f"{why}: after this run, the VM is not started before {command}")

    def _why_not_linked(self, stranger: Stranger, file: str) -> str | None:
        """Why the disk cannot get a second name where the agent looks for it; None where it can."""
        try:
            with strangers.image_of(stranger.handle.pid, file) as image:
                if os.fstat(image).st_dev != os.stat(self.doors.layout.vms).st_dev:
                    return "it lies on another file system than the agent's state directory"
        except ImageError as error:
            return str(error)
        return None

    # ---- the deed -------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _recorded(self, vm: DesiredVM, stranger: Stranger) -> Iterator[None]:
        """The VM's records, and its disk under the agent's name; all gone again where the block fails."""
        home, directory = self.doors.layout.vm(vm.name), self.doors.layout.sockets(stranger.identity.uuid)
        self._must_be_new(stranger.socket, stranger.handle)  # somebody else may import it at the same time
        try:
            if vm.spec.vnc_port is not None:
                self.doors.ports.take(vm.name, vm.spec.vnc_port)
            directory.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.qmp.unlink(missing_ok=True)
            directory.qmp.symlink_to(stranger.socket)
            sockets.link_name(self.doors.layout.by_name, vm.name, directory.path)
            self.doors.records.save_identity(vm.name, stranger.identity)
            self._bring_disk(vm, stranger)
            self.doors.records.save_lifecycle(vm.name, Lifecycle(launch=self._record(vm, stranger)))
            self.doors.firewall.keep()
            yield
        except BaseException:
            self.doors.ports.release(vm.name)
            shutil.rmtree(home.path, ignore_errors=True)  # the disk keeps its other name
            shutil.rmtree(directory.path, ignore_errors=True)
            (self.doors.layout.by_name / vm.name).unlink(missing_ok=True)
            raise

    def _bring_disk(self, vm: DesiredVM, stranger: Stranger) -> None:
        """A second name for the disk where that can be; an empty one for a VM without; else none, and no start."""
        home = self.doors.layout.vm(vm.name)
        if stranger.root_file is None:
            self.doors.images.create(home.disk, vm.spec.disk_size_gib * GIB)
            return
        if self._why_not_linked(stranger, stranger.root_file) is None:
            with strangers.image_of(stranger.handle.pid, stranger.root_file) as image:
                strangers.link(image, home.disk)

    def _have_it_wait(self, vm: DesiredVM, stranger: Stranger) -> None:
        """Let QEMU outlive its guest's end, so that the agent sees which end it was, whenever it looks."""
        execute = self.doors.session(vm.name, self._record(vm, stranger))
        try:
            for event in ("shutdown", "panic"):
                live.set_action(execute, event, "pause")
        except QemuError as error:
            log.warning("%s: ends as it was started to, and then passes for crashed: %s", vm.name, error)

    def _record(self, vm: DesiredVM, stranger: Stranger) -> LaunchRecord:
        seen = stranger.found.survey
        return LaunchRecord(
            uuid=stranger.identity.uuid,
            generation=vm.generation,
            spec=vm.spec,
            argv=stranger.found.argv,
            accel=Accel.KVM if seen.kvm else Accel.TCG,
            vnc_port=vm.spec.vnc_port,
            qemu_version=seen.version,
            requested_at=stranger.identity.started_at or timestamp(self.doors.clock.utc()),
            requested_s=stranger.handle.start_ticks / TICKS_PER_S,
            process=stranger.handle,
            guest_ran=True,
            foreign=qemu.foreign(stranger.found),
        )


def _ask(socket: Path) -> Survey:
    """What the QEMU says, on a connection of its own. Raises ImportRefusedError."""
    monitors = Monitors(lambda _name, _event: None)
    try:
        return survey(monitors.session("import", socket, SURVEY_TIMEOUT_S))
    except QmpError as error:
        raise ImportRefusedError(f"{socket}: QEMU does not say what has to be known: {error}") from error
    except QemuError as error:
        raise ImportRefusedError(f"{socket}: nobody answers there as QMP does. {strangers.BUSY}") from error
    finally:
        monitors.close()


def _note(kind: Kind, place: str, message: str) -> Note:
    return Note(kind, place, 0, message)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
