"""Cycles of `dependsOn`: they are found, told at each place, and leave their VMs on the last good version."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from reconciler.manifest.departures import Rules
from reconciler.manifest.dependencies import cycles, settled
from reconciler.manifest.holdings import Holdings, fold
from reconciler.model.vm import DesiredVM
from tests.unit.manifest.scans import good, scan, vm

NAMES = "abcdef"
GRAPHS = st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), max_size=3).map(tuple))


def after(name: str, *names: str, generation: str = "1") -> DesiredVM:
    """A VM that is started after these."""
    one = vm(name, generation=generation)
    return replace(one, spec=replace(one.spec, depends_on=names))


def graph(**waits_for: str) -> dict[str, DesiredVM]:
    """`a="bc"`: a is started after b and c."""
    return {name: after(name, *names) for name, names in waits_for.items()}


def is_cyclic(edges: dict[str, tuple[str, ...]]) -> bool:
    """By the plainest way: take away what waits for nobody until nothing changes."""
    left = {name: {n for n in names if n in edges} for name, names in edges.items()}
    while free := {name for name, names in left.items() if not names & left.keys()}:
        left = {name: names for name, names in left.items() if name not in free}
    return bool(left)


def test_a_chain_and_a_diamond_are_in_order() -> None:
    offered = graph(a="bc", b="d", c="d", d="")
    assert settled(offered, {}).problems == ()
    assert settled(offered, {}).in_force == offered


def test_a_name_that_nobody_describes_is_no_cycle() -> None:
    assert settled(graph(a="x"), {}).problems == ()


def test_each_place_of_a_cycle_is_told_and_names_the_others() -> None:
    found = {p.file: p for p in settled(graph(a="b", b="c", c="a", d="a"), {}).problems}
    assert found.keys() == {"a.yaml", "b.yaml", "c.yaml"}
    assert found["b.yaml"].field == "spec.dependsOn"
    assert "b → c → a → b (c in c.yaml:1:1, a in a.yaml:1:1)" in found["b.yaml"].message.replace(
        "a in a.yaml:1:1, c in c.yaml:1:1", "c in c.yaml:1:1, a in a.yaml:1:1"
    )


def test_one_that_waits_for_itself_is_told_so() -> None:
    (problem,) = settled(graph(a="a"), {}).problems
    assert "a is to be started after itself" in problem.message


def test_the_vms_of_a_cycle_stay_on_their_last_good_version_and_others_go_on() -> None:
    known = {"a": after("a", "b"), "b": after("b"), "c": after("c")}
    offered = {
        "a": after("a", "b", generation="2"),
        "b": after("b", "a", generation="2"),
        "c": after("c", "a"),
    }
    force = settled(offered, known).in_force
    assert (force["a"], force["b"], force["c"]) == (known["a"], known["b"], offered["c"])


def test_new_vms_of_a_cycle_are_not_there_at_all() -> None:
    assert settled(graph(a="b", b="a", c="a"), {}).in_force.keys() == {"c"}


def test_a_last_good_version_that_closes_another_cycle_takes_that_back_too() -> None:
    known = {"a": after("a", "b"), "b": after("b")}
    offered = {"a": after("a", "a"), "b": after("b", "a")}
    assert settled(offered, known).in_force == known


@given(GRAPHS)
def test_a_cycle_is_found_where_there_is_one_and_is_one(edges: dict[str, tuple[str, ...]]) -> None:
    found = list(cycles(edges))
    assert bool(found) == is_cyclic(edges)
    for cycle in found:
        for here, following in zip(cycle, (*cycle[1:], cycle[0]), strict=True):
            assert following in edges[here]


@given(st.lists(GRAPHS, max_size=4))
def test_whatever_is_offered_one_after_the_other_nothing_cyclic_comes_in_force(
    rounds: list[dict[str, tuple[str, ...]]],
) -> None:
    known: dict[str, DesiredVM] = {}
    for edges in rounds:
        offered = {name: after(name, *names) for name, names in edges.items()}
        result = settled(offered, known)
        known = dict(result.in_force)
        assert not is_cyclic({name: one.spec.depends_on for name, one in known.items()})
        assert bool(result.problems) == (known != {**dict(result.in_force), **offered})


def test_ten_thousand_in_a_row_are_no_trouble() -> None:
    edges = {f"vm{n}": (f"vm{n + 1}",) for n in range(10_000)}
    assert list(cycles(edges)) == []
    (found,) = cycles({**edges, "vm10000": ("vm0",)})
    assert len(found) == 10_001


def test_a_cycle_in_the_manifests_changes_nothing_until_it_is_mended() -> None:
    rules = Rules()
    start = fold(Holdings("/m", "boot"), scan(a=good(after("a", "b")), b=good(after("b"))), 0, rules)
    cyclic = fold(start, scan(a=good(after("a", "b")), b=good(after("b", "a"))), 20, rules)
    assert cyclic.wanted("b") == after("b")
    mended = fold(cyclic, scan(a=good(after("a"))), 40, rules)
    mended = fold(mended, scan(a=good(after("a")), b=good(after("b", "a"))), 60, rules)
    assert mended.wanted("b") == after("b", "a")
