"""A QEMU that somebody else started, from outside: whose socket that is, what process, which file is its disk.

Nothing is taken on trust: the kernel says who listens on a socket, and a file counts as a disk only if that very
process has it open. Next: `reconciler.qemu.survey`, which asks the QEMU itself.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reconciler.model.errors import ImageError, ImportRefusedError
from reconciler.qemu import qcow2
from reconciler.qemu.session import listener

PROC = Path("/proc")
CONNECT_TIMEOUT_S = 2.0
PROGRAMS = ("qemu-system-", "qemu-kvm", "kvm")
BUSY = (
    "QMP serves one client at a time: is another connected (a script, a shell, libvirt)? Close that one first"
)


def listening_at(path: Path) -> int:
    """The process that serves the Unix socket at this path. Raises ImportRefusedError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(CONNECT_TIMEOUT_S)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError as error:
            why = "nobody listens on it" if stat.S_ISSOCK(path.stat().st_mode) else "it is no socket"
            raise ImportRefusedError(f"{path}: {why}") from error
        except (BlockingIOError, TimeoutError) as error:
            raise ImportRefusedError(f"{path}: no connection is taken. {BUSY}") from error
        except OSError as error:
            raise ImportRefusedError(f"{path}: {error.strerror or error}") from error
        return listener(probe)


def program(pid: int) -> str:
    """The file that this process runs, or nothing where that cannot be seen."""
    with suppress(OSError):
        return os.readlink(PROC / str(pid) / "exe").removesuffix(" (deleted)")
    return ""


def is_qemu(program_path: str) -> bool:
    """Whether a program of this name is a QEMU that runs VMs."""
    return Path(program_path).name.startswith(PROGRAMS)


def full_path(pid: int, file: str) -> Path:
    """A file as the process names it, wherever that one stands. Raises OSError."""
    return Path(os.readlink(PROC / str(pid) / "cwd")) / file


@contextmanager
def image_of(pid: int, file: str) -> Iterator[int]:
    """A qcow2 image that this process has open, as a descriptor that only names it.

    Raises ImageError for what the agent could not start from as it is.
    """
    try:
        found = os.open(full_path(pid, file), os.O_PATH | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise ImageError(f"{file!r} is not to be found as a file") from error
    try:
        _check(pid, file, found)
        yield found
    finally:
        os.close(found)


def link(image: int, target: Path) -> None:
    """A second name for the file behind this descriptor. Raises OSError: EXDEV on another file system."""
    os.link(
        f"/proc/self/fd/{image}", target, src_dir_fd=image, follow_symlinks=True
    )  # with none it follows nothing


def _check(pid: int, file: str, image: int) -> None:
    status = os.fstat(image)
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{file} is no regular file")
    if (status.st_dev, status.st_ino) not in set(_open_files(pid)):
        raise ImageError(f"{file} is another file by now than the one that QEMU has open")
    head = os.open(f"/proc/self/fd/{image}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        qcow2.virtual_size(os.pread(head, qcow2.HEAD_BYTES, 0), file)
    finally:
        os.close(head)


def _open_files(pid: int) -> Iterator[tuple[int, int]]:
    folder = PROC / str(pid) / "fd"
    for name in os.listdir(folder):
        with suppress(OSError):
            status = os.stat(folder / name)
            yield status.st_dev, status.st_ino
