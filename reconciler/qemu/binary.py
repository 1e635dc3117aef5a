"""What the installed QEMU is: its version, and the name behind a machine alias. Each starts it once."""

from __future__ import annotations

import re
import subprocess

from reconciler.model.errors import SpawnError
from reconciler.qemu.identity import versioned_machine

TIMEOUT_S = 10.0  # 15 ms on an idle host


def version(binary: str) -> str:
    """The version with the distribution's own, such as `7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)`.

    Raises SpawnError where there is no such program, or it is no QEMU.
    """
    output = _output(binary, "--version")
    found = re.match(r"QEMU emulator version (.+)", output)
    if found is None:
        raise SpawnError(f"{binary} is no QEMU: it says {output[:80]!r}")
    return found[1].strip()


def machine_type(binary: str, alias: str = "q35") -> str:
    """The versioned machine that `alias` stands for today, such as pc-q35-7.2. Raises QemuError."""
    return versioned_machine(_output(binary, "-machine", "help"), alias)


def _output(*command: str) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S, check=True
        )
    except FileNotFoundError as error:
        raise SpawnError(
            f"there is no program {command[0]}: install qemu-system-x86 (`make setup`)"
        ) from error
    except (OSError, subprocess.SubprocessError) as error:
        raise SpawnError(f"{' '.join(command)} failed: {error}") from error
    return done.stdout
