"""Whom a noVNC service talks to, and what it says beside its answers. Pure but for the tokens that it asks about.

`Host` must be a name that we go by (DNS rebinding); `Origin`, when there is one, this service's own or a configured
one, and is judged before the token is looked at: a page elsewhere can neither use nor spend a token.
Next: `reconciler.console.handler`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from reconciler.authority import parse_authority

CONSOLE_PATHS = {"/websockify", "/websockify/"}
_IN_POLICY = re.compile(r"[a-z0-9.-]+\Z")  # a Content-Security-Policy knows no IPv6 addresses


@dataclass(frozen=True)
class Door:
    """The names that we go by, the origins that are trusted, and our own port."""

    names: frozenset[str]
    origins: frozenset[str]
    web_port: int

    def knows_host(self, given: Sequence[str]) -> bool:
        """Whether there is exactly one `Host`, and it is a name of ours, on any port (a tunnel has its own)."""
        authority = parse_authority(given[0]) if len(given) == 1 else None
        return authority is not None and authority.host in self.names

    def trusts_origin(self, given: Sequence[str], host: str) -> bool:
        """Whether pages of this origin may open consoles: `host` is the request's. Programs send no origin."""
        if not given:
            return True
        origin = given[0].lower()
        scheme, _, rest = origin.partition("://")
        authority = parse_authority(rest)
        if len(given) > 1 or authority is None or scheme not in {"http", "https"}:
            return False
        if origin in self.origins or authority == parse_authority(host):
            return True
        return authority.host in self.names and authority.port == self.web_port

    def policy(self) -> str:
        """The Content-Security-Policy of the pages: their own files, and connections to this service only."""
        own = sorted(name for name in self.names if _IN_POLICY.match(name))
        sockets = " ".join(f"{scheme}://{name}:{self.web_port}" for name in own for scheme in ("ws", "wss"))
        frames = " ".join(("'self'", "http://localhost:*", "http://127.0.0.1:*", *sorted(self.origins)))
        return "; ".join(
            (
                "default-src 'none'",
                "script-src 'self'",
                "style-src 'self'",
                "img-src 'self' data:",  # noVNC draws JPEG rectangles and cursors that way
                f"connect-src 'self' {sockets}",
                f"frame-ancestors {frames}",  # panels show consoles in frames
                "base-uri 'none'",
                "form-action 'none'",
            )
        )


def token_in(path: str) -> str | None:
    """The one token in the request's path, if it is a console's; None for any other path."""
    try:
        parts = urlsplit(path)
        given = parse_qs(parts.query, max_num_fields=8).get("token", [])
    except ValueError:
        return None
    return given[0] if parts.path in CONSOLE_PATHS and len(given) == 1 else None
