"""A manifests directory that a real watcher watches, and a diary of every version that the agent ever wanted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from reconciler.clock import SystemClock
from reconciler.layout import Layout
from reconciler.manifest.catalog import Catalog
from reconciler.manifest.departures import Rules
from reconciler.manifest.scan import Scanner
from reconciler.manifest.watch import Watcher
from reconciler.model.vm import DesiredVM, Removal, Wanted

NEVER_S = 3600.0
"""A rescan that does not come during a test: what is seen was hinted at."""
PATIENCE_S = 20.0

TEXT = "apiVersion: reconciler/v1\nkind: VirtualMachine\nmetadata:\n  name: {}\nspec:\n  memory: {}\n{}"
PADDING = "# " + "so long that it takes several writes " * 400 + "\n"


def manifest(name: str, memory_mib: int = 512, tail: str = "") -> str:
    """A manifest's text; of the first half of it, a good part would be valid too."""
    return TEXT.format(name, memory_mib, tail)


class Diary:
    """All that was wanted of each VM, in order, and how often somebody looked."""

    def __init__(self, root: Path, state_dir: Path, confirm_s: float) -> None:
        clock = SystemClock()
        layout = Layout(state_dir, state_dir)
        self.catalog = Catalog(layout, root, Scanner(root, clock), clock, Rules(confirm_s=confirm_s))
        self.looks = 0
        self.look_again_s: float | None = None
        self.pages: dict[str, list[Wanted]] = {}
        self._turned = threading.Condition()

    def look(self) -> float | None:
        """One look, as the agent makes it."""
        refresh = self.catalog.refresh()
        with self._turned:
            self.looks += 1
            self.look_again_s = refresh.look_again_s
            for name in sorted(refresh.changed):
                self._note(name, self.catalog.wanted(name))
            self._turned.notify_all()
        return refresh.look_again_s

    def _note(self, name: str, wanted: Wanted) -> None:
        page = self.pages.setdefault(name, [])
        if not page or page[-1] != wanted:
            page.append(wanted)

    def wait(self, what: str, predicate: Callable[[], bool]) -> None:
        """Wait until a look makes `predicate` true."""
        with self._turned:
            assert self._turned.wait_for(predicate, PATIENCE_S), f"waited in vain: {what}; {self.pages}"

    def wait_for_a_look(self) -> None:
        """Wait until a look that began after this call has ended."""
        looks = self.looks
        self.wait("two looks", lambda: self.looks > looks + 1)

    def wait_for_memory(self, name: str, memory_mib: int) -> None:
        """Wait until the VM is wanted with so much memory."""
        self.wait(f"{name} with {memory_mib} MiB", lambda: self.memory(name)[-1:] == [memory_mib])

    def memory(self, name: str) -> list[int]:
        """The memory of each version that was wanted, in order. A removal fails the test."""
        versions = self.pages.get(name, [])
        assert all(isinstance(v, DesiredVM) for v in versions), versions
        return [v.spec.memory_mib for v in versions if isinstance(v, DesiredVM)]

    def removed(self) -> list[str]:
        """The names whose removal was ever wanted."""
        return [n for n, page in self.pages.items() if any(isinstance(v, Removal) for v in page)]


@contextmanager
def watched(
    root: Path, state_dir: Path, *, rescan_s: float = NEVER_S, confirm_s: float = NEVER_S
) -> Iterator[Diary]:
    """A diary whose watcher runs, after its first look."""
    diary = Diary(root, state_dir, confirm_s)
    watcher = Watcher(root, rescan_s, diary.look)
    watcher.start()
    try:
        diary.wait("the first look", lambda: diary.looks > 0)
        yield diary
    finally:
        watcher.stop()


def settled(count: Callable[[], int]) -> int:
    """A count of looks, once all that was done so far must have been heard of."""
    while True:
        before = count()
        time.sleep(0.3)  # silence can only be listened to
        if count() == before:
            return before


def write_aside_and_rename(path: Path, text: str) -> None:
    """As `vim`, `sed -i` and our own API do."""
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(text)
    aside.rename(path)
