"""`settings.listen`: which addresses the API listens on, and whether they are this machine's own.

`localhost:3000`, the default, is both loopbacks. Next: `reconciler.api.server`.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass

import psutil

from reconciler.model.errors import SettingsError

_FORM = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9.-]+)):(?P<port>[0-9]{1,5})\Z")

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Listen:
    """A host and a TCP port; port 0 lets the kernel choose one."""

    host: str
    port: int

    @staticmethod
    def parse(text: str) -> Listen:
        """From `HOST:PORT` or `[IPV6]:PORT`. Raises SettingsError."""
        form = _FORM.match(text.strip())
        if form is None or int(form["port"]) > 65535:
            raise SettingsError(
                f"listen: {text!r} should be HOST:PORT, for example localhost:3000 or [::1]:3000"
            )
        return Listen((form["v6"] or form["host"]).lower(), int(form["port"]))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return self.host == "localhost" or is_loopback_address(self.host)

    @property
    def is_wildcard(self) -> bool:
        """Whether it is every address of this machine."""
        return self.host in {"0.0.0.0", "::"}  # noqa: S104 -- asked about, not bound

    def addresses(self) -> tuple[str, ...]:
        """What to bind: names and addresses as `getaddrinfo` takes them."""
        return ("127.0.0.1", "::1") if self.host == "localhost" else (self.host,)

    def url(self, port: int) -> str:
        """Where clients on this machine reach it, on the port that came to be."""
        host = "localhost" if self.is_wildcard else self.host
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def names(self) -> frozenset[str]:
        """The host names that clients may use: the loopback's, the one listened on, or all own ones."""
        if not self.is_wildcard:
            return LOOPBACK_NAMES | {self.host}
        own = {a.address.partition("%")[0].lower() for each in psutil.net_if_addrs().values() for a in each}
        return LOOPBACK_NAMES | own | {socket.gethostname().lower()}


def is_loopback_address(host: str) -> bool:
    """Whether `host` is an IP address of the loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
