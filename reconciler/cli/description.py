"""The text of `describe`: a VM as a person wants to read it. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.cli.client import Answer

WIDTH = 18


def describe_vm(vm: Answer) -> str:
    """Facts first, then what is stated, what waits, and what would be done."""
    return "\n".join((*_facts(vm), *_conditions(vm), *_pending(vm), *_last_exit(vm), *_plan(vm)))


def _facts(vm: Answer) -> Iterator[str]:
    source = vm["source"]
    yield _line("Name", vm["name"])
    yield _line("Status", vm["status"] if vm["pid"] is None else f"{vm['status']} (pid {vm['pid']})")
    yield _line("Desired", vm["desiredState"] or "- (no manifest describes it)")
    yield _line("Started", vm["startTime"])
    yield _line("Manifest", f"{source['file']}:{source['line']}" if source else None)
    yield _line("Generation", _generation(vm))
    yield _line("UUID", vm["uuid"])
    yield _line("Labels", ", ".join(f"{k}={v}" for k, v in vm["labels"].items()))
    yield _line("CPU cores", vm["cpuCores"])
    yield _line("Memory", _with_unit(vm["memory"], "MiB"))
    yield _line("Disk", _with_unit(vm["diskSize"], "GiB"))
    yield _line("Network", vm["networkType"])
    yield _line("VNC port", vm["vncPort"])
    yield _line("Boot order", vm["bootOrder"])
    where = "in the drive" if vm["isMountIso"] else "not in the drive"
    yield _line("ISO", f"{vm['isoPath']} ({where})" if vm["isoPath"] else None)


def _generation(vm: Answer) -> str | None:
    if vm["generation"] is None:
        return None
    same = vm["generation"] == vm["observedGeneration"]
    return f"{vm['generation']} ({'settled' if same else 'not settled yet'})"


def _conditions(vm: Answer) -> Iterator[str]:
    if vm["conditions"]:
        yield "Conditions:"
    for stated in vm["conditions"]:
        head = f"{stated['type']}={stated['status']}"
        yield f"  {head}  {stated['reason']}: {stated['message']} (since {stated['lastTransitionTime']})"


def _pending(vm: Answer) -> Iterator[str]:
    if vm["pending"]:
        yield "Waits for a restart:"
    for change in vm["pending"]:
        yield f"  {change['field']}: {change['running']} → {change['wanted']}"


def _last_exit(vm: Answer) -> Iterator[str]:
    if end := vm["lastExit"]:
        yield _line("Last exit", f"{end['kind']} at {end['time']}: {end['message']}")
        if end["crashBundle"]:
            yield _line("Kept of it", f"vms/{vm['name']}/{end['crashBundle']} in the state directory")
    if vm["failures"]:
        yield _line("Failures in a row", vm["failures"])
    if vm["nextTryInSeconds"] is not None:
        yield _line("Next try", f"in {vm['nextTryInSeconds']:.0f} s, as of the last look")


def _plan(vm: Answer) -> Iterator[str]:
    yield "Plan of the last look:"
    for line in str(vm["plan"]).splitlines():
        yield f"  {line}"


def _with_unit(value: object, unit: str) -> str | None:
    return None if value is None else f"{value} {unit}"


def _line(title: str, value: object) -> str:
    shown = "-" if value is None or value == "" else value
    return f"{title + ':':<{WIDTH}} {shown}"
