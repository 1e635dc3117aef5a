"""What a host needs for the agent, one check each: what was found, and the remedy.

A check starts nothing that stays, and changes nothing. `reconciler.cli.doctor` runs them all.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

from reconciler.cli.client import Agent, AgentError, address_of
from reconciler.cli.config import Config
from reconciler.layout import SUN_PATH_MAX, Layout
from reconciler.model.errors import ReconcilerError, SettingsError
from reconciler.settings import QemuUser

INOTIFY = Path("/proc/sys/fs/inotify")
INOTIFY_MIN = {"max_user_watches": 8192, "max_user_instances": 128, "max_queued_events": 16384}
FREE_MIN_BYTES = 2 * 1024**3
SOME_UUID = "0" * 32


class Level(StrEnum):
    """How much a finding matters: `fail` keeps the agent or every VM from working."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    level: Level
    what: str
    found: str
    remedy: str = ""


def qemu(config: Config) -> Iterator[Finding]:
    """The QEMU binary and its version."""
    from reconciler.qemu.binary import version

    binary = config.qemu_binary
    try:
        yield Finding(Level.OK, "qemu", f"{shutil.which(binary) or binary}, {version(binary)}")
    except ReconcilerError as error:
        remedy = "apt-get install qemu-system-x86, or name another with --qemu-binary"
        yield Finding(Level.FAIL, "qemu", str(error), remedy)


def qemu_img(_config: Config) -> Iterator[Finding]:
    """qemu-img, which makes and grows disks."""
    if path := shutil.which("qemu-img"):
        yield Finding(Level.OK, "qemu-img", path)
    else:
        yield Finding(Level.FAIL, "qemu-img", "there is no program qemu-img", "apt-get install qemu-utils")


def qemu_user(config: Config) -> Iterator[Finding]:
    """The user that QEMU runs as."""
    try:
        user = config.qemu_user()
    except SettingsError as error:
        yield Finding(Level.FAIL, "qemu user", str(error), "as the message says, or set qemuUser: none")
        return
    if user is None:
        found = "QEMU runs as the agent's own user: VMs are not isolated from each other"
        yield Finding(Level.WARN, "qemu user", found, "run the agent as root, with qemuUser left out")
    else:
        yield Finding(Level.OK, "qemu user", f"{user.name}, uid {user.uid}")


def guests(config: Config) -> Iterator[Finding]:
    """What closes the screens of VMs to guests; where QEMU has no user of its own, the check above says so."""
    from reconciler.model.errors import FirewallError
    from reconciler.network import nft

    try:
        if config.qemu_user() is not None:
            nft.listing(nft.table_name(config.state_dir))
            yield Finding(Level.OK, "nftables", "closes the VNC ports of VMs to guests")
    except FirewallError as error:
        remedy = "apt-get install nftables; until then a guest reaches the screens of all VMs"
        yield Finding(Level.WARN, "nftables", str(error), remedy)
    except SettingsError:
        return


def kvm(config: Config) -> Iterator[Finding]:
    """Whether guests run under KVM, proved with one."""
    from reconciler.qemu.accel import KVM, Prover, kvm_groups

    if shutil.which(config.qemu_binary) is None:
        return
    try:
        user = config.qemu_user()
    except SettingsError:
        user = None
    with TemporaryDirectory() as directory:
        prover = Prover(config.qemu_binary, "", "", user, kvm_groups())
        proof = prover.prove(Path(directory) / "accel.json")
    remedy = f"VMs run under TCG, which is slow: load the kvm module, or let group kvm read and write {KVM}"
    yield (
        Finding(Level.OK, "kvm", proof.why)
        if proof.kvm_usable
        else Finding(Level.WARN, "kvm", proof.why, remedy)
    )


def directories(config: Config) -> Iterator[Finding]:
    """The three directories: there, or possible to make, and writable."""
    if not config.manifests.is_dir():
        remedy = f"mkdir -p {config.manifests}, or name another with --manifests"
        yield Finding(Level.FAIL, "manifests", f"there is no directory {config.manifests}", remedy)
    else:
        yield _access("manifests", config.manifests)
    yield _access("state directory", config.state_dir)
    yield _access("run directory", config.run_dir)


def _access(what: str, path: Path) -> Finding:
    present = next(p for p in (path, *path.parents) if p.exists())
    if not os.access(present, os.R_OK | os.W_OK | os.X_OK):
        return Finding(
            Level.FAIL, what, f"{present} is not writable for this user", f"chown or chmod {present}"
        )
    return Finding(Level.OK, what, str(path) if present == path else f"{path}, to be made")


def reach(config: Config) -> Iterator[Finding]:
    """Whether QEMU's user can get to its files through the directories above them."""
    try:
        user = config.qemu_user()
    except SettingsError:
        return
    if user is None:
        return
    for path in (config.state_dir, config.run_dir):
        closed = next((p for p in path.parents if p.exists() and not _may_pass(p, user)), None)
        if closed:
            found = f"{user.name} cannot pass {closed}, above {path}"
            yield Finding(Level.FAIL, "reach", found, f"chmod o+x {closed}, or choose another directory")


def _may_pass(path: Path, user: QemuUser) -> bool:
    status = path.stat()
    if user.uid in {0, status.st_uid}:
        return user.uid == 0 or bool(status.st_mode & stat.S_IXUSR)
    return bool(status.st_mode & (stat.S_IXGRP if user.gid == status.st_gid else stat.S_IXOTH))


def sockets(config: Config) -> Iterator[Finding]:
    """The length of socket paths below the run directory."""
    longest = len(bytes(Layout(config.state_dir, config.run_dir).sockets(SOME_UUID).guest_agent))
    if longest > SUN_PATH_MAX:
        found = f"socket paths below {config.run_dir} have {longest} bytes, and {SUN_PATH_MAX} are the most"
        yield Finding(Level.FAIL, "run directory", found, "choose a shorter --run-dir")


def space(config: Config) -> Iterator[Finding]:
    """Free space for disks."""
    present = next(p for p in (config.state_dir, *config.state_dir.parents) if p.exists())
    free = shutil.disk_usage(present).free
    level = Level.OK if free >= FREE_MIN_BYTES else Level.WARN
    remedy = (
        "" if level is Level.OK else "disks grow as guests write: make room, or choose another --state-dir"
    )
    yield Finding(level, "disk space", f"{free / 1024**3:.1f} GiB free in {present}", remedy)


def inotify(_config: Config) -> Iterator[Finding]:
    """The limits that watching manifests depends on; without events changes are seen at the next rescan."""
    for name, least in INOTIFY_MIN.items():
        try:
            limit = int((INOTIFY / name).read_text())
        except (OSError, ValueError):
            yield Finding(Level.WARN, "inotify", f"{INOTIFY / name} cannot be read", "changes are seen late")
            continue
        level = Level.OK if limit >= least else Level.WARN
        remedy = "" if level is Level.OK else f"sysctl fs.inotify.{name}={least}"
        yield Finding(level, "inotify", f"{name} is {limit}", remedy)


def port(config: Config) -> Iterator[Finding]:
    """The API's port: free, or an agent on it."""
    from reconciler.api.listen import Listening
    from reconciler.api.sockets import open_sockets
    from reconciler.api.unix_socket import UnixSocket

    url = address_of(config)
    try:
        Agent.of(config).get("/healthz")
        yield Finding(Level.OK, "agent", f"one answers at {url}")
        return
    except (AgentError, SettingsError):
        pass
    try:
        listening = Listening.parse(config.listen)
        for listen in listening.tcp:
            for each in open_sockets(listen):
                each.close()
        for path in listening.unix:
            UnixSocket(path).close()
        yield Finding(Level.OK, "agent", f"none runs; {config.listen} is free for one")
    except SettingsError as error:
        yield Finding(Level.FAIL, "agent", str(error), "end that program, or choose another --listen")


def token(config: Config) -> Iterator[Finding]:
    """The token file: there where it has to be, and nobody else's to read."""
    from reconciler.api.access import read_token
    from reconciler.api.listen import Listening

    try:
        if config.path("tokenFile") is None and Listening.parse(config.listen).beyond:
            found = f"{config.listen} can be reached from other machines, and there is no token"
            yield Finding(Level.FAIL, "token", found, "name a file with --token-file")
        for setting in ("tokenFile", "readTokenFile"):
            if path := config.path(setting):
                read_token(path, setting)
                others = path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH)
                remedy = f"others can read it: chmod 600 {path}" if others else ""
                yield Finding(Level.WARN if others else Level.OK, "token", str(path), remedy)
    except SettingsError as error:
        yield Finding(Level.FAIL, "token", str(error), "as the message says")


def iso_roots(config: Config) -> Iterator[Finding]:
    """The directories that were named for ISO files."""
    for root in config.paths("isoRoots"):
        if root.is_dir():
            yield Finding(Level.OK, "iso roots", str(root))
        else:
            yield Finding(Level.WARN, "iso roots", f"there is no directory {root}", f"mkdir {root}")


CHECKS = (
    qemu,
    qemu_img,
    kvm,
    qemu_user,
    guests,
    directories,
    reach,
    sockets,
    space,
    inotify,
    port,
    token,
    iso_roots,
)
