"""The agent's only clocks: one that no clock step moves, for deadlines, and one for people."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """What the time is, and which boot of the host it belongs to."""

    boot_id: str

    def now_s(self) -> float:
        """Seconds since the boot of the host, sleep included; never steps."""
        ...

    def utc(self) -> datetime:
        """The wall clock, in UTC."""
        ...


class SystemClock:
    """The host's clocks."""

    def __init__(self) -> None:
        self.boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()

    def now_s(self) -> float:
        """CLOCK_BOOTTIME in seconds."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def utc(self) -> datetime:
        """CLOCK_REALTIME as an aware datetime."""
        return datetime.now(UTC)


def timestamp(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds and `Z`, as the documented API writes times."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
