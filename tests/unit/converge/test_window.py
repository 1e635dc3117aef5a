"""When the hours for restarts come next, through midnight, weeks, time zones and changes of the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.converge.window import seconds_until
from reconciler.model.vm import UpdateWindow, Weekday

MON, TUE, WED, THU, FRI, SAT, SUN = Weekday
HOUR, DAY = 3600, 86400


def window(days: tuple[Weekday, ...], start: str, end: str, zone: str = "UTC") -> UpdateWindow:
    """A window, with its times as a manifest writes them."""
    first, last = (int(clock[:2]) * 60 + int(clock[3:]) for clock in (start, end))
    return UpdateWindow(days, first, last, zone)


@pytest.mark.parametrize(
    ("utc", "wait_s"),
    [
        ("2026-01-03T02:00:00.000Z", 0),  # Saturday
        ("2026-01-03T03:59:59.999Z", 0),
        ("2026-01-03T01:59:30.500Z", 29.5),
        ("2026-01-03T04:00:00.000Z", 22 * HOUR),
        ("2026-01-04T04:00:00.000Z", 5 * DAY + 22 * HOUR),
        ("2026-01-05T02:00:00.000Z", 5 * DAY),
    ],
)
def test_the_hours_of_the_weekend(utc: str, wait_s: float) -> None:
    assert seconds_until(window((SAT, SUN), "02:00", "04:00"), utc) == wait_s


@pytest.mark.parametrize(
    ("utc", "wait_s"),
    [
        ("2026-01-02T22:00:00Z", 0),  # Friday
        ("2026-01-03T01:59:59Z", 0),
        ("2026-01-03T02:00:00Z", 6 * DAY + 20 * HOUR),
        ("2026-01-02T01:00:00Z", 21 * HOUR),
    ],
)
def test_a_window_through_midnight_belongs_to_the_day_it_opens_on(utc: str, wait_s: float) -> None:
    assert seconds_until(window((FRI,), "22:00", "02:00"), utc) == wait_s


def test_one_that_ends_when_it_starts_lasts_a_day() -> None:
    whole = window((MON,), "06:00", "06:00")
    assert seconds_until(whole, "2026-01-06T05:59:59Z") == 0
    assert seconds_until(whole, "2026-01-06T06:00:00Z") == 6 * DAY


def test_on_every_day_all_day_it_is_always_open() -> None:
    always = window(tuple(Weekday), "00:00", "00:00")
    assert {seconds_until(always, f"2026-03-29T{hour:02}:30:00Z") for hour in range(24)} == {0}


@pytest.mark.parametrize(
    ("zone", "utc"),
    [
        ("Europe/Berlin", "2026-01-03T01:00:00Z"),
        ("Europe/Berlin", "2026-07-04T00:00:00Z"),  # in summer an hour earlier
        ("Asia/Shanghai", "2026-01-02T18:00:00Z"),  # where it is Saturday already
        ("America/Los_Angeles", "2026-01-03T10:00:00Z"),
        ("Asia/Kathmandu", "2026-01-02T20:15:00Z"),
    ],
)
def test_day_and_hours_are_those_of_its_time_zone(zone: str, utc: str) -> None:
    local = window((SAT,), "02:00", "04:00", zone)
    opens = datetime.fromisoformat(utc)
    for second, open_ in ((-1, False), (0, True), (2 * HOUR - 1, True), (2 * HOUR, False)):
        assert (seconds_until(local, (opens + timedelta(seconds=second)).isoformat()) == 0) is open_


def test_a_wait_over_a_change_of_the_clock_is_of_real_seconds() -> None:
    sunday = window((SUN,), "04:00", "05:00", "Europe/Berlin")
    assert (
        seconds_until(sunday, "2026-03-28T23:00:00Z") == 3 * HOUR
    )  # from 0 to 4, without the hour from 2 to 3
    assert seconds_until(sunday, "2026-10-24T22:00:00Z") == 5 * HOUR  # with that hour twice


def test_hours_that_a_day_does_not_have_are_left_out() -> None:
    lost = window((SUN,), "02:00", "03:00", "Europe/Berlin")
    assert seconds_until(lost, "2026-03-29T00:59:59Z") == 7 * DAY - HOUR + 1
    assert seconds_until(lost, "2026-03-29T01:00:00Z") == 7 * DAY - HOUR


def test_a_window_that_a_change_of_the_clock_cuts_is_shorter_or_longer() -> None:
    night = window((SUN,), "01:00", "04:00", "Europe/Berlin")
    for opens, hours in (("2026-03-29T00:00:00+00:00", 2), ("2026-10-24T23:00:00+00:00", 4)):
        start = datetime.fromisoformat(opens)
        assert seconds_until(night, (start - timedelta(seconds=1)).isoformat()) == 1
        assert seconds_until(night, (start + timedelta(hours=hours, seconds=-1)).isoformat()) == 0
        assert seconds_until(night, (start + timedelta(hours=hours)).isoformat()) > 0


WINDOWS = st.builds(
    UpdateWindow,
    st.sets(st.sampled_from(Weekday), min_size=1).map(tuple),
    st.integers(0, 1439),
    st.integers(0, 1439),
    st.sampled_from(["UTC", "Asia/Shanghai", "Asia/Kathmandu", "Pacific/Apia"]),  # no changes in 2026
)
TIMES = st.integers(0, 364 * DAY).map(lambda s: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=s))


def is_open(hours: UpdateWindow, now: datetime) -> bool:
    """By the clock on the wall of that place."""
    local = now.astimezone(ZoneInfo(hours.time_zone))
    minute = local.hour * 60 + local.minute
    today, yesterday = (tuple(Weekday)[(local.weekday() - back) % 7] in hours.days for back in (0, 1))
    if hours.start_minute < hours.end_minute:
        return today and hours.start_minute <= minute < hours.end_minute
    return (today and minute >= hours.start_minute) or (yesterday and minute < hours.end_minute)


@given(WINDOWS, TIMES)
def test_it_is_open_by_the_clock_on_the_wall_and_opens_when_it_says(
    hours: UpdateWindow, now: datetime
) -> None:
    wait_s = seconds_until(hours, now.isoformat())
    assert (wait_s == 0) is is_open(hours, now)
    then = now + timedelta(seconds=wait_s)
    assert is_open(hours, then)
    assert not wait_s or not is_open(hours, then - timedelta(seconds=1))
