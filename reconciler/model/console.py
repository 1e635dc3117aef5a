"""A console of a VM, as values: the service that browsers reach it by, and the VNC server behind it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gateway:
    """A noVNC service: the process and the port of its web pages."""

    pid: int
    web_port: int


@dataclass(frozen=True)
class Target:
    """A VM's VNC server on the loopback: its port, and the QEMU that must live for the port to be that VM's."""

    port: int
    pid: int
    start_ticks: int
