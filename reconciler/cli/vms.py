"""`get` and `describe`: what the agent knows of its VMs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import click

from reconciler.cli import selector
from reconciler.cli.client import Agent, Answer, vm_path
from reconciler.cli.config import Host, load
from reconciler.cli.description import describe_vm
from reconciler.cli.options import OF_CLIENTS, settings_options
from reconciler.cli.output import put, put_json, put_table, put_yaml, say
from reconciler.model.vm import Problem

Column = tuple[str, Callable[[Answer], str]]


@click.command()
@click.argument("name", required=False)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "wide", "json", "yaml", "name"]),
    default="table",
    show_default=True,
    help="The form of the output.",
)
@click.option("-l", "--selector", "labels", metavar="TERMS", help="Only VMs with these labels: tier=web,!old")
@settings_options(OF_CLIENTS)
def get(name: str | None, output: str, labels: str | None, **flags: str | None) -> None:
    """Show all VMs, or the one called NAME."""
    if name and labels:
        raise click.UsageError("NAME and --selector do not go together: leave one of them out")
    agent = Agent.of(load(flags, Host.current()))
    selected = selector.parse(labels) if labels else lambda _: True
    if name:
        vm = agent.get(vm_path(name))["vm"]
        _put([vm], vm, output)
        return
    answer = agent.get("/api/vms")
    vms = [vm for vm in answer["vms"] if selected(vm["labels"])]
    _put(vms, {"vms": vms, "problems": answer["problems"], "held": answer["held"]}, output)
    for problem in answer["problems"]:
        say(str(Problem(**problem)))
    if answer["held"]:
        say(f"removal held: {', '.join(answer['held'])}; `reconciler prune` says more")


@click.command(short_help="Say all that is known of one VM.")
@click.argument("name")
@settings_options(OF_CLIENTS)
def describe(name: str, **flags: str | None) -> None:
    """Say all that is known of one VM, and why it is as it is."""
    put(describe_vm(Agent.of(load(flags, Host.current())).get(vm_path(name))["vm"]))


@click.command(short_help="Show each field: manifest, launch, and what QEMU says now.")
@click.argument("name")
@click.option(
    "-o", "--output", type=click.Choice(["table", "wide", "json", "yaml"]), default="table", show_default=True
)
@settings_options(OF_CLIENTS)
def explain(name: str, output: str, **flags: str | None) -> None:
    """Show every field of a VM: what its manifest says, what it was launched with, what QEMU says now.

    LIVE tells how a change of the field reaches a VM that runs; `-o wide` says by what.
    """
    answer = Agent.of(load(flags, Host.current())).get(f"{vm_path(name)}/explain")
    match output:
        case "json":
            put_json(answer["fields"])
        case "yaml":
            put_yaml(answer["fields"])
        case _:
            put_table(*explanation(answer["fields"], wide=output == "wide"))


def explanation(fields: list[Answer], *, wide: bool) -> tuple[list[str], list[list[str]]]:
    """The table of `explain`: its titles and its rows. A star is before a field that waits for a restart."""
    titles = ["FIELD", "MANIFEST", "LAUNCHED", "NOW", "REACH", *(["BY"] if wide else [])]
    rows = [
        [
            ("* " if row["pending"] else "") + row["field"],
            *(row[column] or "-" for column in ("manifest", "launched", "now", "reach")),
            *([row["how"]] if wide else []),
        ]
        for row in fields
    ]
    return titles, rows


def _put(vms: list[Answer], whole: object, output: str) -> None:
    match output:
        case "json":
            put_json(whole)
        case "yaml":
            put_yaml(whole)
        case "name":
            for vm in vms:
                put(vm["name"])
        case _:
            _put_as_table(vms, WIDE if output == "wide" else NARROW)


def _put_as_table(vms: list[Answer], columns: tuple[Column, ...]) -> None:
    if not vms:
        say("no VMs")
        return
    put_table([title for title, _ in columns], [[cell(vm) for _, cell in columns] for vm in vms])


def uptime(started: str | None, now: datetime) -> str:
    """How long ago that was, in its two largest units, or in seconds; `-` for never."""
    if started is None:
        return "-"
    minutes, seconds = divmod(max(0, int((now - datetime.fromisoformat(started)).total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours}h"
    if hours:
        return f"{hours}h{minutes}m"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


def note(vm: Answer) -> str:
    """The one thing worth knowing: the reason of what is not as it should be, or what waits for a restart."""
    stated = {c["type"]: c for c in vm["conditions"]}
    for kind in ("Stalled", "Degraded", "PruneHeld", "Suspended", "RestartRequired"):
        if kind in stated and stated[kind]["status"] == "True":
            said = stated[kind]
            reason = (kind == "RestartRequired" and said["message"]) or said["reason"]
            return str(kind if reason in {"", kind} else f"{kind}: {reason}")
    ready = stated.get("Ready")
    if ready and ready["status"] != "True":
        return str(ready["reason"])
    return "HostReachable" if "HostReachable" in stated else ""


def _shown(value: object) -> str:
    return "-" if value is None or value == "" else str(value)


def _unit(value: object, unit: str) -> str:
    return "-" if value is None else f"{value} {unit}"


_NOTE: Column = ("NOTE", note)  # of any length, so always the last

_FIRST: tuple[Column, ...] = (
    ("NAME", lambda vm: str(vm["name"])),
    ("STATUS", lambda vm: str(vm["status"])),
    ("DESIRED", lambda vm: _shown(vm["desiredState"])),
    ("CPUS", lambda vm: _shown(vm["cpuCores"])),
    ("MEMORY", lambda vm: _unit(vm["memory"], "MiB")),
    ("VNC", lambda vm: _shown(vm["vncPort"])),
    ("UPTIME", lambda vm: uptime(vm["startTime"], datetime.now(UTC))),
)

_MORE: tuple[Column, ...] = (
    ("PID", lambda vm: _shown(vm["pid"])),
    ("DISK", lambda vm: _unit(vm["diskSize"], "GiB")),
    ("NETWORK", lambda vm: _shown(vm["networkType"])),
    ("BOOT", lambda vm: _shown(vm["bootOrder"])),
    ("ISO", lambda vm: _shown(vm["isoPath"])),
    ("LABELS", lambda vm: _shown(",".join(f"{k}={v}" for k, v in vm["labels"].items()))),
)

NARROW = (*_FIRST, _NOTE)
WIDE = (*_FIRST, *_MORE, _NOTE)
