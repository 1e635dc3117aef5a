"""The agent's settings: one frozen value, from flags, environment, config file and defaults, in this order."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.model.errors import SettingsError


@dataclass(frozen=True)
class QemuUser:
    """The user that QEMU runs as, where that is not the agent's own."""

    name: str
    uid: int
    gid: int

    @staticmethod
    def named(name: str) -> QemuUser:
        """Look the user up. Raises SettingsError where there is none, saying how to make it."""
        try:
            entry = pwd.getpwnam(name)
        except KeyError as error:
            raise SettingsError(
                f"qemuUser: there is no user {name!r}: run `make setup`, or "
                f"`useradd --system --no-create-home --shell /usr/sbin/nologin {name}`"
            ) from error
        return QemuUser(name, entry.pw_uid, entry.pw_gid)


@dataclass(frozen=True)
class Settings:
    """Everything that may be set.

    Times are seconds: `resync_s` between two deep reads of a VM that nothing happened to, `rescan_s` between two
    looks at the manifests that no event asked for (and the least time between the two that confirm a removal).
    """

    manifests: Path
    state_dir: Path
    run_dir: Path
    listen: str = "localhost:3000"
    token_file: Path | None = None
    read_token_file: Path | None = None
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    console_listen: str = "localhost"
    iso_roots: tuple[Path, ...] = field(default=(Path("/srv/iso"), Path("/srv/images")))
    qemu_binary: str = "qemu-system-x86_64"
    qemu_user: QemuUser | None = None
    language: str = "zh"
    resync_s: float = 300.0
    rescan_s: float = 10.0
    workers: int = 8

    @property
    def qemu_uid(self) -> int | None:
        """The uid that tells QEMU's sockets from those of all others; None where QEMU runs as the agent does."""
        user = self.qemu_user
        return user.uid if user and user.uid != os.geteuid() else None
