"""A clock that goes when it is told to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class HandClock:
    """Both clocks of `reconciler.clock.Clock`, moved by hand, together or apart."""

    def __init__(self, boot_id: str = "boot-1") -> None:
        self.boot_id = boot_id
        self._now_s = 1000.0
        self._utc = datetime.now(UTC)

    def now_s(self) -> float:
        """Seconds since an invented boot."""
        return self._now_s

    def utc(self) -> datetime:
        """The wall clock, which starts right."""
        return self._utc

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now_s += seconds
        self.step(seconds)

    def step(self, seconds: float) -> None:
        """Set the wall clock alone, as people do."""
        self._utc += timedelta(seconds=seconds)
