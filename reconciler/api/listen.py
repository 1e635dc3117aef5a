"""`settings.listen`: which addresses the API listens on, and whether they are this machine's own.

`localhost:3000`, the default, is both loopbacks; `unix:/path` is a UNIX socket; commas part several.
Next: `reconciler.api.server`.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil

from reconciler.layout import SUN_PATH_MAX
from reconciler.model.errors import SettingsError

_FORM = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9.-]+)):(?P<port>[0-9]{1,5})\Z")

UNIX = "unix:"
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
                f"listen: {text!r} should be HOST:PORT or unix:/PATH, for example localhost:3000, [::1]:3000 "
                "or unix:/run/reconciler/api.sock"
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


@dataclass(frozen=True)
class UnixListen:
    """A UNIX socket: whoever may open its file may use the API."""

    path: Path

    @staticmethod
    def parse(text: str) -> UnixListen:
        """From `unix:/PATH`. Raises SettingsError."""
        path = Path(text.strip().removeprefix(UNIX))
        if not path.is_absolute():
            raise SettingsError(
                f"listen: {text!r} should be an absolute path, as in unix:/run/reconciler/api.sock"
            )
        length = len(bytes(path))
        if length > SUN_PATH_MAX:
            raise SettingsError(
                f"listen: {path} has {length} bytes, and the path of a socket may have {SUN_PATH_MAX}; "
                "choose a shorter one"
            )
        return UnixListen(path)

    @property
    def url(self) -> str:
        """As the command line takes it with --server."""
        return f"{UNIX}{self.path}"


@dataclass(frozen=True)
class Listening:
    """All that the API listens on; one of the two at least."""

    tcp: tuple[Listen, ...]
    unix: tuple[UnixListen, ...]

    @staticmethod
    def parse(text: str) -> Listening:
        """From a list with commas. Raises SettingsError."""
        parts = [part.strip() for part in text.split(",")]
        return Listening(
            tcp=tuple(Listen.parse(part) for part in parts if not part.startswith(UNIX)),
            unix=tuple(UnixListen.parse(part) for part in parts if part.startswith(UNIX)),
        )

    @property
    def beyond(self) -> Listen | None:
        """The first that other machines may reach, which needs a token."""
        return next((each for each in self.tcp if not each.is_loopback), None)

    def names(self) -> frozenset[str]:
        """The host names that clients may use."""
        return LOOPBACK_NAMES.union(*(each.names() for each in self.tcp))


def is_loopback_address(host: str) -> bool:
    """Whether `host` is an IP address of the loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
