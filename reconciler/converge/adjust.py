"""The hands that change a QEMU while its guest runs: what `reconciler.qemu.live` does by QMP, with what it needs.

Files are opened here, ports taken, addresses made up; and what QEMU cannot be asked for afterwards is remembered.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, replace
from functools import singledispatch

from reconciler.converge.doors import Doors
from reconciler.model.adjust import (
    AddForward,
    Adjust,
    AskForMedium,
    ChangeMedium,
    DropNetdev,
    DropNode,
    LimitDisk,
    MoveVnc,
    NoteVnc,
    PlugCpus,
    PlugDisk,
    PlugNic,
    RemoveForward,
    ResizeDisk,
    SetBootOrder,
    SetLink,
    SetMemory,
    SetReboot,
    SetWatchdog,
    Unplug,
    UseCpus,
    begun,
    remembered,
)
from reconciler.model.errors import PortConflictError, StateError
from reconciler.model.observed import Identity, LaunchRecord, Medium
from reconciler.model.vm import Link
from reconciler.qemu import guest_agent, isos, live, media, pluggable
from reconciler.qemu.answers import Execute
from reconciler.qemu.devices import CD_DRIVE
from reconciler.qemu.identity import MAC_RANDOM_BYTES, mac_address


@dataclass(frozen=True)
class Adjuster:
    """Changes running QEMUs. One serves all workers."""

    doors: Doors

    def adjust(self, name: str, action: Adjust) -> None:
        """Do one action, and remember what has to be. Raises ReconcilerError or OSError."""
        memory, record = self.doors.launched(name)
        execute = self.doors.session(name, record)
        doubtful = begun(memory, action)
        if doubtful != memory:
            self.doors.records.save_lifecycle(name, doubtful)
        self._do(name, action, record, execute)
        after = remembered(doubtful, action, self.doors.clock.now_s())
        if after != doubtful:
            self.doors.records.save_lifecycle(name, after)

    def _do(self, name: str, action: Adjust, record: LaunchRecord, execute: Execute) -> None:
        match action:
            case PlugDisk():
                self._plug_disk(name, action, record, execute)
            case PlugNic():
                self._plug_nic(name, action, record, execute)
            case ChangeMedium(medium=medium, force=force):
                self._change_medium(execute, medium, force=force)
            case MoveVnc():
                self._move_vnc(name, action, record, execute)
            case NoteVnc(port=port):
                self._note_vnc(name, port)
            case UseCpus(cores=cores):
                guest_agent.set_online_cpus(self.doors.layout.sockets(record.uuid).guest_agent, cores)
            case _:
                _by_qmp(action, execute)

    def _identity(self, name: str) -> Identity:
        identity = self.doors.records.identity(name)
        if identity is None:
            raise StateError(f"{name}: its identity is gone")
        return identity

    def _plug_disk(self, name: str, action: PlugDisk, record: LaunchRecord, execute: Execute) -> None:
        device = pluggable.disk_device(record.spec.profile, action.disk.name, action.port)
        with self.doors.images.opened(self.doors.layout.vm(name).data_disk(action.disk.name)) as fd:
            self._give_port(name, pluggable.disk_id(action.disk.name), action.port)
            live.plug_disk(execute, device, fd)

    def _plug_nic(self, name: str, action: PlugNic, record: LaunchRecord, execute: Execute) -> None:
        device = pluggable.nic_id(action.nic.name)
        mac = self._give_port(name, device, action.port).macs[device]
        live.plug_nic(
            execute,
            pluggable.nic_device(record.spec.profile, action.nic.name, action.port, mac),
            pluggable.netdev(action.nic.name, action.port),
        )

    def _give_port(self, name: str, device: str, port: int) -> Identity:
        """Make durable which port a device has, before it has it."""
        before = self._identity(name)
        ports = {one: place for one, place in before.ports.items() if place != port}
        identity = replace(before, ports={**ports, device: port}, macs=with_mac(before, (device,)).macs)
        if identity != before:
            self.doors.records.save_identity(name, identity)
        return identity

    def _change_medium(self, execute: Execute, medium: Medium | None, *, force: bool) -> None:
        if medium is None:
            media.eject(execute, force=force)
            return
        opened = isos.open_medium(medium.path, self.doors.layout.iso, self.doors.iso_roots)
        try:
            media.insert(execute, medium.node_name, opened.fd, force=force)
        finally:
            os.close(opened.fd)

    def _move_vnc(self, name: str, action: MoveVnc, record: LaunchRecord, execute: Execute) -> None:
        """Move the screen; one whose new port is not free yet makes room, where another is waiting for its old one."""
        try:
            self._serve_vnc(name, action.port, execute)
        except PortConflictError:
            if self.doors.ports.is_in_the_way(name, record.vnc_port):
                self._serve_vnc(name, self.doors.ports.offer(name), execute)
            raise
        if action.chosen:
            self.doors.records.save_identity(name, replace(self._identity(name), vnc_port=action.port))

    def _serve_vnc(self, name: str, port: int, execute: Execute) -> None:
        """Both ports are closed to guests before QEMU leaves the one for the other, and until it has."""
        self.doors.ports.take_as_well(name, port)
        self.doors.firewall.keep()
        try:
            live.move_vnc(execute, port)
        except PortConflictError:
            self.doors.ports.let_go(name, port)
            self.doors.firewall.keep()
            raise
        self._note_vnc(name, port)

    def _note_vnc(self, name: str, port: int) -> None:
        memory, record = self.doors.launched(name)
        if record.vnc_port != port:
            self.doors.records.save_lifecycle(name, replace(memory, launch=replace(record, vnc_port=port)))
        self.doors.ports.take(name, port)
        self.doors.firewall.keep()


def with_mac(identity: Identity, devices: tuple[str, ...]) -> Identity:
    """The identity with a MAC address for each of these network cards; an address once given is kept."""
    nics = (device for device in devices if device.startswith("nic-") and device not in identity.macs)
    made = {device: mac_address(secrets.token_bytes(MAC_RANDOM_BYTES)) for device in nics}
    return replace(identity, macs={**identity.macs, **made})


@singledispatch
def _by_qmp(action: Adjust, _execute: Execute) -> None:
    """The actions that are QMP alone."""
    raise TypeError(f"no hand for {action!r}")


@_by_qmp.register
def _(_action: AskForMedium, execute: Execute) -> None:
    execute("blockdev-open-tray", {"id": CD_DRIVE})


@_by_qmp.register
def _(action: ResizeDisk, execute: Execute) -> None:
    live.resize_disk(execute, action.node_name, action.size_bytes)


@_by_qmp.register
def _(action: LimitDisk, execute: Execute) -> None:
    live.limit_disk(execute, action.qdev, action.throttle)


@_by_qmp.register
def _(action: Unplug, execute: Execute) -> None:
    live.unplug(execute, action.device)


@_by_qmp.register
def _(action: DropNode, execute: Execute) -> None:
    live.drop_node(execute, action.node_name)


@_by_qmp.register
def _(action: DropNetdev, execute: Execute) -> None:
    live.drop_netdev(execute, action.netdev)


@_by_qmp.register
def _(action: SetLink, execute: Execute) -> None:
    live.set_link(execute, action.device, up=action.link is Link.UP)


@_by_qmp.register
def _(action: SetWatchdog, execute: Execute) -> None:
    live.set_action(execute, "watchdog", action.action)


@_by_qmp.register
def _(action: SetReboot, execute: Execute) -> None:
    live.set_action(execute, "reboot", action.action)


@_by_qmp.register
def _(action: PlugCpus, execute: Execute) -> None:
    live.plug_cpus(execute, action.cores)


@_by_qmp.register
def _(action: SetMemory, execute: Execute) -> None:
    live.set_memory(execute, action.requested_bytes, action.balloon_bytes)


@_by_qmp.register
def _(action: AddForward, execute: Execute) -> None:
    live.add_forward(execute, action.forward)


@_by_qmp.register
def _(action: RemoveForward, execute: Execute) -> None:
    live.remove_forward(execute, action.forward)


@_by_qmp.register
def _(action: SetBootOrder, execute: Execute) -> None:
    live.set_boot_order(execute, action.order)
