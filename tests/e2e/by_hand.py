"""QEMUs as people start them by hand, who know nothing of the agent."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.shell import Shell
from tests.e2e.site import Site, wait_for

WORDS = ("-display", "none", "-m", "128")


@dataclass(frozen=True)
class ByHand:
    """A QEMU that was started by hand, and the directory that it stands in."""

    process: subprocess.Popen[bytes]
    home: Path
    serial_log: Path

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    @property
    def qmp(self) -> Path:
        """Its QMP socket."""
        return self.home / "qmp.sock"

    def end(self) -> None:
        """End it as Ctrl-C would."""
        self.process.terminate()
        self.process.wait(30)

    @contextlib.contextmanager
    def shell(self) -> Iterator[Shell]:
        """The shell of its guest, which is up; `serial` has to be among its words."""
        log = self.serial_log
        wait_for("the guest is up", lambda: log.exists() and b"GUEST-READY" in log.read_bytes(), 100)
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(self.home / "serial.sock"))
            line.sendall(b"sh 2>&1 | cat\n")
            line.settimeout(60)
            guest = Shell(line)
            guest.run("true")
            yield guest


def serial(site: Site) -> tuple[str, ...]:
    """A serial console on a socket, and in a file."""
    console = f"socket,id=console,path=serial.sock,server=on,wait=off,logfile={site.root}/serial.log"
    return "-chardev", console, "-serial", "chardev:console"


def disk(home: Path, form: str = "qcow2", size: str = "1G") -> str:
    """An empty disk; returns its name."""
    words = ["qemu-img", "create", "-q", "-f", form, f"disk.{form}", size]
    subprocess.run(words, cwd=home, check=True, timeout=60)
    return f"disk.{form}"


@contextlib.contextmanager
def by_hand(site: Site, *words: str, name: str = "hand") -> Iterator[ByHand]:
    """A QEMU with these words, which ends with the block; it stands in a directory of its own."""
    home = site.run / name  # short, as sockets want it
    home.mkdir(exist_ok=True)
    qmp = ("-qmp", "unix:qmp.sock,server=on,wait=off")
    with (home / "stderr").open("wb") as log:
        started = subprocess.Popen(["qemu-system-x86_64", *WORDS, *qmp, *words], cwd=home, stderr=log)
    try:
        found = ByHand(started, home, site.root / "serial.log")
        wait_for("its QMP socket is there", lambda: found.qmp.exists() or started.poll() is not None)
        assert started.poll() is None, (home / "stderr").read_text()
        yield found
    finally:
        started.kill()
        started.wait(30)


def reconciler(site: Site, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """The command line, with this site's directories."""
    settings = {"RECONCILER_STATE_DIR": str(site.state), "RECONCILER_RUN_DIR": str(site.run)}
    return subprocess.run(
        [sys.executable, "-m", "reconciler", *map(str, words)],
        env=os.environ | settings | {"RECONCILER_MANIFESTS": str(site.manifests)},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
