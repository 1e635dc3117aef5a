"""The smallest edit: one field changes, every other byte stays."""

from __future__ import annotations

import difflib

import pytest

from reconciler.manifest.decode import decode
from reconciler.manifest.edit import REMOVE, Change, Keys, edit, render_new, without
from reconciler.model.errors import ManifestError

HEAD = """\
apiVersion: reconciler/v1
kind: VirtualMachine
metadata:
  name: web  # its name
"""
FULL = (
    "# modeline\n"
    + HEAD
    + """\

# what it should be
spec:
  state: 'running'   # running | stopped
  memory: 2048 # MiB
  # cpuCores: 4
  isoPath: "a.iso"
  shutdown:
    timeoutSeconds: 60   # seconds
    # end of shutdown

  retainDays: 7
  # the end of the spec

# the end of the file
"""
)


def changed(text: str, path: Keys, change: Change) -> str:
    """The lines that an edit takes away (-) and adds (+)."""
    edited = edit(text.encode(), "f.yaml", "web", {path: change}).decode()
    lines = list(difflib.ndiff(text.splitlines(keepends=True), edited.splitlines(keepends=True)))
    return "".join(line for sign in "-+" for line in lines if line[0] == sign)


@pytest.mark.parametrize(
    ("path", "change", "diff"),
    [
        (
            ("spec", "state"),
            "stopped",
            "-   state: 'running'   # running | stopped\n+   state: 'stopped'   # running | stopped\n",
        ),
        (("spec", "memory"), 64, "-   memory: 2048 # MiB\n+   memory: 64 # MiB\n"),
        (("spec", "isoPath"), "b c.iso", '-   isoPath: "a.iso"\n+   isoPath: "b c.iso"\n'),
        (
            ("spec", "shutdown", "timeoutSeconds"),
            5,
            "-     timeoutSeconds: 60   # seconds\n+     timeoutSeconds: 5   # seconds\n",
        ),
        (("spec", "shutdown"), {"timeoutSeconds": 60}, ""),
        (("spec", "cpuCores"), 1, "+   cpuCores: 1\n"),
        (("spec", "memory"), REMOVE, "-   memory: 2048 # MiB\n"),
        (("spec", "cpuCores"), REMOVE, ""),
        (("metadata", "labels", "a"), REMOVE, ""),
        (("metadata", "labels", "tier"), "no", '+   labels:\n+     tier: "no"\n'),
        (("metadata", "labels"), {"tier": "web"}, "+   labels: {tier: web}\n"),
        (
            ("spec", "portForwards"),
            [{"hostPort": 80, "guestPort": 80, "hostAddress": "127.0.0.1"}],
            '+   portForwards: [{hostPort: 80, guestPort: 80, hostAddress: "127.0.0.1"}]\n',
        ),
        (
            ("spec", "shutdown", "timeoutSeconds"),
            REMOVE,
            "-   shutdown:\n-     timeoutSeconds: 60   # seconds\n+   shutdown: {}   # seconds\n",
        ),
        (("spec", "shutdown"), REMOVE, "-   shutdown:\n-     timeoutSeconds: 60   # seconds\n"),
    ],
)
def test_an_edit_changes_the_lines_of_its_field_alone(path: Keys, change: Change, diff: str) -> None:
    assert changed(FULL, path, change) == diff


def test_a_new_field_goes_behind_the_last_one_and_before_the_comments_at_the_end() -> None:
    edited = edit(FULL.encode(), "f.yaml", "web", {("spec", "protect"): True}).decode()
    assert "  retainDays: 7\n  protect: true\n  # the end of the spec\n\n# the end of the file\n" in edited


@pytest.mark.parametrize(
    ("spec", "after"),
    [
        ("", "spec:\n  memory: 64\n"),
        ("spec:\n", "spec:\n  memory: 64\n"),
        ("spec: # none yet\n  # memory: 1\n", "spec: # none yet\n  memory: 64\n  # memory: 1\n"),
        ("spec: ~  # none yet\n", "spec:  # none yet\n  memory: 64\n"),
        ("spec:\n  null\n", "spec:\n  memory: 64\n"),
        ("spec: {}  # none yet\n", "spec: {memory: 64}  # none yet\n"),
        ("spec: {state: running}\n", "spec: {state: running, memory: 64}\n"),
        ("spec: {state: running, }\n", "spec: {state: running, memory: 64, }\n"),
        ("spec: {memory: 1024, state: running}\n", "spec: {memory: 64, state: running}\n"),
        ("spec: {\n  state: running, # c\n  protect: true  # d\n}\n",
         "spec: {\n  state: running, # c\n  protect: true, memory: 64  # d\n}\n"),
        ("spec:\n    state: running\n", "spec:\n    state: running\n    memory: 64\n"),
        ("spec:\n  isoPath: >-\n    a\n\n\n# end\n", "spec:\n  isoPath: >-\n    a\n  memory: 64\n\n\n# end\n"),
        ("spec:\n  portForwards:\n  - hostPort: 1\n    guestPort: 1\n",
         "spec:\n  portForwards:\n  - hostPort: 1\n    guestPort: 1\n  memory: 64\n"),
        ("spec:\n  portForwards:\n", "spec:\n  portForwards:\n  memory: 64\n"),
        ('"spec" :\n  "memory" : 1024\n', '"spec" :\n  "memory" : 64\n'),
    ],
)  # fmt: skip
def test_a_field_is_set_in_every_form_that_a_section_can_have(spec: str, after: str) -> None:
    before = (HEAD + spec).encode()
    assert edit(before, "f.yaml", "web", {("spec", "memory"): 64}).decode() == HEAD + after


@pytest.mark.parametrize(
    ("spec", "path", "after"),
    [
        ("spec: {state: running, memory: 64}\n", "memory", "spec: {state: running}\n"),
        ("spec: {memory: 64, state: running}\n", "memory", "spec: {state: running}\n"),
        ("spec: {memory: 64}\n", "memory", "spec: {}\n"),
        ("spec: {memory: 64,}\n", "memory", "spec: {}\n"),
        ("spec:\n  memory: 64\n", "memory", "spec: {}\n"),
        ("spec:\n  memory: 64\n  state: running", "state", "spec:\n  memory: 64\n"),
        ("spec:\n  isoPath: |-\n    a\n  memory: 64\n", "isoPath", "spec:\n  memory: 64\n"),
        ("spec:\n  portForwards:\n    - hostPort: 1\n      guestPort: 1\n  memory: 64\n", "portForwards",
         "spec:\n  memory: 64\n"),
        ("spec:\n", "memory", "spec:\n"),
    ],
)  # fmt: skip
def test_a_field_is_removed_in_every_form_that_a_section_can_have(spec: str, path: str, after: str) -> None:
    before = (HEAD + spec).encode()
    assert edit(before, "f.yaml", "web", {("spec", path): REMOVE}).decode() == HEAD + after


@pytest.mark.parametrize(
    ("spec", "after"),
    [
        ("spec:\n  isoPath: |-\n    a.iso\n\n  memory: 64\n", "spec:\n  isoPath: b.iso\n\n  memory: 64\n"),
        ("spec: {shutdown: , isoPath: 'a'}\n", "spec: {shutdown: , isoPath: 'b.iso'}\n"),
        ("spec:\n  isoPath:\n    a.iso\n", "spec:\n  isoPath:\n    b.iso\n"),
    ],
)
def test_an_odd_form_of_a_value_gives_way_to_a_plain_one(spec: str, after: str) -> None:
    assert edit((HEAD + spec).encode(), "f", "web", {("spec", "isoPath"): "b.iso"}).decode() == HEAD + after


def test_values_in_place_of_empty_ones_and_of_sections_are_set_on_the_key_s_line() -> None:
    text = HEAD + "spec:\n  shutdown:\n  portForwards:\n    - {hostPort: 1, guestPort: 1}\n"
    assert changed(text, ("spec", "shutdown"), {"timeoutSeconds": 5}) == (
        "-   shutdown:\n+   shutdown: {timeoutSeconds: 5}\n"
    )
    assert changed(text, ("spec", "portForwards"), []) == (
        "-   portForwards:\n-     - {hostPort: 1, guestPort: 1}\n+   portForwards: []\n"
    )


def test_a_section_is_compared_field_by_field() -> None:
    text = HEAD.replace("web  #", "web #") + "  labels:\n    a: '1'  # one\n    b: x\n    c: y\n"
    labels: Change = {"a": "1", "b": "z", "d": "new"}
    edited = edit(text.encode(), "f", "web", {("metadata", "labels"): labels}).decode()
    assert edited.endswith("  labels:\n    a: '1'  # one\n    b: z\n    d: new\n")


@pytest.mark.parametrize("newline", ["\r\n", "\n"])
@pytest.mark.parametrize("last", ["", "\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_line_ends_byte_order_mark_and_a_missing_last_newline_are_kept(
    newline: str, last: str, bom: str
) -> None:
    last = newline if last else ""
    before = bom + HEAD.replace("\n", newline) + f"spec:{newline}  memory: 1024{last}"
    edited = edit(before.encode(), "f.yaml", "web", {("spec", "memory"): 64, ("spec", "cpuCores"): 3})
    after = bom + HEAD.replace("\n", newline) + f"spec:{newline}  memory: 64{newline}  cpuCores: 3{last}"
    assert edited.decode() == after


def test_of_several_documents_only_the_named_one_changes() -> None:
    other = HEAD.replace("web", "db") + "spec: {memory: 1024}\n"
    text = f"# head\n{other}---\n{HEAD}---  # third\n{other.replace('db', 'x')}...\n"
    edited = edit(text.encode(), "f.yaml", "web", {("spec", "memory"): 64}).decode()
    assert edited == text.replace(f"{HEAD}---", f"{HEAD}spec:\n  memory: 64\n---")


def test_a_broken_neighbour_does_not_prevent_an_edit() -> None:
    text = f"{HEAD}---\napiVersion: nonsense\n---\na: *b\n---\nx: ["
    edited = edit(text.encode(), "f.yaml", "web", {("spec", "memory"): 64}).decode()
    assert edited == text.replace(f"{HEAD}---", f"{HEAD}spec:\n  memory: 64\n---")


def test_nothing_to_change_is_the_same_file() -> None:
    assert edit(FULL.encode(), "f.yaml", "web", {}) == FULL.encode()
    assert edit(FULL.encode(), "f.yaml", "web", {("spec", "state"): "running"}) == FULL.encode()


@pytest.mark.parametrize(
    ("text", "path", "change", "said"),
    [
        (HEAD, ("spec", "memory"), "2G", 'f.yaml:6:3: spec.memory: found "2G"'),
        (HEAD, ("spec", "memory"), True, "spec.memory: found true"),
        (HEAD, ("spec", "memry"), 5, "found the unknown field memry, expected memory"),
        (HEAD, ("spec", "mountIso"), True, "expected isoPath as well"),
        (HEAD, ("metadata", "name"), REMOVE, "metadata.name: found nothing"),
        (HEAD, ("metadata", "name", "x"), 1, "f.yaml:4:3: metadata.name: found no section of fields"),
        (HEAD + "spec: {memory: 2G}\n", ("spec", "state"), "stopped", 'spec.memory: found "2G"'),
        (HEAD + "spec: {a: *b}\n", ("spec", "state"), "stopped", "found the alias *b"),
        (HEAD + "spec: {", ("spec", "state"), "stopped", "expected"),
        (HEAD + "x: \0\n", ("spec", "state"), "stopped", "found U+0000"),
        (HEAD.replace("web", "db"), ("spec", "state"), "stopped", "found no VM web that can be edited"),
        (HEAD + "---\n" + HEAD, ("spec", "state"), "stopped", "found no VM web that can be edited"),
        ("", ("spec", "state"), "stopped", "found no VM web that can be edited"),
        (HEAD + "? spec\n", ("spec", "memory"), 64, "found a form of YAML that cannot be edited safely"),
    ],
)
def test_an_edit_that_would_leave_no_valid_vm_is_refused(
    text: str, path: Keys, change: Change, said: str
) -> None:
    with pytest.raises(ManifestError) as caught:
        edit(text.encode(), "f.yaml", "web", {path: change})
    assert said in str(caught.value)


def test_a_vm_can_be_renamed() -> None:
    edited = edit(FULL.encode(), "f.yaml", "web", {("metadata", "name"): "db", ("spec", "memory"): 64})
    (vm,) = decode(edited, "f.yaml").vms
    assert (vm.name, vm.spec.memory_mib) == ("db", 64)


def test_a_document_is_taken_out_of_its_file() -> None:
    other = HEAD.replace("web", "db")
    third = HEAD.replace("web", "x")
    assert without(HEAD.encode(), "f", "web") is None
    assert without(f"{HEAD}---\n{other}".encode(), "f", "web") == other.encode()
    assert without(f"{other}---\n{HEAD}".encode(), "f", "web") == other.encode()
    assert without(f"{other}---\n{HEAD}---\n{third}".encode(), "f", "web") == f"{other}---\n{third}".encode()


@pytest.mark.parametrize("rest", ["---\nx: [", "---\na: *b\n", "---\nx: \0\n"])
def test_a_file_with_something_unreadable_in_it_loses_nothing(rest: str) -> None:
    with pytest.raises(ManifestError):
        without((HEAD + rest).encode(), "f", "web")


def test_a_fresh_manifest_is_valid_and_has_the_editor_s_modeline() -> None:
    text = render_new("5vm", {"state": "stopped", "memory": 64, "isoPath": "a b.iso"})
    assert text.startswith("# yaml-language-server: $schema=")
    assert '  name: "5vm"\n' in text
    (vm,) = decode(text.encode(), "f.yaml").vms
    assert (vm.name, vm.spec.memory_mib, vm.spec.iso_path) == ("5vm", 64, "a b.iso")
    assert decode(render_new("web", {}).encode(), "f.yaml").vms[0].name == "web"
