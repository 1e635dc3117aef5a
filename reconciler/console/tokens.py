"""Tokens: each opens the console of one VM, for as long as it lives. Made by the agent, honoured by the services.

They are kept as files, so that both outlive a restart of the agent, by the SHA-256 of the token: what lies on disk
opens nothing, and no text of a visitor becomes part of a path. A token's own file is written once, by the agent, and
removed to revoke it; that it was used is a second file. So a service that marks a use cannot bring back a token that
is being revoked. Next: `reconciler.console.door`, which asks.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path

from reconciler.clock import Clock
from reconciler.layout import ConsoleDir
from reconciler.model.errors import ConsoleError

TOKEN_BYTES = 32
UNUSED_S = 300.0  # a link that nobody opened within five minutes was not wanted, or went astray
USED_S = 12 * 3600.0  # a long working day before one screen
PER_VM_MAX = 256  # a client in a loop must not fill the run directory

_FORM = re.compile(r"[A-Za-z0-9_-]{43}\Z")  # 32 bytes in base64url


@dataclass(frozen=True)
class Token:
    """What is kept of a token. Times are seconds since the boot; `used_s` is None before the first use."""

    digest: str
    name: str
    boot_id: str
    granted_s: float
    used_s: float | None

    def is_live(self, boot_id: str, now_s: float) -> bool:
        """Whether it opens anything still."""
        age_s = now_s - (self.granted_s if self.used_s is None else self.used_s)
        return self.boot_id == boot_id and 0 <= age_s < (UNUSED_S if self.used_s is None else USED_S)


class Tokens:
    """All tokens of one run directory. Safe for any number of threads and processes."""

    def __init__(self, directory: ConsoleDir, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock

    # ---- the agent's -----------------------------------------------------------------------------

    def grant(self, name: str) -> str:
        """A new token for the console of this VM. Raises ConsoleError where it cannot be kept."""
        self.sweep()
        token = secrets.token_urlsafe(TOKEN_BYTES)
        entry = {"name": name, "bootId": self._clock.boot_id, "grantedS": self._clock.now_s()}
        try:
            self._directory.tokens.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(self._directory.token(digest_of(token)), json.dumps(entry).encode())
        except OSError as error:
            raise ConsoleError(f"the token cannot be kept: {error.filename}: {error.strerror}") from error
        return token

    def revoke(self, name: str) -> None:
        """Let no token open this VM's console any more; connections that stand on one are cut by their service."""
        for token in self._all():
            if token.name == name:
                self._remove(token)

    def names(self) -> frozenset[str]:
        """The VMs that have tokens."""
        return frozenset(token.name for token in self._all())

    def sweep(self) -> None:
        """Remove the tokens that are dead, and of each VM's the oldest where there are too many."""
        counts: dict[str, int] = {}
        for token in sorted(self._all(), key=lambda token: -token.granted_s):
            counts[token.name] = counts.get(token.name, 0) + 1
            if not self._lives(token) or counts[token.name] >= PER_VM_MAX:
                self._remove(token)

    # ---- the services' ---------------------------------------------------------------------------

    def find(self, text: str) -> Token | None:
        """The live token that a visitor brought; None for any other text. Nothing is changed by it."""
        if _FORM.match(text) is None:
            return None
        return self.still(digest_of(text))

    def still(self, digest: str) -> Token | None:
        """The token of this digest, if it lives still."""
        token = self._read(digest)
        return token if token and self._lives(token) else None

    def mark_used(self, token: Token) -> None:
        """Count its longer life from now, if this is its first use. Raises OSError."""
        if token.used_s is None:
            with contextlib.suppress(FileExistsError):  # two at once: the first counts
                create_whole(self._directory.used(token.digest), repr(self._clock.now_s()).encode())

    # ---- files -----------------------------------------------------------------------------------

    def _lives(self, token: Token) -> bool:
        return token.is_live(self._clock.boot_id, self._clock.now_s())

    def _all(self) -> list[Token]:
        try:
            names = [path.name for path in self._directory.tokens.iterdir() if not path.suffix]
        except OSError:  # none there yet; or none that any service could read either
            return []
        return [token for name in names if (token := self._read(name))]

    def _read(self, digest: str) -> Token | None:
        """None for a file that is gone, or that we did not write."""
        try:
            entry = json.loads(self._directory.token(digest).read_bytes())
            name, boot_id, granted_s = str(entry["name"]), str(entry["bootId"]), float(entry["grantedS"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Token(digest, name, boot_id, granted_s, self._used_s(digest))

    def _used_s(self, digest: str) -> float | None:
        try:
            return float(self._directory.used(digest).read_text())
        except (OSError, ValueError):
            return None

    def _remove(self, token: Token) -> None:
        self._directory.token(token.digest).unlink(missing_ok=True)
        self._directory.used(token.digest).unlink(missing_ok=True)


def digest_of(token: str) -> str:
    """The name of a token's file."""
    return hashlib.sha256(token.encode()).hexdigest()


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file at once, for other processes to read; it need not outlive a power cut. Raises OSError."""
    _aside(path, data).replace(path)


def create_whole(path: Path, data: bytes) -> None:
    """The same for a file that must not exist yet. Raises FileExistsError, OSError."""
    aside = _aside(path, data)
    try:
        path.hardlink_to(aside)
    finally:
        aside.unlink()


def _aside(path: Path, data: bytes) -> Path:
    """The data in a file of its own, 0600, by a name that `durable.sweep` knows, and no token or VM has."""
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=".reconciler-", suffix=".tmp", delete=False
    ) as file:
        file.write(data)
    return Path(file.name)
