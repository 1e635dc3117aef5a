"""`start`, `stop`, `restore` and `prune`: what asks the agent to do something."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import click

from reconciler.cli.client import Agent, Answer, vm_path
from reconciler.cli.config import Host, load
from reconciler.cli.options import OF_CLIENTS, settings_options
from reconciler.cli.output import put, say

PATIENCE_S = 3.0


@contextlib.contextmanager
def patience(message: str, seconds: float = PATIENCE_S) -> Iterator[None]:
    """Say why nothing is said, once what goes on inside takes longer than that."""
    timer = threading.Timer(seconds, say, (message,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _agent(flags: dict[str, str | None]) -> Agent:
    return Agent.of(load(flags, Host.current()))


@click.command(short_help="Start a VM, and wait until it runs.")
@click.argument("name")
@settings_options(OF_CLIENTS)
def start(name: str, **flags: str | None) -> None:
    """Set `state: running` in the manifest of NAME, and wait until it runs."""
    with patience(f"{name}: not running yet; Ctrl-C ends the waiting, and the agent goes on with the start"):
        vm = _agent(flags).post(vm_path(name, "start"))["vm"]
    say(f"{name}: started, pid {vm['pid']}")


@click.command(short_help="Stop a VM, and wait until it is off.")
@click.argument("name")
@click.option("--force", is_flag=True, help="Cut the power instead of asking the guest to shut down.")
@settings_options(OF_CLIENTS)
def stop(name: str, force: bool, **flags: str | None) -> None:
    """Set `state: stopped` in the manifest of NAME, and wait until it is off."""
    hint = "" if force else f"; `reconciler stop --force {name}` cuts its power"
    with patience(
        f"{name}: not off yet; the guest was asked to shut down. Ctrl-C ends only the waiting{hint}"
    ):
        _agent(flags).post(vm_path(name, "stop"), {"force": True} if force else None)
    say(f"{name}: stopped")


@click.command(short_help="Give a VM a blank root disk.")
@click.argument("name")
@settings_options(OF_CLIENTS)
def recreate(name: str, **flags: str | None) -> None:
    """Stop NAME, set its root disk aside, and give it a blank one; if it shall run, it is started again.

    It stays the same machine for its network (UUID, MAC addresses). The old disk is kept in the state directory, as
    vms/NAME/replaced/TIME/root.qcow2, until you remove it.
    """
    with patience(f"{name}: not done yet; Ctrl-C ends the waiting, and the agent goes on"):
        vm = _agent(flags).post(vm_path(name, "recreate"))["vm"]
    say(f"{name}: has a blank root disk, and is {vm['status']}")


@click.command(short_help="Give a VM that is off another name.")
@click.argument("name")
@click.argument("new_name")
@settings_options(OF_CLIENTS)
def rename(name: str, new_name: str, **flags: str | None) -> None:
    """Let NAME, which has to be off, be NEW_NAME: its disks and its identity stay, and its manifest follows.

    (Editing `metadata.name` by hand makes another VM with a new disk.)
    """
    _agent(flags).post(vm_path(name, "rename"), {"newName": new_name})
    say(f"{name}: is called {new_name} now")


@click.command(short_help="Bring back a VM that was set aside.")
@click.argument("name")
@settings_options(OF_CLIENTS)
def restore(name: str, **flags: str | None) -> None:
    """Bring back NAME, which was set aside when its manifest went away: disks, identity and manifest."""
    _agent(flags).post(vm_path(name, "restore"))
    say(f"{name}: restored")


@click.command(short_help="List or confirm removals that are held.")
@click.option("--confirm", is_flag=True, help="Let exactly the VMs listed be stopped and set aside.")
@settings_options(OF_CLIENTS)
def prune(confirm: bool, **flags: str | None) -> int:
    """List the VMs whose manifests are gone and whose removal is held; with --confirm, remove them.

    Disks are set aside, not deleted: `reconciler restore NAME` brings a VM back.
    """
    agent = _agent(flags)
    answer = agent.get("/api/vms")
    held: list[str] = answer["held"]
    if not held:
        say("nothing is held")
        return 0
    if not confirm:
        put("\n".join(held))
        for reason in _why_held(answer["vms"]):
            say(reason)
        say("`reconciler prune --confirm` stops those listed and sets their disks aside")
        return 0
    released: list[str] = agent.post("/api/prune", {"names": held})["released"]
    put("\n".join(released))
    say(
        f"{len(released)} of {len(held)} confirmed: the agent stops them and sets their disks aside; "
        "`reconciler restore NAME` brings one back"
    )
    return 0 if set(released) == set(held) else 1


def _why_held(vms: list[Answer]) -> Iterator[str]:
    for vm in vms:
        for stated in vm["conditions"]:
            if stated["type"] == "PruneHeld" and stated["status"] == "True":
                yield f"{vm['name']}: {stated['message']}"
