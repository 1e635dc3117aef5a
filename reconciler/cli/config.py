"""The settings in force: flag > environment > config file > default.

The file is /etc/reconciler/config.yaml for root, reconciler/config.yaml below $XDG_CONFIG_HOME for others, or
the one that --config names; its keys stand in `reconciler.cli.options`. Next: `reconciler.settings`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reconciler.cli.sources import Found, Given, from_file, given_by
from reconciler.model.errors import SettingsError
from reconciler.settings import QemuUser, Settings

CONFIG_VARIABLE = "RECONCILER_CONFIG"
DEFAULT_QEMU_USER = "reconciler-qemu"
NO_USER = "none"
ISO_ROOTS = (
    Path("/srv/iso"),
    Path("/srv/images"),
)  # always allowed, as the state directory's own; isoRoots adds


@dataclass(frozen=True)
class Host:
    """What of the machine and the session the settings depend on."""

    environ: Mapping[str, str]
    is_root: bool
    home: Path
    cwd: Path

    @staticmethod
    def current() -> Host:
        """This one."""
        return Host(os.environ, os.geteuid() == 0, Path.home(), Path.cwd())

    def directory(self, for_root: str, variable: str, below_home: str) -> Path:
        """Our directory: `for_root`, or for others the one below the XDG directory of that variable."""
        if self.is_root:
            return Path(for_root)
        base = self.environ.get(variable)
        return (Path(base) if base else self.home / below_home) / "reconciler"


@dataclass(frozen=True)
class Config:
    """All settings that were given, and the host that decides the defaults."""

    given: Mapping[str, Given]
    host: Host

    @property
    def config_dir(self) -> Path:
        """Where the config file and, by default, the manifests lie."""
        return self.host.directory("/etc/reconciler", "XDG_CONFIG_HOME", ".config")

    @property
    def manifests(self) -> Path:
        """The directory of manifests."""
        return self.path("manifests") or self.config_dir / "manifests"

    @property
    def state_dir(self) -> Path:
        """The state directory."""
        default = self.host.directory("/var/lib/reconciler", "XDG_STATE_HOME", ".local/state")
        return self.path("stateDir") or default

    @property
    def run_dir(self) -> Path:
        """The run directory; a session without XDG_RUNTIME_DIR has it in the state directory."""
        if path := self.path("runDir"):
            return path
        if self.host.is_root or self.host.environ.get("XDG_RUNTIME_DIR"):
            return self.host.directory("/run/reconciler", "XDG_RUNTIME_DIR", "")
        return self.state_dir / "run"

    @property
    def listen(self) -> str:
        """Where the API listens."""
        return self.text("listen") or Settings.listen

    @property
    def qemu_binary(self) -> str:
        """The QEMU to start."""
        return self.text("qemuBinary") or Settings.qemu_binary

    def settings(self) -> Settings:
        """The agent's settings. Raises SettingsError for one that cannot be honoured."""
        return Settings(
            manifests=self.manifests,
            state_dir=self.state_dir,
            run_dir=self.run_dir,
            listen=self.listen,
            token_file=self.path("tokenFile"),
            read_token_file=self.path("readTokenFile"),
            allowed_hosts=self._texts("allowedHosts"),
            allowed_origins=self._texts("allowedOrigins"),
            console_listen=self.text("consoleListen") or Settings.console_listen,
            iso_roots=tuple(dict.fromkeys((*ISO_ROOTS, *self.paths("isoRoots")))),
            qemu_binary=self.qemu_binary,
            qemu_user=self.qemu_user(),
            language=self._language(),
            resync_s=self._number("resyncSeconds", Settings.resync_s),
            rescan_s=self._number("rescanSeconds", Settings.rescan_s),
            workers=int(self._number("workers", Settings.workers)),
        )

    def qemu_user(self) -> QemuUser | None:
        """The user that QEMU runs as, None for the agent's own. Raises SettingsError where that cannot be."""
        name = self.text("qemuUser") or (DEFAULT_QEMU_USER if self.host.is_root else NO_USER)
        if name == NO_USER:
            return None
        if not self.host.is_root:
            raise SettingsError(
                f"{self._origin('qemuUser')}: only root can run QEMU as {name!r}; leave it out"
            )
        return QemuUser.named(name)

    def text(self, key: str) -> str | None:
        """A setting that is text, if it was given."""
        value = self._value(key)
        return value if isinstance(value, str) else None

    def path(self, key: str) -> Path | None:
        """A setting that is a path, if it was given."""
        value = self._value(key)
        return value if isinstance(value, Path) else None

    def paths(self, key: str) -> tuple[Path, ...]:
        """A setting that is a list of paths; empty where it was not given."""
        return tuple(Path(text) for text in self._texts(key))

    def _language(self) -> str:
        language = self.text("language") or Settings.language
        if language not in {"zh", "en"}:
            raise SettingsError(f"{self._origin('language')}: found {language!r}, expected zh or en")
        return language

    def _value(self, key: str) -> Found | None:
        return self.given[key].value if key in self.given else None

    def _origin(self, key: str) -> str:
        return self.given[key].origin if key in self.given else key

    def _texts(self, key: str) -> tuple[str, ...]:
        value = self._value(key)
        return tuple(str(each) for each in value) if isinstance(value, tuple) else ()

    def _number(self, key: str, default: float) -> float:
        value = self._value(key)
        return value if isinstance(value, int | float) else default


def load(flags: Mapping[str, str | None], host: Host) -> Config:
    """The settings in force. `flags` are by key, the config file's name by `config`. Raises SettingsError."""
    named = flags.get("config") or host.environ.get(CONFIG_VARIABLE)
    file = host.cwd / named if named else Config({}, host).config_dir / "config.yaml"
    given = dict(from_file(file)) if named or file.exists() else {}
    return Config(given | dict(given_by(flags, host.environ, host.cwd)), host)
