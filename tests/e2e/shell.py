"""The shell on a guest's serial console: what the guest itself says."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.e2e.site import Site


@dataclass
class Shell:
    """The shell on the serial console of a guest: what is typed there is done in it."""

    line: socket.socket
    typed: int = 0

    def run(self, command: str) -> tuple[int, str]:
        """The exit status of a command, and what was on the console until it ended."""
        self.typed += 1
        mark = f"MARK{self.typed}="
        self.line.sendall(f"{command}; echo {mark[:-1]}''=$?\n".encode())  # its own echo has the quotes
        seen = ""
        while "\n" not in seen.partition(mark)[2]:
            seen += self.line.recv(4096).decode(errors="replace")
        printed, _, rest = seen.partition(mark)
        return int(rest.split()[0]), printed

    def says(self, command: str) -> str:
        """What a command prints; it has to succeed."""
        status, printed = self.run(command)
        assert status == 0, f"{command}: {status}: {printed}"
        return _after_echo(printed)

    def leave(self, command: str) -> None:
        """Type a last command, and let go of the console, which serves one at a time; what it has not taken is lost."""
        self.line.sendall(f"{command}\n".encode())
        echoed = b""
        while f"{command}\r\n".encode() not in echoed:
            echoed += self.line.recv(4096)
        self.line.close()

    def prints(self, command: str) -> str:
        """What a command prints, whether or not it succeeds."""
        return _after_echo(self.run(command)[1])


def _after_echo(printed: str) -> str:
    return printed.rpartition("''=$?")[2].strip()


@contextmanager
def shell(site: Site, name: str) -> Iterator[Shell]:
    """The shell of a guest that is up."""
    site.wait_serial(name, "GUEST-READY")
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(site.run / "by-name" / name / "serial.sock"))
        line.sendall(b"sh 2>&1 | cat\n")  # one that edits no lines: the editor wraps and redraws long ones
        line.settimeout(60)
        guest = Shell(line)
        guest.run("true")  # after the greeting of the first one
        yield guest
