"""The hands: each action of a plan is one call here. Decides nothing, and stops at the first action that fails.

Starting a QEMU has `reconciler.converge.launch` to itself, changing one that runs `reconciler.converge.adjust`.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import shutil
import signal
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace

from reconciler.converge.adjust import Adjuster
from reconciler.converge.doors import Doors
from reconciler.converge.launch import Launcher
from reconciler.model.adjust import Adjust, CreateDataDisk
from reconciler.model.crash import CrashReport
from reconciler.model.errors import QemuError, QmpLostError, QmpTimeoutError, ReconcilerError, StateError
from reconciler.model.observed import Fault, LaunchRecord, ProcessHandle
from reconciler.model.plan import (
    Action,
    CleanUp,
    Continue,
    CreateDisk,
    CreateIdentity,
    CutSerialLog,
    Discard,
    GrowDisk,
    KeepCrash,
    KeepScreen,
    Kill,
    Launch,
    Outcome,
    Plan,
    PowerDown,
    Quit,
    Remember,
    ReplaceDisk,
    SetAside,
    Terminate,
)
from reconciler.model.vm import GIB, DesiredVM
from reconciler.qemu.identity import MAC_RANDOM_BYTES, new_identity
from reconciler.qemu.screen import screenshot
from reconciler.storage import crashes, logs

SCREEN_TIMEOUT_S = 2.0  # a screen takes a moment; a QEMU that is about to be ended is waited for no longer

log = logging.getLogger(__name__)

MUTE = frozenset({QmpTimeoutError.reason, QmpLostError.reason})


@dataclass(frozen=True)
class Executor:
    """Does what plans say. One serves all workers, each of which is on another VM.

    `machine_type` is the versioned machine that new VMs get; `forget` tells the catalog that a removed VM is gone.
    """

    doors: Doors
    launcher: Launcher
    adjuster: Adjuster
    machine_type: str
    forget: Callable[[str], None]

    def execute(self, plan: Plan) -> Outcome:
        """Do the plan's actions in order, up to the first that fails.

        An adjustment of a VM that runs hinders none of the rest, unless QEMU does not answer at all.
        """
        starts = any(isinstance(action, Launch) for action in plan.actions)
        outcome = Outcome()
        for action in plan.actions:
            fault = self._try(plan.name, action)
            if fault is None:
                outcome = replace(outcome, done=(*outcome.done, action))
            elif outcome.fault is None:
                outcome = replace(outcome, failed=action, fault=fault)
            if fault and (starts or not isinstance(action, Adjust) or fault.reason in MUTE):
                break
        return outcome

    def _try(self, name: str, action: Action) -> Fault | None:
        try:
            self._do(name, action)
        except ReconcilerError as error:
            return Fault(error.reason, str(error))
        except OSError as error:
            return Fault("HostFailed", f"{type(error).__name__}: {error}")
        except Exception as error:  # a defect of ours: said like any other trouble, and this VM's alone
            log.exception("%s: %s broke off", name, action.render())
            return Fault("InternalError", f"{type(error).__name__}: {error}")
        return None

    def _do(self, name: str, action: Action) -> None:
        match action:
            case Remember(lifecycle=lifecycle):
                self.doors.records.save_lifecycle(name, lifecycle)
            case CreateIdentity():
                self._create_identity(name)
            case CreateDisk(size_gib=size_gib):
                self._create_disk(name, size_gib)
            case ReplaceDisk():
                self._replace_disk(name)
            case GrowDisk(size_gib=size_gib):
                self.doors.images.grow(self.doors.layout.vm(name).disk, size_gib * GIB)
            case Launch(desired=desired):
                self.launcher.launch(desired)
            case Continue():
                self._qmp(name, "cont")
            case CreateDataDisk(disk=disk):
                self.doors.images.create(self.doors.layout.vm(name).data_disk(disk.name), disk.size_gib * GIB)
            case Adjust():
                self.adjuster.adjust(name, action)
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
            case KeepScreen():
                self._keep_screen(name)
            case KeepCrash(bundle=bundle, report=report):
                self._keep_crash(name, bundle, report)
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
        return self.doors.launched(name)[1]

    def _qmp(self, name: str, command: str) -> None:
        self.doors.session(name, self._record(name))(command)

    def _signal(self, name: str, number: signal.Signals) -> None:
        if handle := self._record(name).process:
            self.doors.processes.send_signal(handle, number)

    def _create_identity(self, name: str) -> None:
        mac = secrets.token_bytes(MAC_RANDOM_BYTES)
        self.doors.records.save_identity(name, new_identity(str(uuid.uuid4()), mac, self.machine_type))

    def _create_disk(self, name: str, size_gib: int) -> None:
        self.doors.images.create(self.doors.layout.vm(name).disk, size_gib * GIB)

    def _keep_screen(self, name: str) -> None:
        """Nothing here may keep a VM that ended from being ended."""
        execute = self.doors.session(name, self._record(name), SCREEN_TIMEOUT_S)
        try:
            png = screenshot(execute)
            self.doors.layout.vm(name).screen.write_bytes(png)
        except (QemuError, OSError) as error:
            log.info("%s: its last screen could not be kept: %s", name, error)

    def _keep_crash(self, name: str, bundle: str, report: CrashReport) -> None:
        """Nothing here may keep a VM from its next start."""
        try:
            kept = crashes.keep(self.doors.layout.vm(name), bundle, report)
            log.info("%s: what is left of that run is in %s", name, kept.path)
        except OSError as error:
            log.warning("%s: what is left of that run could not be kept: %s", name, error)

    def _clean_up(self, name: str, handle: ProcessHandle | None) -> None:
        """Nothing here may keep a VM from its next start: what is left behind is replaced then."""
        self.doors.ports.release(name)
        self.doors.firewall.keep()
        self.doors.exits.unwatch(name)
        if handle:
            self.doors.processes.forget(handle)
        for leftover in (self.doors.layout.by_name / name, self.doors.layout.vm(name).screen):
            with contextlib.suppress(OSError):
                leftover.unlink()
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

    def _replace_disk(self, name: str) -> None:
        self._must_be_gone(name)
        if kept := self.doors.trash.set_disk_aside(name, self.doors.clock.utc()):
            log.info("%s: its old root disk is %s", name, kept)

    def _set_aside(self, last: DesiredVM) -> None:
        self._must_be_gone(last.name)
        where = self.doors.trash.set_aside(last, self.doors.clock.utc())
        log.info("%s: set aside in %s; `reconciler restore %s` brings it back", last.name, where, last.name)
        self._forget(last.name)

    def _forget(self, name: str) -> None:
        self.doors.ports.forget(name)
        self.forget(name)
