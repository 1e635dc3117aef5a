"""What is kept of runs that came to a bad end: why, the ends of the logs, the last screen. The last few of each VM."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import msgspec

from reconciler import durable
from reconciler.layout import CrashDir, VMDir
from reconciler.model.crash import CrashReport
from reconciler.storage import logs

KEPT = 5  # of a crash loop, the last ones tell the same as the rest
TAIL_BYTES = 256 * 1024


def keep(home: VMDir, bundle: str, report: CrashReport) -> CrashDir:
    """Put together what is left of a run; a bundle that is whole already stays as it is.

    The last screen is moved in at the end: it needs no space. Raises OSError, with nothing left of the attempt.
    """
    directory = home.crash(bundle)
    if not directory.reason.exists():
        try:
            _put_together(home, directory, report)
        except OSError:
            shutil.rmtree(directory.path, ignore_errors=True)
            raise
    with contextlib.suppress(FileNotFoundError):
        home.screen.replace(directory.screen)
    _forget_old(home, directory)
    return directory


def _put_together(home: VMDir, directory: CrashDir, report: CrashReport) -> None:
    """The report comes last, so that a bundle that has one is whole."""
    directory.path.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory.qemu_log.write_bytes(logs.read_tail(home.qemu_log, TAIL_BYTES))
    directory.serial_log.write_bytes(logs.read_tail(home.serial_log, TAIL_BYTES))
    durable.write(directory.reason, msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


def _forget_old(home: VMDir, newest: CrashDir) -> None:
    """Of the others, the last that are whole stay; the newest does, whatever the clock says of it."""
    others = {path for path in home.crashes.iterdir() if path.is_dir() and path != newest.path}
    whole = sorted((path for path in others if CrashDir(path).reason.exists()), key=_made_ns)
    for old in others.difference(whole[1 - KEPT :]):
        shutil.rmtree(old, ignore_errors=True)


def _made_ns(path: Path) -> int:
    return CrashDir(path).reason.stat().st_mtime_ns
