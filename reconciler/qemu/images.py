"""Disk images: made whole or not at all, never replaced or shrunk, refused where they lead to another file.

A guest writes its own disk, and nothing it may have left in a header is to reach the agent. So the head is
read here first (`qcow2`); qemu-img then works as QEMU's user, with bounded time and memory, on a descriptor
of just that file.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from reconciler import durable
from reconciler.model.errors import ImageError
from reconciler.qemu import qcow2
from reconciler.settings import QemuUser

CPU_MAX_S = 10
MEMORY_MAX_BYTES = 1024**3
LIMITS = ("prlimit", f"--cpu={CPU_MAX_S}", f"--as={MEMORY_MAX_BYTES}", "--")  # costs 1 ms, and no privilege
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}


@dataclass(frozen=True)
class Images:
    """Makes, grows and inspects qcow2 files, which belong to `owner` (None: to the agent's own user)."""

    owner: QemuUser | None
    program: str = "qemu-img"
    timeout_s: float = 30.0

    def create(self, path: Path, size_bytes: int) -> None:
        """Make an image, mode 0600. It is there as a whole when this returns, also after a power cut.

        A file that is there already is never replaced. Raises ImageError; then `path` is as it was.
        """
        temporary = path.with_name(f".{path.name}.new")
        try:
            temporary.unlink(missing_ok=True)  # of an agent that was killed here
            with self._opened(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL) as image:
                self._run(image, "create", "-q", "-f", "qcow2", "--", _name(image), str(size_bytes))
                os.fsync(image)
            os.link(temporary, path, follow_symlinks=False)
            durable.sync_directory(path.parent)
        except OSError as error:
            raise ImageError(f"cannot make the disk {path}: {error}") from error
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def grow(self, path: Path, size_bytes: int) -> None:
        """Grow an image that no QEMU has open. Raises ImageError, also where that would shrink it."""
        present = self.inspect(path)
        if size_bytes < present:
            raise ImageError(f"{path} holds {present} bytes and is not shrunk to {size_bytes}")
        if size_bytes > present:
            with self._opened(path, os.O_RDWR) as image:
                self._run(image, "resize", "-q", "-f", "qcow2", "--", _name(image), str(size_bytes))
                os.fsync(image)

    def inspect(self, path: Path) -> int:
        """Virtual size in bytes of an image that may be used, running or not. Raises ImageError.

        The head of the file says all that matters; `qemu-img info` would say it too, 20 ms later at each start.
        """
        with self._opened(path, os.O_RDONLY) as image:
            return qcow2.virtual_size(os.pread(image, qcow2.HEAD_BYTES, 0), str(path))

    @contextmanager
    def opened(self, path: Path) -> Iterator[int]:
        """A disk that may be used, open for reading and writing, for QEMU. Raises ImageError."""
        with self._opened(path, os.O_RDWR) as image:
            yield image

    @contextmanager
    def _opened(self, path: Path, flags: int) -> Iterator[int]:
        """A regular file, its owner put right: qemu-img opens it anew through the descriptor."""
        try:
            image = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ImageError(f"the disk {path} cannot be opened: {error.strerror}") from error
        try:
            status = os.fstat(image)
            if not stat.S_ISREG(status.st_mode):
                raise ImageError(f"the disk {path} is not a regular file, and is not used")
            if self.owner is not None and (status.st_uid, status.st_gid) != (self.owner.uid, self.owner.gid):
                os.fchown(image, self.owner.uid, self.owner.gid)
            yield image
        except OSError as error:
            raise ImageError(f"the disk {path}: {error.strerror}") from error
        finally:
            os.close(image)

    def _run(self, image: int, *arguments: str) -> str:
        """qemu-img's output. Raises ImageError with its last words."""
        what = f"{self.program} {arguments[0]}"
        try:
            child = self._start(image, arguments)
        except (OSError, subprocess.SubprocessError) as error:
            raise ImageError(f"{what} could not be started: {error}") from error
        with child:
            try:
                output, complaint = child.communicate(timeout=self.timeout_s)
            except subprocess.TimeoutExpired as error:
                child.kill()
                raise ImageError(f"{what} was given up after {self.timeout_s:g} s") from error
        if child.returncode != 0:
            raise ImageError(f"{what} failed ({child.returncode}): {complaint.strip()[-500:]}")
        return output

    def _start(self, image: int, arguments: tuple[str, ...]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            (*LIMITS, self.program, *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            pass_fds=(image,),
            cwd="/",
            env=ENVIRONMENT,
            start_new_session=True,
            user=self.owner.uid if self.owner else None,
            group=self.owner.gid if self.owner else None,
            extra_groups=() if self.owner else None,
        )


def _name(image: int) -> str:
    """By which a child that has the descriptor opens the same file, whatever lies at its path by then."""
    return f"/proc/self/fd/{image:d}"
