"""When the hours for restarts come next: `spec.updateWindow` against a clock that is handed in. Pure.

Hours are those of a wall clock in the window's own time zone, whatever that clock does: on a day that lacks the hour
from 2 to 3, a window from 2 to 3 is closed. Used by `reconciler.converge.running`.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from reconciler.model.vm import UpdateWindow, Weekday

_DAYS = tuple(Weekday)


def seconds_until(window: UpdateWindow, utc: str) -> float:
    """Seconds until the window opens; 0.0 while it is open. `utc` is an ISO 8601 time."""
    now = datetime.fromisoformat(utc).astimezone(UTC)
    today = now.astimezone(ZoneInfo(window.time_zone)).date()
    # The window of yesterday may last until today, and a day may have none of its hours.
    for day in (today + timedelta(days=offset) for offset in range(-1, 16)):
        opens, closes = _hours(window, day)
        if _DAYS[day.weekday()] in window.days and opens < closes and now < closes:
            return max(0.0, (opens - now).total_seconds())
    raise AssertionError("a window without days")


def _hours(window: UpdateWindow, day: date) -> tuple[datetime, datetime]:
    """When the window of this day opens and closes."""
    later = window.end_minute <= window.start_minute
    return _at(window, day, window.start_minute), _at(window, day + timedelta(days=later), window.end_minute)


def _at(window: UpdateWindow, day: date, minute: int) -> datetime:
    hour, minute = divmod(minute, 60)
    return datetime.combine(day, time(hour, minute), ZoneInfo(window.time_zone)).astimezone(UTC)
