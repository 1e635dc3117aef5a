"""The latest status of every VM: written by the workers, read by everybody, and waited upon by those who asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from reconciler.model.status import VMStatus


class Board:
    """A board with one status for each VM, safe for any number of threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._statuses: dict[str, VMStatus] = {}

    def get(self, name: str) -> VMStatus | None:
        """The latest status, or None for a name that was never looked at, or is gone."""
        return self._statuses.get(name)

    def all(self) -> tuple[VMStatus, ...]:
        """Every status, sorted by name."""
        with self._changed:
            return tuple(self._statuses[name] for name in sorted(self._statuses))

    def publish(self, status: VMStatus) -> None:
        """Replace the status of one VM."""
        with self._changed:
            self._statuses[status.name] = status
            self._changed.notify_all()

    def drop(self, name: str) -> None:
        """Take down a VM that is no more."""
        with self._changed:
            self._statuses.pop(name, None)
            self._changed.notify_all()

    def wait_for(
        self, name: str, predicate: Callable[[VMStatus | None], bool], timeout_s: float
    ) -> VMStatus | None:
        """The last status seen, whether the predicate came true or the time ran out."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not predicate(status := self._statuses.get(name)):
                left_s = deadline - time.monotonic()
                if left_s <= 0 or not self._changed.wait(left_s):
                    return self._statuses.get(name)
            return status

    def wait_for_all(self, predicate: Callable[[tuple[VMStatus, ...]], bool], timeout_s: float) -> bool:
        """Whether the predicate came true of the whole board before the time ran out."""
        with self._changed:
            return self._changed.wait_for(lambda: predicate(tuple(self._statuses.values())), timeout_s)
