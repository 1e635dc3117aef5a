"""Every setting, once: its key in the config file, its flag, its environment variable and its form.

Next: `reconciler.cli.config`, which reads them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


class Kind(Enum):
    """The form of a setting."""

    TEXT = auto()
    PATH = auto()
    TEXTS = auto()
    """A list in the file; comma-separated in flag and environment."""
    PATHS = auto()
    SECONDS = auto()
    COUNT = auto()


@dataclass(frozen=True)
class Setting:
    """One setting. `key` is its name in the config file, from which flag and variable follow."""

    key: str
    kind: Kind
    help: str

    @property
    def flag(self) -> str:
        """`--state-dir` for stateDir."""
        return "--" + re.sub("[A-Z]", lambda m: "-" + m[0].lower(), self.key)

    @property
    def variable(self) -> str:
        """`RECONCILER_STATE_DIR` for stateDir."""
        return "RECONCILER" + self.flag[1:].replace("-", "_").upper()


SETTINGS = {
    setting.key: setting
    for setting in (
        Setting("manifests", Kind.PATH, "The directory of manifests."),
        Setting("stateDir", Kind.PATH, "Where disks and the agent's memory lie."),
        Setting("runDir", Kind.PATH, "Where sockets and the agent's address lie."),
        Setting("listen", Kind.TEXT, "HOST:PORT or unix:/PATH of the API, or several with commas."),
        Setting("tokenFile", Kind.PATH, "A file with the API's bearer token."),
        Setting("readTokenFile", Kind.PATH, "A file with a second token, which may only read."),
        Setting("allowedHosts", Kind.TEXTS, "More host names that clients may call the API by."),
        Setting("allowedOrigins", Kind.TEXTS, "More web origins whose pages may call the API."),
        Setting("consoleListen", Kind.TEXT, "Where noVNC listens; localhost is both loopbacks."),
        Setting("isoRoots", Kind.PATHS, "More directories that ISO and image files may lie in."),
        Setting("qemuBinary", Kind.TEXT, "The QEMU to start, by name or path."),
        Setting("qemuUser", Kind.TEXT, "The user that QEMU runs as; `none`: the agent's own."),
        Setting("language", Kind.TEXT, "The language of the API's messages, zh or en."),
        Setting("resyncSeconds", Kind.SECONDS, "How often a VM that nothing happened to is read."),
        Setting("rescanSeconds", Kind.SECONDS, "How often manifests are read without an event."),
        Setting("workers", Kind.COUNT, "How many VMs are worked on at the same time."),
        Setting("server", Kind.TEXT, "URL or unix:/PATH of the agent that commands talk to."),
    )
}

OF_CLIENTS = ("server", "tokenFile", "runDir")
OF_THE_AGENT = tuple(key for key in SETTINGS if key != "server")


def settings_options(keys: Iterable[str]) -> Callable[[Command], Command]:
    """Decorator: the flags of these settings, and --config. The command gets each by its key."""

    def decorate(command: Command) -> Command:
        for key in reversed(tuple(keys)):
            setting = SETTINGS[key]
            shown = f"{setting.help}  [{setting.variable}]"
            metavar = "PATH" if setting.kind in {Kind.PATH, Kind.PATHS} else "VALUE"
            command = click.option(setting.flag, key, metavar=metavar, help=shown)(command)
        shown = "The config file.  [RECONCILER_CONFIG]"
        return click.option("--config", "config", metavar="PATH", help=shown)(command)

    return decorate
