"""`host:port` as it stands in the headers `Host` and `Origin`, read strictly. Pure.

The API and the noVNC services decide by it whom they talk to: `reconciler.api.access`, `reconciler.console.door`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_FORM = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<host>[a-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?\Z")


@dataclass(frozen=True)
class Authority:
    """Host and port; an IPv6 address stands without its brackets."""

    host: str
    port: int | None

    @property
    def url_host(self) -> str:
        """The host as it stands in a URL."""
        return f"[{self.host}]" if ":" in self.host else self.host


def parse_authority(text: str | None) -> Authority | None:
    """`host`, `host:port` or `[v6]:port`, or None for anything else."""
    form = _FORM.match((text or "").lower())
    if form is None:
        return None
    return Authority((form["v6"] or form["host"]).rstrip("."), int(form["port"]) if form["port"] else None)
