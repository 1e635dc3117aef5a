"""The workers: threads that take names from the queue and run the round, and the only retry policy there is.

A round that did something is followed by another at once, which sees what came of it. A round that failed is tried
again after 1 s, doubling to 15 s; so is one that, after many at once, still finds something to do.
Next: `reconciler.control.controller`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from reconciler.control.queue import WorkQueue
from reconciler.model.plan import Verdict

log = logging.getLogger(__name__)

RETRY_FIRST_S = 1.0
RETRY_MAX_S = 15.0  # whatever was in the way, this long after it has gone nothing is left of it
HUNG_S = 180.0  # the longest step of a round, making an image, is given up after 30 s
ROUNDS_AT_ONCE = 32  # a start from nothing takes three


class Workers:
    """N threads, each on one VM at a time.

    `look` is the round for a name, and is told in how many seconds it will be tried again should it fail; it may
    raise, which ends nothing.
    """

    def __init__(self, queue: WorkQueue, look: Callable[[str, float], Verdict], count: int) -> None:
        self._queue = queue
        self._look = look
        self._failures: dict[str, int] = {}
        self._at_once: dict[str, int] = {}
        self._since: dict[str, float] = {}  # the rounds under way, and when each began
        self._threads = [threading.Thread(target=self._work, name=f"worker-{n}") for n in range(count)]

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Close the queue and wait until every worker has finished the round it is in."""
        self._queue.close()
        for thread in self._threads:
            if thread.ident:
                thread.join()

    def work(self, hung_s: float = HUNG_S) -> bool:
        """Whether all threads live, and one of them at least is not in a round for longer than any round takes."""
        since = time.monotonic() - hung_s
        hung = sum(began < since for began in list(self._since.values()))
        return hung < len(self._threads) and all(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while (name := self._queue.get()) is not None:
            again_s: float | None = None
            self._since[name] = time.monotonic()
            try:
                again_s = self._again(name, self._look(name, self._retry_s(name)))
            except Exception:  # one VM's trouble stays its own, whatever it is
                log.exception("%s: the round broke off", name)
                again_s = self._again(name, Verdict(self._retry_s(name), failed=True))
            finally:
                del self._since[name]
                self._queue.done(name, again_s)

    def _again(self, name: str, verdict: Verdict) -> float | None:
        if verdict.failed:
            self._failures[name] = self._failures.get(name, 0) + 1
            return verdict.again_s
        if verdict.again_s != 0:
            self._failures.pop(name, None)
            self._at_once.pop(name, None)
            return verdict.again_s
        rounds = self._at_once[name] = self._at_once.get(name, 0) + 1
        return (
            0.0 if rounds <= ROUNDS_AT_ONCE else self._again(name, Verdict(self._retry_s(name), failed=True))
        )

    def _retry_s(self, name: str) -> float:
        return float(min(RETRY_FIRST_S * 2 ** min(self._failures.get(name, 0), 10), RETRY_MAX_S))
