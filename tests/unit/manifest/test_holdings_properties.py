"""Whatever happens to the files, in whatever order: what must never be done to a VM, checked by another reckoning.

The machine below keeps its own, simpler books: which names each scan showed, and which scans said nothing. It
knows nothing of absences, holds and judgements.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reconciler.manifest.decode import Decoded
from reconciler.manifest.departures import Rules
from reconciler.manifest.holdings import Holdings, confirmed, fold, forgotten, resumed
from reconciler.manifest.seen import FileView, RootState, Scan
from reconciler.model.vm import DesiredVM, Removal
from tests.unit.manifest.scans import BEING_WRITTEN, broken, good, unreadable, vm

RULES = Rules()
VMS = tuple(f"vm{n}" for n in range(7))
FILES = tuple(f"{name}.yaml" for name in VMS)
NAMES = st.sampled_from(VMS)
SOME_NAMES = st.sets(NAMES, max_size=3)
SECONDS = st.sampled_from([0.1, 5.0, 9.5, 10.0, 10.0, 300.0, 601.0])


class Manifests(RuleBasedStateMachine):
    """A directory of manifests, an agent that scans it, and people who do all sorts of things to both."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.boot = 0
        self.generation = 0
        self.files: dict[str, FileView] = {}
        self.holdings = Holdings("/manifests", "boot-0")
        self.sound_absences: dict[str, list[float]] = {}
        self.unasked: dict[str, float] = {}
        self.once_sound: set[str] = set()
        self.versions: dict[str, set[DesiredVM]] = {}

    # ---- what people do to the files

    @rule(
        file=st.sampled_from(FILES),
        names=st.sets(NAMES, min_size=1, max_size=3),
        protect=st.booleans(),
        passing_s=SECONDS,
    )
    def write(self, file: str, names: set[str], protect: bool, passing_s: float) -> None:
        self._write(file, names, protect)
        self._scan(passing_s)

    def _write(self, file: str, names: set[str], protect: bool) -> None:
        self.generation += 1
        vms = [vm(n, file, generation=str(self.generation), protect=protect) for n in sorted(names)]
        self.files[file] = good(*vms)
        for written in vms:
            self.versions.setdefault(written.name, set()).add(written)

    @rule(names=st.sets(NAMES, min_size=4), passing_s=SECONDS)
    def tidy_up(self, names: set[str], passing_s: float) -> None:
        self.files.clear()
        self.once_sound.clear()
        for name in names:
            self._write(f"{name}.yaml", {name}, False)
        self._scan(passing_s)

    @rule(file=st.sampled_from(FILES), names=st.sets(NAMES, max_size=2), passing_s=SECONDS)
    def break_a_file(self, file: str, names: set[str], passing_s: float) -> None:
        self.files[file] = broken(file, *sorted(names))
        self._scan(passing_s)

    @rule(file=st.sampled_from(FILES), written=st.booleans(), passing_s=SECONDS)
    def make_a_file_unreadable(self, file: str, written: bool, passing_s: float) -> None:
        self.files[file] = BEING_WRITTEN if written else unreadable(file)
        self._scan(passing_s)

    @rule(files=st.sets(st.sampled_from(FILES), max_size=3), passing_s=SECONDS)
    def delete(self, files: set[str], passing_s: float) -> None:
        self.files = {f: v for f, v in self.files.items() if f not in files}
        self.once_sound -= files
        self._scan(passing_s)

    @rule(passing_s=SECONDS)
    def look(self, passing_s: float) -> None:
        self._scan(passing_s)

    @rule(passing_s=SECONDS, root=st.sampled_from(RootState))
    def look_while_something_is_wrong(self, passing_s: float, root: RootState) -> None:
        self._scan(passing_s, root)

    # ---- what the agent and its operator do

    def _scan(self, passing_s: float, root: RootState = RootState.PRESENT) -> None:
        self.now_s += passing_s
        scan = Scan(root, self.files if root is RootState.PRESENT else {})
        before = self.holdings
        self.holdings = fold(before, scan, self.now_s, RULES)
        self.once_sound |= {f for f, v in scan.files.items() if isinstance(v, Decoded) and not v.problems}
        self._note_absences(scan, before)
        new = _removed(self.holdings) - _removed(before)
        for name in new:
            self._check_removal(name)
        self.unasked |= dict.fromkeys(new, self.now_s)
        if new:
            self._check_brake(before)

    @rule(names=SOME_NAMES)
    def confirm(self, names: set[str]) -> None:
        before = self.holdings
        self.holdings = confirmed(before, names)
        for name in _removed(self.holdings) - _removed(before):
            assert not before.entries[name].last.spec.protect
            assert before.entries[name].hold is not None

    @precondition(lambda self: bool(_removed(self.holdings)))
    @rule()
    def complete_the_removals(self) -> None:
        for name in _removed(self.holdings):
            self.holdings = forgotten(self.holdings, name)

    @rule(boot=st.booleans())
    def restart(self, boot: bool) -> None:
        self.boot += boot
        if boot:
            self.sound_absences.clear()
        self.holdings = resumed(self.holdings, "/manifests", f"boot-{self.boot}", self.now_s)

    # ---- what must be true

    @invariant()
    def only_versions_that_were_written_are_wanted(self) -> None:
        for name, entry in self.holdings.entries.items():
            assert entry.last in self.versions[name]

    def _note_absences(self, scan: Scan, before: Holdings) -> None:
        """The names that a scan which saw everything did not show."""
        views = scan.files.values()
        shown = {n for v in views if isinstance(v, Decoded) for n in (*v.names, *(d.name for d in v.vms))}
        sound = scan.root is RootState.PRESENT and scan.files and not self._a_file_is_unknown()
        for name in before.entries:
            if name in shown:
                self.sound_absences.pop(name, None)
            elif sound:
                self.sound_absences.setdefault(name, []).append(self.now_s)

    def _a_file_is_unknown(self) -> bool:
        """Whether a file that was never sound says nothing of what it holds."""
        return any(not _names_in(view) and file not in self.once_sound for file, view in self.files.items())

    def _check_removal(self, name: str) -> None:
        absences = self.sound_absences[name]
        assert absences[-1] == self.now_s
        assert absences[-1] - absences[0] >= RULES.confirm_s
        assert not self.holdings.entries[name].last.spec.protect

    def _check_brake(self, before: Holdings) -> None:
        present = self.holdings.entries.keys() | self.unasked.keys()
        recent = {n for n, at_s in self.unasked.items() if self.now_s - at_s < RULES.brake_window_s}
        still = {n for n in recent if not isinstance(self.holdings.wanted(n), DesiredVM)}
        assert len(still) <= 1 or len(still) * 5 <= len(present | before.entries.keys())


def _removed(holdings: Holdings) -> set[str]:
    return {name for name in holdings.entries if isinstance(holdings.wanted(name), Removal)}


def _names_in(view: FileView) -> tuple[str, ...]:
    return view.names if isinstance(view, Decoded) else ()


TestManifests = Manifests.TestCase
TestManifests.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
