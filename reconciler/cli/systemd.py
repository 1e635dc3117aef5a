"""`systemd print` and `systemd install`: the agent as a service of this host. The units stand in `systemd/`."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import click

import reconciler
from reconciler import durable
from reconciler.cli.config import CONFIG_VARIABLE, Config, Host, load
from reconciler.cli.options import OF_THE_AGENT, SETTINGS, settings_options
from reconciler.cli.output import put, say
from reconciler.cli.units import AGENT, Place, units
from reconciler.model.errors import SettingsError

UNITS = Path("/etc/systemd/system")
RUNNING = Path("/run/systemd/system")  # sd_booted(3)
DIRECTORIES = ("manifests", "stateDir", "runDir")
UNIT_MODE, MANIFESTS_MODE, STATE_MODE = 0o644, 0o755, 0o700

as_user = click.option(
    "--user",
    metavar="NAME",
    help="The user of the agent and its VMs, if it is not to be root: VMs are then not isolated from it.",
)


@click.group(short_help="The agent as a service of this host.")
def systemd() -> None:
    """The agent as a service of this host, confined, and VMs that are shut down before the host is.

    The units name this very program and the directories of the settings in force.
    """


@systemd.command("print", short_help="Print the units.")
@settings_options(OF_THE_AGENT)
@as_user
def print_units(user: str | None, **flags: str | None) -> None:
    """Print the units that `install` would write."""
    for name, text in units(_place(user, flags)).items():
        put(f"# {UNITS / name}\n{text}")


@systemd.command(short_help="Write the units.")
@settings_options(OF_THE_AGENT)
@as_user
@click.option(
    "--root", type=click.Path(path_type=Path), default=Path("/"), help="Write below DIR.", metavar="DIR"
)
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
def install(user: str | None, root: Path, dry_run: bool, **flags: str | None) -> None:
    """Write the units to /etc/systemd/system and make the agent's directories; what is there already stays.

    Starts nothing: the command that does is printed.
    """
    place = _place(user, flags)
    site = Site(root, dry_run)
    owner = _owner(user)
    site.directory(place.manifests, MANIFESTS_MODE, owner)
    site.directory(place.state_dir, STATE_MODE, owner)
    if not place.run_dir.is_relative_to("/run"):
        site.directory(place.run_dir, STATE_MODE, owner)
    changed = [site.file(UNITS / name, text) for name, text in units(place).items()]
    if any(changed) and not dry_run and root == Path("/") and RUNNING.exists():
        _reload()
    say(f"next: systemctl enable --now {AGENT}   (its log: journalctl -u {AGENT})")
    say(f"after an upgrade: systemctl restart {AGENT}   (VMs go on meanwhile)")


@dataclass(frozen=True)
class Site:
    """Where to write, for real or not."""

    root: Path
    dry_run: bool

    def directory(self, path: Path, mode: int, owner: durable.Owner) -> None:
        """Make a directory, unless it is there."""
        target = self._below(path)
        if target.exists():
            return
        self._say("made", target)
        if self.dry_run:
            return
        try:
            target.mkdir(parents=True)
            target.chmod(mode)
            os.chown(target, *owner)
        except OSError as error:
            raise SettingsError(f"{target}: cannot be made: {error.strerror}") from error

    def file(self, path: Path, text: str) -> bool:
        """Write a file as a whole, unless it says this already; whether it did not."""
        target, data = self._below(path), text.encode()
        try:
            if target.is_file() and target.read_bytes() == data:
                say(f"{target} is as it should be")
                return False
            self._say("written", target)
            if not self.dry_run:
                target.parent.mkdir(parents=True, exist_ok=True)
                durable.write(target, data, mode=UNIT_MODE)
        except OSError as error:
            raise SettingsError(f"{target}: cannot be written: {error.strerror}; root may") from error
        return True

    def _below(self, path: Path) -> Path:
        return self.root / path.relative_to("/")

    def _say(self, verb: str, target: Path) -> None:
        say(f"{target} would be {verb}" if self.dry_run else f"{target} {verb}")


def _place(user: str | None, flags: Mapping[str, str | None]) -> Place:
    """The place that the settings in force describe, as root finds them."""
    config = load(flags, replace(Host.current(), is_root=True))
    named = flags.get("config") or os.environ.get(CONFIG_VARIABLE)
    file = [] if named is None else ["--config", str(Path(named).absolute())]
    given = [word for key in OF_THE_AGENT if key not in DIRECTORIES for word in _flag(config, flags, key)]
    return Place(
        program=_program(),
        manifests=config.manifests,
        state_dir=config.state_dir,
        run_dir=config.run_dir,
        flags=[*file, *given],
        uses=_uses(config, file),
        user=None if user == "root" else user,
        groups=_kvm_group(),
    )


def _flag(config: Config, flags: Mapping[str, str | None], key: str) -> list[str]:
    """What was given here by flag or environment, as a flag for the unit, its paths absolute."""
    if not flags.get(key) and not os.environ.get(SETTINGS[key].variable):
        return []
    value = config.given[key].value
    texts = [str(each) for each in value] if isinstance(value, tuple) else [str(value)]
    return [SETTINGS[key].flag, ",".join(texts)]


def _program() -> list[str]:
    """This program, as systemd can start it: by its own name where it was installed with one."""
    script = Path(sys.executable).with_name("reconciler")
    return [str(script)] if script.is_file() else [sys.executable, "-m", "reconciler"]


def _uses(config: Config, file: list[str]) -> list[Path]:
    """All that has to be readable, by the paths that it has and those that links lead to."""
    python = [Path(sys.prefix), Path(sys.base_prefix), Path(reconciler.__file__)]
    tokens = (config.path("tokenFile"), config.path("readTokenFile"))
    qemu = shutil.which(config.qemu_binary)
    named = [
        *map(Path, file[1:]),
        *config.paths("isoRoots"),
        *filter(None, tokens),
        *map(Path, filter(None, [qemu])),
    ]
    return [each for path in (*python, *named) for each in (path, path.resolve())]


def _kvm_group() -> tuple[str, ...]:
    try:
        return (grp.getgrnam("kvm").gr_name,)
    except KeyError:
        return ()


def _owner(user: str | None) -> durable.Owner:
    if user is None:
        return os.geteuid(), os.getegid()
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        hint = f"`useradd --system --no-create-home --shell /usr/sbin/nologin {user}` makes one"
        raise SettingsError(f"--user: there is no user {user!r}; {hint}") from error
    return entry.pw_uid, entry.pw_gid


def _reload() -> None:
    done = subprocess.run(["systemctl", "daemon-reload"], stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        say("systemctl daemon-reload failed: run it by hand")
