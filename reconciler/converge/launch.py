"""Starting a QEMU so that no moment of it can be lost: intent, process, record.

The intent is durable before anything starts, and bears the UUID by which a process can be found that an agent had no
time to write down. Everything QEMU needs is opened here and handed over as a descriptor; its user needs no access to
any directory of ours. QEMU starts halted; `cont` is an action of its own.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from reconciler.clock import timestamp
from reconciler.converge.accelerator import Accelerator
from reconciler.converge.adjust import with_mac
from reconciler.converge.doors import Doors
from reconciler.layout import VMDir
from reconciler.model.errors import StateError
from reconciler.model.observed import Identity, LaunchRecord, Lifecycle, ProcessHandle
from reconciler.model.vm import Accel, DesiredVM
from reconciler.qemu import isos, pluggable, sockets
from reconciler.qemu.accel import kvm_groups
from reconciler.qemu.command_line import command_line
from reconciler.qemu.machine import IsoFd, Machine
from reconciler.settings import QemuUser


class LaunchStep(StrEnum):
    """The points between which an agent may die; each leaves something that the next one can go on from."""

    INTENT_WRITTEN = "intent-written"
    SPAWNED = "spawned"
    RECORDED = "recorded"


@dataclass(frozen=True)
class Launcher:
    """Starts QEMUs. `checkpoint` is told of each step."""

    doors: Doors
    binary: str
    qemu_version: str
    qemu_user: QemuUser | None
    accelerator: Accelerator
    checkpoint: Callable[[LaunchStep], None]

    def launch(self, desired: DesiredVM) -> None:
        """Start the VM's QEMU, halted. Raises ReconcilerError or OSError; what was opened is closed either way."""
        identity = self.doors.records.identity(desired.name)
        if identity is None:
            raise StateError(f"{desired.name}: it has no identity yet")
        accel = self.accelerator.choose(desired.spec.accel)
        port = self.doors.ports.take(desired.name, desired.spec.vnc_port)
        self.doors.firewall.keep()
        with contextlib.ExitStack() as opened:
            try:
                identity = self._fit(desired, identity, port)
                machine = self._machine(desired, identity, accel, port, opened)
                intent = self._intent(desired, machine)
                lifecycle = self._declare(desired.name, intent)
            except BaseException:
                self.doors.ports.release(desired.name)  # from the intent on, the record of it keeps the port
                self.doors.firewall.keep()
                raise
            self.checkpoint(LaunchStep.INTENT_WRITTEN)
            handle = self._spawn(desired.name, machine, intent)
            self.checkpoint(LaunchStep.SPAWNED)
        record = replace(intent, process=handle)
        self.doors.records.save_lifecycle(desired.name, replace(lifecycle, launch=record))
        self.checkpoint(LaunchStep.RECORDED)

    def _fit(self, desired: DesiredVM, before: Identity, port: int) -> Identity:
        """The identity, with all that this launch needs made durable in it: a VNC port, slots, MAC addresses."""
        identity = with_mac(pluggable.with_ports(before, desired.spec), pluggable.wanted_ids(desired.spec))
        if desired.spec.vnc_port is None:
            identity = replace(identity, vnc_port=port)
        if identity.started_at is None:
            identity = replace(identity, started_at=timestamp(self.doors.clock.utc()))
        if identity != before:
            self.doors.records.save_identity(desired.name, identity)
        return identity

    def _machine(
        self, desired: DesiredVM, identity: Identity, accel: Accel, port: int, opened: contextlib.ExitStack
    ) -> Machine:
        home = self.doors.layout.vm(desired.name)
        directory = self.doors.layout.sockets(identity.uuid)
        sockets.link_name(self.doors.layout.by_name, desired.name, directory.path)
        return Machine(
            name=desired.name,
            spec=desired.spec,
            identity=identity,
            accel=accel,
            vnc_port=port,
            disk_fd=_open(home.disk, os.O_RDWR, opened),
            serial_log_fd=_open(home.serial_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, opened),
            sockets=opened.enter_context(sockets.listening(directory)),
            iso=self._iso(desired, opened),
            data_disk_fds={
                disk.name: opened.enter_context(self.doors.images.opened(home.data_disk(disk.name)))
                for disk in desired.spec.disks
            },
        )

    def _iso(self, desired: DesiredVM, opened: contextlib.ExitStack) -> IsoFd | None:
        if desired.spec.medium is None:
            return None
        medium = isos.open_medium(desired.spec.medium, self.doors.layout.iso, self.doors.iso_roots)
        opened.callback(os.close, medium.fd)
        return IsoFd(medium.fd, medium.node_name)

    def _declare(self, name: str, intent: LaunchRecord) -> Lifecycle:
        """Make the intent durable; returns the memory that holds it."""
        before = self.doors.records.lifecycle(name) or Lifecycle()
        lifecycle = replace(before, stop=None, unanswered=False, launch=intent)
        self.doors.records.save_lifecycle(name, lifecycle)
        return lifecycle

    def _spawn(self, name: str, machine: Machine, intent: LaunchRecord) -> ProcessHandle:
        home = self.doors.layout.vm(name)
        _rotate(home)
        return self.doors.processes.spawn(
            intent.argv,
            log_path=home.qemu_log,
            pass_fds=machine.descriptors,
            user=self.qemu_user,
            groups=kvm_groups() if machine.accel is Accel.KVM else (),
            cwd=Path("/"),
        )

    def _intent(self, desired: DesiredVM, machine: Machine) -> LaunchRecord:
        return LaunchRecord(
            uuid=machine.identity.uuid,
            generation=desired.generation,
            spec=desired.spec,
            argv=command_line(machine, self.binary),
            accel=machine.accel,
            vnc_port=machine.vnc_port,
            qemu_version=self.qemu_version,
            requested_at=timestamp(self.doors.clock.utc()),
            requested_s=self.doors.clock.now_s(),
        )


def _open(path: Path, flags: int, opened: contextlib.ExitStack) -> int:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    opened.callback(os.close, descriptor)
    return descriptor


def _rotate(home: VMDir) -> None:
    """Keep the stderr of the run before beside that of the run to come."""
    with contextlib.suppress(FileNotFoundError):
        home.qemu_log.replace(home.qemu_log_before)
