"""For any manifest and any edit: the value asked for, in the fewest lines, and every other line as it was."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from reconciler.manifest.edit import REMOVE, Change, Keys, edit
from reconciler.manifest.nodes import Value, value_of
from reconciler.manifest.yaml_reader import read_documents

RUNS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
PATHS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12)
PORTS = st.integers(1, 65535)
FORWARDS: st.SearchStrategy[Value] = st.dictionaries(PORTS, PORTS, max_size=3).map(
    lambda ports: [{"hostPort": host, "guestPort": guest} for host, guest in ports.items()]
)
FIELDS: dict[str, st.SearchStrategy[Value]] = {
    "state": st.sampled_from(["running", "stopped"]),
    "memory": st.integers(16, 99_999),
    "cpuCores": st.integers(1, 255),
    "bootOrder": st.sampled_from(["cd,hd", "hd", "dc"]),
    "isoPath": PATHS,
    "suspend": st.booleans(),
    "portForwards": FORWARDS,
    "retainDays": st.integers(0, 9),
}
SPECS = st.fixed_dictionaries({}, optional=FIELDS)
COMMENTS = st.sampled_from(["", "  # why", " # é😀: {x}, [y]", "   "])
BETWEEN = st.sampled_from([[], [""], ["# a word"], ["  # memory: 1", ""]])


@dataclass(frozen=True)
class Layout:
    """How a manifest is written."""

    newline: str = "\n"
    step: int = 2
    flow: bool = False
    comment: str = ""
    between: list[str] = field(default_factory=list)
    last_newline: bool = True
    neighbours: bool = False

    def lines(self, spec: dict[str, Value]) -> list[str]:
        """The lines of the document, without line ends. Values are JSON, which is YAML."""
        indent = " " * self.step
        lines = [
            "# head",
            "apiVersion: reconciler/v1",
            "kind: VirtualMachine",
            "metadata:",
            f"{indent}name: web",
        ]
        if not spec:
            return lines
        pairs = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in spec.items()]
        if self.flow:
            return [*lines, f"spec: {{{', '.join(pairs)}}}{self.comment}"]
        lines.append(f"spec:{self.comment}")
        for pair in pairs:
            lines += [f"{indent}{pair}{self.comment}", *self.between]
        return lines

    def text(self, lines: list[str]) -> str:
        """The file of these lines, with a neighbour before and one behind where there are any."""
        own = self.newline.join(lines) + (self.newline if self.last_newline or self.neighbours else "")
        other = f"apiVersion: x{self.newline}---{self.newline}" if self.neighbours else ""
        return f"{other}{own}{'---' + self.newline + 'a: 1' if self.neighbours else ''}"

    def own_lines(self, text: str) -> list[str]:
        """The document's lines in a file; the neighbours must be what they were."""
        lines = text.split(self.newline)
        if self.neighbours:
            assert lines[:2] == ["apiVersion: x", "---"]
            assert lines[-2:] == ["---", "a: 1"]
            return lines[2:-2]
        assert lines[-1] == "" or not self.last_newline
        return lines[:-1] if self.last_newline else lines


LAYOUTS = st.builds(
    Layout,
    newline=st.sampled_from(["\n", "\r\n"]),
    step=st.sampled_from([1, 2, 4]),
    flow=st.booleans(),
    comment=COMMENTS,
    between=BETWEEN,
    last_newline=st.booleans(),
    neighbours=st.booleans(),
)


def edited(layout: Layout, lines: list[str], changes: dict[str, Change]) -> list[str]:
    """The document's lines behind an edit."""
    paths: dict[Keys, Change] = {("spec", key): change for key, change in changes.items()}
    return layout.own_lines(edit(layout.text(lines).encode(), "f", "web", paths).decode())


def spec_in(lines: list[str]) -> Value:
    """The spec as the strict reader sees it; none is an empty one."""
    (document,) = read_documents("\n".join(lines).encode(), "f")
    value = value_of(document.root)
    assert isinstance(value, dict)
    return value.get("spec") or {}


def line_of(lines: list[str], key: str) -> int:
    """The index of the line that holds a field of the spec."""
    return next(index for index, line in enumerate(lines) if line.lstrip(" ").startswith(f"{key}:"))


def written(layout: Layout, spec: dict[str, Value]) -> list[str]:
    """The lines of a manifest that is valid: an ISO's name has to survive as JSON within YAML."""
    lines = layout.lines(spec)
    assume(all("\u2028" not in line and "\u2029" not in line and "\x7f" not in line for line in lines))
    assume("isoPath" not in spec or str(spec["isoPath"]).isprintable())
    return lines


@RUNS
@given(LAYOUTS, SPECS, st.data())
def test_setting_a_field_that_is_there_changes_its_value_on_its_line(
    layout: Layout, spec: dict[str, Value], data: st.DataObject
) -> None:
    assume(spec)
    key = data.draw(st.sampled_from(sorted(spec)))
    value = data.draw(FIELDS[key])
    before = written(layout, spec)
    after = edited(layout, before, {key: value})
    index = line_of(before, "spec" if layout.flow else key)
    assert (after[:index], after[index + 1 :]) == (before[:index], before[index + 1 :])
    assert after[index].endswith(layout.comment)
    assert spec_in(after) == spec | {key: value}
    assert (after == before) == (json.dumps(value) == json.dumps(spec[key]))


@RUNS
@given(LAYOUTS, SPECS, st.data())
def test_adding_a_field_adds_one_line_behind_the_last_field(
    layout: Layout, spec: dict[str, Value], data: st.DataObject
) -> None:
    key = data.draw(st.sampled_from(sorted(FIELDS)))
    spec.pop(key, None)
    value = data.draw(FIELDS[key])
    before = written(layout, spec)
    after = edited(layout, before, {key: value})
    assert spec_in(after) == spec | {key: value}
    if spec and layout.flow:
        index = line_of(before, "spec")
        assert (after[:index], after[index + 1 :]) == (before[:index], before[index + 1 :])
    elif spec:
        index = line_of(before, list(spec)[-1]) + 1
        assert (after[:index], after[index + 1 :]) == (before[:index], before[index:])
        assert after[index].startswith(" " * layout.step + key)
    else:
        assert after[:-2] == before
        assert after[-2] == "spec:"


@RUNS
@given(LAYOUTS, SPECS, st.data())
def test_removing_a_field_removes_its_line(
    layout: Layout, spec: dict[str, Value], data: st.DataObject
) -> None:
    assume(len(spec) > 1)
    key = data.draw(st.sampled_from(sorted(spec)))
    before = written(layout, spec)
    index = line_of(before, "spec" if layout.flow else key)
    assume(layout.neighbours or layout.last_newline or index < len(before) - 1)
    after = edited(layout, before, {key: REMOVE})
    assert spec_in(after) == {name: value for name, value in spec.items() if name != key}
    rest = after[index + 1 :] if layout.flow else after[index:]
    assert (after[:index], rest) == (before[:index], before[index + 1 :])


@RUNS
@given(LAYOUTS, SPECS, SPECS, st.sets(st.sampled_from(sorted(FIELDS))))
def test_many_changes_at_once_give_exactly_the_value_asked_for(
    layout: Layout, spec: dict[str, Value], new: dict[str, Value], gone: set[str]
) -> None:
    before = layout.text(written(layout, spec))
    changes: dict[Keys, Change] = {("spec", key): value for key, value in new.items()}
    changes |= {("spec", key): REMOVE for key in gone}
    after = edit(before.encode(), "f", "web", changes).decode()
    documents = [value_of(one.root) for one in read_documents(after.encode(), "f")]
    (own,) = [one for one in documents if isinstance(one, dict) and "metadata" in one]
    expected = {key: value for key, value in (spec | new).items() if key not in gone}
    assert (own.get("spec") or {}) == expected
    for line in before.split(layout.newline):
        assert "#" not in line or line.startswith("spec") or ":" in line.split("#")[0] or line in after
