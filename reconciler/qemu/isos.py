"""Opening an ISO that a manifest names: a regular file below an allowed directory, and nothing else.

The path is first opened without effect (O_PATH: no device wakes, no FIFO waits). What was found is judged by
the real path and the kind of that very descriptor, and only then opened for reading, through the descriptor:
between judging and opening nothing can be exchanged. QEMU gets the descriptor and never a path.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reconciler.model.errors import PathError
from reconciler.model.observed import Fault, Medium
from reconciler.qemu.media import node_name

NEVER = (Path("/dev"), Path("/proc"), Path("/sys"))
"""Below these nothing is a medium, whatever directories are allowed."""


@dataclass(frozen=True)
class OpenedMedium:
    """An ISO, open for reading. Close `fd` when QEMU has it."""

    fd: int
    real_path: str

    @property
    def node_name(self) -> str:
        """QEMU's name for it."""
        return node_name(self.real_path)


def open_medium(path_text: str, iso_dir: Path, roots: Sequence[Path]) -> OpenedMedium:
    """Open the ISO that a manifest names: relative to `iso_dir`, or absolute, below it or one of `roots`.

    Raises PathError: IsoNotFound, IsoNotAllowed, IsoNotAFile, IsoUnreadable.
    """
    with _found(path_text, iso_dir) as found:
        real_path = os.readlink(f"/proc/self/fd/{found}")
        _check_allowed(path_text, real_path, (iso_dir, *roots))
        _check_kind(path_text, os.fstat(found))
        try:
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
            return OpenedMedium(os.open(f"/proc/self/fd/{found}", flags), real_path)
        except OSError as error:
            raise PathError("IsoUnreadable", _says(path_text, error)) from error


def look_at(path_text: str, iso_dir: Path, roots: Sequence[Path]) -> Medium | Fault:
    """What `open_medium` would give, as a value, with nothing left open."""
    try:
        opened = open_medium(path_text, iso_dir, roots)
    except PathError as error:
        return Fault(error.reason, str(error))
    os.close(opened.fd)
    return Medium(opened.real_path, opened.node_name)


@contextmanager
def _found(path_text: str, iso_dir: Path) -> Iterator[int]:
    """A descriptor that only names a file. Joining with an absolute path gives that path."""
    try:
        found = os.open(iso_dir / path_text, os.O_PATH | os.O_CLOEXEC)
    except (OSError, ValueError) as error:  # ValueError: a NUL, or a lone surrogate
        raise PathError("IsoNotFound", f"{_says(path_text, error)} (looked in {iso_dir})") from error
    try:
        yield found
    finally:
        os.close(found)


def _check_allowed(path_text: str, real_path: str, allowed: Sequence[Path]) -> None:
    real = Path(real_path)
    inside = any(real.is_relative_to(os.path.realpath(root)) for root in allowed)
    if not inside or any(real.is_relative_to(root) for root in NEVER):
        names = ", ".join(str(root) for root in allowed)
        where = "" if path_text == real_path else f" leads to {real_path}, which"
        raise PathError(
            "IsoNotAllowed",
            f"spec.isoPath: {path_text!r}{where} is not below an allowed directory ({names}): move it there",
        )


def _check_kind(path_text: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise PathError("IsoNotAFile", f"spec.isoPath: {path_text!r} is not a regular file")
    if status.st_nlink == 0:
        raise PathError("IsoNotFound", f"spec.isoPath: {path_text!r} was deleted just now")


def _says(path_text: str, error: OSError | ValueError) -> str:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return f"spec.isoPath: {path_text!r}: {reason}"
