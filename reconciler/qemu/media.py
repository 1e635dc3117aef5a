"""Changing the medium in the CD drive of a running VM: by blockdev commands and descriptors, never by a path.

QEMU is given no name that it could open or dial (`json:`, `nbd:`, `fat:`), only a descriptor that the agent
opened and checked (`reconciler.qemu.isos`). Each step may be the last one done before a crash, so each change
first clears away what an earlier one left, going by QEMU's own lists.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping

from reconciler.model.errors import MediumLockedError, QemuError, QmpError
from reconciler.model.observed import CdDrive
from reconciler.qemu.answers import Execute, mapping, mappings, member
from reconciler.qemu.devices import CD_DRIVE, iso_node
from reconciler.qemu.view import cd_drive

_NODE = re.compile(r"iso-[0-9a-f]{16}")


TRAY_TRIES = 5


def node_name(real_path: str) -> str:
    """QEMU's name for the block node of the ISO at this path (at most 31 characters, the file node's too)."""
    return "iso-" + hashlib.sha256(os.fsencode(real_path)).hexdigest()[:16]


def insert(execute: Execute, node: str, fd: int, *, force: bool = False) -> None:
    """Put the ISO behind `fd` into the drive, as block node `node`, in place of what lies there.

    `fd` stays the caller's. Raises QemuError, of which MediumLockedError: the guest holds the old medium, and
    has been asked to let go (DEVICE_TRAY_MOVED tells when it does); `force` tears it out.
    """
    before = _drive(execute)
    if before.node_name == node and not before.tray_open:
        return
    _take_out(execute, force=force)
    try:
        _add(execute, node, fd)
        _with_open_tray(execute, "blockdev-insert-medium", {"node-name": node}, force=force)
    except QmpError:  # refused, by a QEMU that goes on
        execute("blockdev-close-tray", {"id": CD_DRIVE})
        raise
    execute("blockdev-close-tray", {"id": CD_DRIVE})


def eject(execute: Execute, *, force: bool = False) -> None:
    """Take out what lies in the drive, and leave it empty and closed. Raises as `insert` does."""
    if _drive(execute).node_name is not None:
        _take_out(execute, force=force)
        execute("blockdev-close-tray", {"id": CD_DRIVE})


def _drive(execute: Execute) -> CdDrive:
    drive = cd_drive(execute("query-block"))
    if drive is None:
        raise QemuError(f"this QEMU has no CD drive {CD_DRIVE!r}: it was started without one")
    return drive


def _with_open_tray(execute: Execute, command: str, arguments: Mapping[str, object], *, force: bool) -> None:
    """Run a command that needs the tray open. A guest may close it in between (Linux does, at any access)."""
    for last_time in (*[False] * TRAY_TRIES, True):
        _open_tray(execute, force=force)
        try:
            execute(command, {"id": CD_DRIVE, **arguments})
            return
        except QmpError:
            if last_time or _drive(execute).tray_open:
                raise


def _open_tray(execute: Execute, *, force: bool) -> None:
    """QEMU answers with success where it has only asked the guest, so the drive is looked at again.

    A tray that is closed and not locked was open, and the guest has closed it: the next command will tell.
    """
    if _drive(execute).tray_open:
        return
    execute("blockdev-open-tray", {"id": CD_DRIVE, "force": force})
    drive = _drive(execute)
    if drive.locked and not drive.tray_open:
        raise MediumLockedError("the guest holds the CD drive locked; unmount the CD there, or use force")


def _take_out(execute: Execute, *, force: bool) -> None:
    """Empty the drive, and give back every block node and descriptor that any medium left behind."""
    if _drive(execute).node_name is not None:
        _with_open_tray(execute, "blockdev-remove-medium", {}, force=force)
    for node in mappings(execute("query-named-block-nodes", {"flat": True}), "query-named-block-nodes"):
        if _is_ours(node.get("node-name")):
            execute("blockdev-del", {"node-name": node["node-name"]})
    for fdset in mappings(execute("query-fdsets"), "query-fdsets"):
        if any(_is_ours(fd.get("opaque")) for fd in mappings(fdset.get("fds"), "query-fdsets")):
            execute("remove-fd", {"fdset-id": member(fdset, "fdset-id", int, "query-fdsets")})


def _add(execute: Execute, node: str, fd: int) -> None:
    """QEMU chooses the fd set's number, so that it is nobody else's; the node's name marks it for later."""
    added = mapping(execute("add-fd", {"opaque": node}, fd=fd), "add-fd")
    fdset = member(added, "fdset-id", int, "add-fd")
    execute("blockdev-add", iso_node(node, fdset))


def _is_ours(name: object) -> bool:
    """Whether this names an ISO's node, and not the file below it, which goes with it."""
    return isinstance(name, str) and _NODE.fullmatch(name) is not None
