"""The work queue: names of VMs, each at most once, never handed out while somebody works on it.

As in controller-runtime: a name that is added while it is in progress is handed out again afterwards, so that no
event is lost and no two workers meet on one VM. Next: `reconciler.control.worker`.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque


class WorkQueue:
    """A queue of names for several worker threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ready: deque[str] = deque()
        self._dirty: set[str] = set()  # to be handed out: in `_ready`, or once its work is done
        self._working: set[str] = set()
        self._due: dict[str, float] = {}  # monotonic time of the next look at a name
        self._timers: list[tuple[float, str]] = []
        self._closed = False

    def add(self, name: str) -> None:
        """Ask for a look at this name, as soon as a worker is free."""
        with self._changed:
            self._add(name)

    def get(self) -> str | None:
        """The next name, waiting for one; None once the queue is closed. The caller owes a `done`."""
        with self._changed:
            while not self._closed:
                self._ripen()
                if self._ready:
                    return self._hand_out()
                self._changed.wait(self._until_next())
            return None

    def done(self, name: str, again_s: float | None) -> None:
        """Give a name back; `again_s` replaces whatever time was set for it (None: when something happens).

        A time that has passed already is now.
        """
        with self._changed:
            self._working.discard(name)
            self._due.pop(name, None)
            if again_s is not None and again_s > 0:
                self._due[name] = time.monotonic() + again_s
                heapq.heappush(self._timers, (self._due[name], name))
                self._changed.notify()
            if again_s is not None and again_s <= 0:
                self._dirty.add(name)
            if name in self._dirty and not self._closed:
                self._ready.append(name)
                self._changed.notify()

    def idle(self) -> bool:
        """Whether nobody works and nothing is due now."""
        with self._changed:
            self._ripen()
            return not self._ready and not self._working

    def close(self) -> None:
        """Let every `get` return None, now and later."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _add(self, name: str) -> None:
        if name in self._dirty:
            return
        self._dirty.add(name)
        if name not in self._working:
            self._ready.append(name)
            self._changed.notify()

    def _hand_out(self) -> str:
        name = self._ready.popleft()
        self._dirty.discard(name)
        self._working.add(name)
        return name

    def _ripen(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            due, name = heapq.heappop(self._timers)
            if self._due.get(name) == due:  # else a later look has set another time
                del self._due[name]
                self._add(name)

    def _until_next(self) -> float | None:
        while self._timers and self._due.get(self._timers[0][1]) != self._timers[0][0]:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
