"""The hands: each action of a plan is one call here. Decides nothing, and stops at the first action that fails.

Starting a QEMU is the longest of them and has `reconciler.converge.launch` to itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import signal
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from reconciler.converge.doors import Doors
from reconciler.converge.launch import Launcher
from reconciler.model.errors import ReconcilerError, StateError
from reconciler.model.observed import Fault, LaunchRecord, Medium, ProcessHandle
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
    Kill,
    Launch,
    Outcome,
    Plan,
    PowerDown,
    Quit,
    Remember,
    SetAside,
    Terminate,
)
from reconciler.model.vm import GIB, DesiredVM
from reconciler.qemu import isos, media
from reconciler.qemu.identity import MAC_RANDOM_BYTES, new_identity
from reconciler.storage import logs

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Executor:
    """Does what plans say. One serves all workers, each of which is on another VM.

    `machine_type` is the versioned machine that new VMs get; `forget` tells the catalog that a removed VM is gone.
    """

    doors: Doors
    launcher: Launcher
    machine_type: str
    forget: Callable[[str], None]

    def execute(self, plan: Plan) -> Outcome:
        """Do the plan's actions in order, up to the first that fails."""
        for done, action in enumerate(plan.actions):
            try:
                self._do(plan.name, action)
            except ReconcilerError as error:
                return Outcome(done, action, Fault(error.reason, str(error)))
            except OSError as error:
                return Outcome(done, action, Fault("HostFailed", f"{type(error).__name__}: {error}"))
            except Exception as error:  # a defect of ours: said like any other trouble, and this VM's alone
                log.exception("%s: %s broke off", plan.name, action.render())
                return Outcome(done, action, Fault("InternalError", f"{type(error).__name__}: {error}"))
        return Outcome(len(plan.actions))

    def _do(self, name: str, action: Action) -> None:
        match action:
            case Remember(lifecycle=lifecycle):
                self.doors.records.save_lifecycle(name, lifecycle)
            case CreateIdentity():
                self._create_identity(name)
            case CreateDisk(size_gib=size_gib):
                self._create_disk(name, size_gib)
            case GrowDisk(size_gib=size_gib):
                self.doors.images.grow(self.doors.layout.vm(name).disk, size_gib * GIB)
            case Launch(desired=desired):
                self.launcher.launch(desired)
            case Continue():
                self._qmp(name, "cont")
            case ChangeMedium(medium=medium, force=force):
                self._change_medium(name, medium, force=force)
            case CutSerialLog():
                logs.cut_serial_log(self.doors.layout.vm(name))
            case PowerDown():
                self._qmp(name, "system_powerdown")
            case Quit():
                self._qmp(name, "quit")
            case Terminate():
                self._signal(name, signal.SIGTERM)
            case Kill():
                self._signal(name, signal.SIGKILL)
            case CleanUp(handle=handle):
                self._clean_up(name, handle)
            case SetAside(last=last):
                self._set_aside(last)
            case Discard():
                self._must_be_gone(name)
                self.doors.trash.discard(name)
                self._forget(name)
            case _:
                raise TypeError(f"no hand for {action!r}")

    def _record(self, name: str) -> LaunchRecord:
        lifecycle = self.doors.records.lifecycle(name)
        if lifecycle is None or lifecycle.launch is None:
            raise StateError(f"{name}: the record of its launch is gone")
        return lifecycle.launch

    def _qmp(self, name: str, command: str) -> None:
        self.doors.monitors.execute(name, self.doors.layout.sockets(self._record(name).uuid).qmp, command)

    def _signal(self, name: str, number: signal.Signals) -> None:
        if handle := self._record(name).process:
            self.doors.processes.send_signal(handle, number)

    def _create_identity(self, name: str) -> None:
        mac = secrets.token_bytes(MAC_RANDOM_BYTES)
        self.doors.records.save_identity(name, new_identity(str(uuid.uuid4()), mac, self.machine_type))

    def _create_disk(self, name: str, size_gib: int) -> None:
        self.doors.images.create(self.doors.layout.vm(name).disk, size_gib * GIB)

    def _change_medium(self, name: str, medium: Medium | None, *, force: bool) -> None:
        execute = self.doors.monitors.session(name, self.doors.layout.sockets(self._record(name).uuid).qmp)
        if medium is None:
            media.eject(execute, force=force)
            return
        opened = isos.open_medium(medium.path, self.doors.layout.iso, self.doors.iso_roots)
        try:
            media.insert(execute, medium.node_name, opened.fd, force=force)
        finally:
            os.close(opened.fd)

    def _clean_up(self, name: str, handle: ProcessHandle | None) -> None:
        """Nothing here may keep a VM from its next start: what is left behind is replaced then."""
        self.doors.ports.release(name)
        self.doors.firewall.keep()
        self.doors.exits.unwatch(name)
        if handle:
            self.doors.processes.forget(handle)
        with contextlib.suppress(OSError):
            (self.doors.layout.by_name / name).unlink()
        if identity := self.doors.records.identity(name):
            shutil.rmtree(self.doors.layout.sockets(identity.uuid).path, ignore_errors=True)
        self.doors.monitors.drop(name)

    def _must_be_gone(self, name: str) -> None:
        """The last look before what cannot be undone: no process bears this VM's UUID. Raises StateError."""
        identity = self.doors.records.identity(name)
        for handle in self.doors.processes.find(identity.uuid) if identity else ():
            raise StateError(
                f"{name}: a QEMU (pid {handle.pid}) bears its UUID; its disk is left where it is"
            )

    def _set_aside(self, last: DesiredVM) -> None:
        self._must_be_gone(last.name)
        where = self.doors.trash.set_aside(last, self.doors.clock.utc())
        log.info("%s: set aside in %s; `reconciler restore %s` brings it back", last.name, where, last.name)
        self._forget(last.name)

    def _forget(self, name: str) -> None:
        self.doors.ports.forget(name)
        self.forget(name)
