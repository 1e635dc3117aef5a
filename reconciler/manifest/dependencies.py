"""Cycles in `dependsOn`: no order of starting can satisfy them, so they are problems of the manifests. Pure.

The VMs of a cycle stay on their last good version; together with that, the rest may be cyclic again, so it is looked
at until it is not. What was in force before had no cycle, so this ends. Used by `reconciler.manifest.holdings`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reconciler.model.vm import DesiredVM, Problem

FIELD = "spec.dependsOn"


@dataclass(frozen=True)
class Settled:
    """The VMs in force, and what is wrong with those that are not."""

    in_force: Mapping[str, DesiredVM]
    problems: tuple[Problem, ...]


def settled(offered: Mapping[str, DesiredVM], known: Mapping[str, DesiredVM]) -> Settled:
    """What counts of the versions that the manifests offer, where `known` are the last good ones."""
    force = {**known, **offered}
    problems: dict[Problem, None] = {}
    while refused := _refused(force, offered):
        for cycle in refused:
            problems.update(dict.fromkeys(_problems(cycle, force)))
        for name in {name for cycle in refused for name in cycle}:
            if name in known:
                force[name] = known[name]
            else:
                del force[name]
        offered = {name: vm for name, vm in offered.items() if force.get(name) is vm}
    return Settled(force, tuple(problems))


def cycles(waits_for: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """Cycles, each once; where several share a VM perhaps not all, but one at least where there is any."""
    done: set[str] = set()
    for start in waits_for:
        path: dict[str, Iterator[str]] = {}
        current: str | None = start if start not in done else None
        while current is not None:
            following = path.setdefault(current, iter(waits_for.get(current, ())))
            name = next(following, None)
            if name is None:
                done.add(path.popitem()[0])
                current = next(reversed(path), None)
            elif name in path:
                names = tuple(path)
                yield names[names.index(name) :]
            elif name in waits_for and name not in done:
                current = name


def _refused(force: Mapping[str, DesiredVM], offered: Mapping[str, DesiredVM]) -> list[tuple[str, ...]]:
    """The cycles that are there because of something that is offered."""
    found = cycles({name: vm.spec.depends_on for name, vm in force.items()})
    return [cycle for cycle in found if any(name in offered for name in cycle)]


def _problems(cycle: tuple[str, ...], force: Mapping[str, DesiredVM]) -> Iterator[Problem]:
    """One at each place."""
    for name in cycle:
        source = force[name].source
        yield Problem(source.file, source.line, source.column, FIELD, _message(name, cycle, force))


def _message(name: str, cycle: tuple[str, ...], force: Mapping[str, DesiredVM]) -> str:
    last = "Until then the VM stays on its last good version"
    if len(cycle) == 1:
        return f"{name} is to be started after itself: take its own name out. {last}"
    turn = cycle.index(name)
    around = " → ".join((*cycle[turn:], *cycle[:turn], name))
    others = ", ".join(f"{other} in {force[other].source}" for other in cycle if other != name)
    return f"each waits for the next, and none can be first: {around} ({others}). Take one name out. {last}"
