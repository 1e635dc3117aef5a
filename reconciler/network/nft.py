"""The nftables rules that close ports of this host's loopback to guests, and the program that sets them.

One table of our own for each agent: nobody else's rules are touched, two agents do not fight, and what one transaction
says of it is there as a whole or not at all. Matched are connections that QEMU's user opens, and of these their first
packets; a guest's traffic to anywhere else goes on. Next: `reconciler.network.firewall`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.model.errors import FirewallError

PROGRAM = "nft"
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"  # not in every user's PATH
TIMEOUT_S = 10.0  # it takes milliseconds; other programs' transactions may hold it up


def table_name(state_dir: Path) -> str:
    """The name of an agent's table: by its state directory, which no other agent shares."""
    return "reconciler_" + hashlib.sha256(os.fsencode(state_dir.resolve())).hexdigest()[:8]


@dataclass(frozen=True)
class VncRules:
    """The scripts for one table. Pure. `uid` is the user that QEMU runs as."""

    table: str
    uid: int

    def change(self, before: frozenset[int] | None, wanted: frozenset[int]) -> str:
        """From the ports that are closed now to those that should be; None: what is there is not known.

        Small steps where they do: they take the kernel a tenth of the time.
        """
        if before is None:
            return self._removed(surely_there=False) + (self._made(wanted) if wanted else "")
        if not wanted:
            return self._removed(surely_there=True)
        if not before:
            return self._made(wanted)
        return self._elements("add", wanted - before) + self._elements("delete", before - wanted)

    def _made(self, ports: frozenset[int]) -> str:
        return f"""table inet {self.table} {{
  comment "reconciler: guests do not reach VNC"
  set vnc_ports {{
    type inet_service
    elements = {{ {_listed(ports)} }}
  }}
  chain output {{
    type filter hook output priority filter; policy accept;
    meta skuid {self.uid} oifname "lo" tcp dport @vnc_ports tcp flags & (syn | ack) == syn reject with tcp reset
  }}
}}
"""

    def _removed(self, *, surely_there: bool) -> str:
        delete = f"delete table inet {self.table}\n"
        return delete if surely_there else f"table inet {self.table}\n{delete}"

    def _elements(self, verb: str, ports: frozenset[int]) -> str:
        return f"{verb} element inet {self.table} vnc_ports {{ {_listed(ports)} }}\n" if ports else ""


def apply(script: str) -> None:
    """Do all of a script, or nothing of it. Raises FirewallError."""
    _run(("-f", "-"), script)


def listing(table: str) -> str:
    """What is in force of a table, as text; empty where there is none. Raises FirewallError."""
    question = ("--stateless", "list", "table", "inet", table)
    try:
        return _run(question)
    except FirewallError:
        if table not in _run(("list", "tables", "inet")).split():
            return ""
    return _run(question)  # it came in between, or this says again what is wrong


def program() -> str | None:
    """The path of nft, if it is installed."""
    return shutil.which(PROGRAM, path=os.pathsep.join((os.environ.get("PATH", os.defpath), SBIN)))


def _run(arguments: Sequence[str], script: str = "") -> str:
    path = program()
    if path is None:
        raise FirewallError("NoNftables", f"there is no program {PROGRAM}: install nftables")
    try:
        done = subprocess.run(
            (path, *arguments), input=script, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise FirewallError("FirewallFailed", f"{PROGRAM}: {error}") from error
    if done.returncode:
        words = " / ".join(line.strip() for line in done.stderr.splitlines()[:2])
        raise FirewallError("FirewallFailed", f"{PROGRAM} says: {words}")
    return done.stdout


def _listed(ports: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(ports)))
