from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._core.definitions.partitions.context import partition_loading_context
from hypothesis import given
from hypothesis import strategies as st

from endpoints.definition import Partitions
from endpoints.partitions import keys, left_refresh, window, window_of, windows

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Asia/Beirut")
UNITS = ("hour", "day", "week", "month")
DAGSTER = {
    "hour": ("0 * * * *", "%Y-%m-%d-%H:%M"),
    "day": ("0 0 * * *", "%Y-%m-%d"),
    "week": ("0 0 * * 1", "%Y-%m-%d"),
    "month": ("0 0 1 * *", "%Y-%m-%d"),
}
INSTANTS = st.datetimes(datetime(2015, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))
SLICINGS = st.builds(Partitions, st.just("t"), st.sampled_from(UNITS), timezone=st.sampled_from(ZONES))


def slicing(by: str, start: datetime, zone: str = "UTC", **more) -> Partitions:
    return Partitions("t", by, start.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC), timezone=zone, **more)


@given(SLICINGS, INSTANTS)
def test_every_instant_has_one_window_and_windows_leave_no_gap(partitions: Partitions, at: datetime) -> None:
    found = window(partitions, at)
    assert found.start <= at < found.end
    assert window(partitions, found.start) == found
    following = window(partitions, found.end)
    assert following.start == found.end
    assert following.key != found.key


@given(SLICINGS, INSTANTS, st.integers(0, 40))
def test_a_key_names_its_window(partitions: Partitions, at: datetime, length: int) -> None:
    partitions = replace(partitions, start=window(partitions, at).start)
    now = at + timedelta(hours=length)
    found = windows(partitions, now)
    assert len({w.key for w in found}) == len(found)
    for w in found:
        assert window_of(partitions, w.key, now) == w


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize("by", UNITS)
@pytest.mark.parametrize("around", [datetime(2026, 3, 28), datetime(2026, 10, 24), datetime(2026, 10, 31)])
def test_keys_and_windows_are_dagsters(by: str, zone: str, around: datetime) -> None:
    first = window(slicing(by, around, zone), around.replace(tzinfo=UTC)).start
    ours = windows(
        replace(slicing(by, around, zone), start=first), first + timedelta(days=70 if by == "month" else 9)
    )
    cron, fmt = DAGSTER[by]
    theirs = dg.TimeWindowPartitionsDefinition(
        start=first.astimezone(ZoneInfo(zone)), fmt=fmt, cron_schedule=cron, timezone=zone, end_offset=1
    )
    now = ours[-1].start
    with partition_loading_context(effective_dt=now):
        keys_there = theirs.get_partition_keys()
    assert keys_there == [w.key for w in ours]
    for w in ours:
        there = theirs.time_window_for_partition_key(w.key)
        assert (there.start.astimezone(UTC), there.end.astimezone(UTC)) == (w.start, w.end)


def test_a_day_on_which_clocks_change_has_23_or_25_hours() -> None:
    berlin = slicing("day", datetime(2026, 1, 1), "Europe/Berlin")
    spring = window(berlin, datetime(2026, 3, 29, 12, tzinfo=UTC))
    autumn = window(berlin, datetime(2026, 10, 25, 12, tzinfo=UTC))
    assert (spring.key, spring.end - spring.start) == ("2026-03-29", timedelta(hours=23))
    assert (autumn.key, autumn.end - autumn.start) == ("2026-10-25", timedelta(hours=25))


def test_the_hour_that_comes_twice_is_two_windows() -> None:
    berlin = slicing("hour", datetime(2026, 10, 25), "Europe/Berlin")
    found = [w.key for w in windows(berlin, datetime(2026, 10, 25, 2, 30, tzinfo=UTC))]
    assert found[2:] == ["2026-10-25-02:00", "2026-10-25-02:00+0100", "2026-10-25-03:00"]


def test_a_midnight_that_the_clocks_skip_is_when_they_skip_it() -> None:
    beirut = slicing("day", datetime(2026, 3, 1), "Asia/Beirut")
    assert window(beirut, datetime(2026, 3, 29, tzinfo=UTC)).start == datetime(2026, 3, 28, 22, tzinfo=UTC)


def test_windows_begin_by_now_and_before_the_end() -> None:
    days = slicing("day", datetime(2026, 1, 1), end=datetime(2026, 1, 4, tzinfo=UTC))
    assert keys(days, datetime(2026, 1, 2, tzinfo=UTC)) == ["2026-01-01", "2026-01-02"]
    assert keys(days, datetime(2027, 1, 1, tzinfo=UTC)) == ["2026-01-01", "2026-01-02", "2026-01-03"]
    assert keys(days, datetime(2025, 1, 1, tzinfo=UTC)) == []


def test_keys_of_other_kinds() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert keys(None, now) is None
    listed = Partitions("country", "list", values=("de", "fr"))
    assert keys(listed, now) == ["de", "fr"]
    assert window_of(listed, "de", now) is None
    with pytest.raises(ValueError, match="no windows"):
        windows(listed, now)


@pytest.mark.parametrize(
    "key", ["", "2026-01", "2025-12-31", "2026-01-03", "2026-02-30", "x", "2026-01-01-00:00+0000"]
)
def test_a_key_that_is_none_of_them_has_no_window(key: str) -> None:
    days = slicing("day", datetime(2026, 1, 1))
    assert window_of(days, key, datetime(2026, 1, 2, 12, tzinfo=UTC)) is None


@pytest.mark.parametrize(("refresh", "closes"), [(1, 2), (2, 3), (3, 4)])
def test_a_window_closes_when_it_is_none_of_the_last(refresh: int, closes: int) -> None:
    days = slicing("day", datetime(2026, 1, 1), refresh=refresh)
    first = windows(days, datetime(2026, 1, 1, tzinfo=UTC))[0]
    assert left_refresh(days, first) == datetime(2026, 1, closes, tzinfo=UTC)
