"""A machine for tests of the command line."""

from __future__ import annotations

from dataclasses import replace

from reconciler.model.vm import Accel, VMSpec
from reconciler.qemu.identity import new_identity
from reconciler.qemu.machine import Machine, SocketFds

UUID = "6f1d3c52-0d37-4f0e-9a5c-3f2f6d0c7b11"
IDENTITY = new_identity(UUID, b"\x12\x34\x56", "pc-q35-7.2")
MACHINE = Machine(
    name="web-1",
    spec=VMSpec(memory_mib=2048, cpu_cores=2),
    identity=IDENTITY,
    accel=Accel.TCG,
    vnc_port=5901,
    disk_fd=10,
    serial_log_fd=11,
    sockets=SocketFds(qmp=12, human=13, serial=14, guest_agent=15),
)


def machine_of(**spec: object) -> Machine:
    """The sample, with these fields of its spec changed."""
    return replace(MACHINE, spec=replace(MACHINE.spec, **spec))  # type: ignore[arg-type]


def as_text(argv: tuple[str, ...]) -> str:
    """A line for each option and its value, as a person reads a command line."""
    return " ".join(argv).replace(" -", "\n-")
