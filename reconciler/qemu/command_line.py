"""The whole command line of one VM's QEMU. Pure: the same machine gives the same words.

What the base says: no device but ours; halted until `cont`; a guest's power-off or panic leaves a QEMU that
can still be asked what happened; no file of a user is read, no program started, no privilege gained.
"""

from __future__ import annotations

import re

from reconciler.model.errors import StateError
from reconciler.model.vm import Accel, Profile
from reconciler.qemu import devices, pluggable
from reconciler.qemu.devices import Argv
from reconciler.qemu.machine import Machine

_MACHINE_TYPE = re.compile(r"[a-z0-9][a-z0-9.-]*\Z")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


def command_line(machine: Machine, binary: str) -> tuple[str, ...]:
    """The argv of `machine`'s QEMU. Raises StateError where what the agent keeps of the VM is not usable."""
    return (
        binary,
        *_base(machine),
        *_board(machine),
        *_cpu(machine),
        *devices.monitors(machine),
        *devices.graphics(machine),
        *devices.pointer(machine),
        *devices.root_disk(machine),
        *devices.cd_drive(machine),
        *devices.network(machine),
        *devices.serial_console(machine),
        *devices.guest_agent(machine),
        *devices.panic_notifier(machine),
        *devices.entropy(machine),
        *devices.balloon(machine),
        *devices.extra_memory(machine),
        *devices.watchdog(machine),
        *pluggable.pieces(machine),
    )


def _base(machine: Machine) -> Argv:
    return (
        "-nodefaults",
        "-no-user-config",
        "-S",
        *("-name", f"guest={machine.name},process=vm-{machine.name},debug-threads=on"),
        *("-uuid", _checked(_UUID, machine.identity.uuid)),
        *("-msg", "timestamp=on"),
        *("-display", "none"),
        *("-action", "reboot=reset,shutdown=pause,panic=pause"),
        *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"),
    )


def _board(machine: Machine) -> Argv:
    """What the board has and we do not use costs 10 ms at each start."""
    board = _checked(_MACHINE_TYPE, machine.identity.machine)
    sata = "on" if machine.spec.profile is Profile.COMPATIBLE else "off"
    return (
        *("-machine", f"{board},sata={sata},smbus=off,vmport=off,usb=off"),
        *("-boot", "strict=on"),
        *("-m", _memory(machine)),
    )


def _cpu(machine: Machine) -> Argv:
    cores, most = machine.spec.cpu_cores, machine.spec.most_cpu_cores
    return (
        *("-accel", machine.accel.value),
        *("-cpu", cpu_model(machine.accel)),
        *("-smp", f"{cores:d},maxcpus={most:d},sockets=1,cores={most:d},threads=1"),
    )


def _memory(machine: Machine) -> str:
    """`maxmem` costs a guest 64 MiB, so it is given only where memory may be added."""
    base_mib, extra_mib = machine.spec.memory_mib, machine.extra_memory_mib
    return f"{base_mib:d}M" + (f",maxmem={base_mib + extra_mib:d}M" if extra_mib else "")


def cpu_model(accel: Accel) -> str:
    """The CPU that a guest sees: all that the host has, or all that QEMU can play.

    QEMU's own default under TCG lacks what today's distributions are compiled for (x86-64-v2).
    """
    return "host" if accel is Accel.KVM else "max"


def _checked(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.match(text):
        raise StateError(f"identity.json: {text!r} is not what the agent wrote there")
    return text
