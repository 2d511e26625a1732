"""Buckets: a value on an edge divides the stored starts of buckets as it divides the times themselves."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from endpoints.query.plan.buckets import bucket_sql, is_edge
from endpoints.types import parse_type
from endpoints.warehouse.embedded import EmbeddedWarehouse
from endpoints.warehouse.protocol import Caps, Statement

CLOCKS = ("minute", "hour", "day", "week", "month")
# Clocks moved at midnight, by half an hour, over midnight, by a day; offsets of minutes and seconds.
ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe",
    "America/St_Johns", "America/Havana", "America/Sao_Paulo", "Asia/Gaza", "Africa/Cairo", "Africa/Monrovia",
    "Pacific/Apia", "Pacific/Kwajalein", "Atlantic/Azores", "Africa/Casablanca", "Asia/Pyongyang",
    "Asia/Tokyo", "Etc/GMT+12", "Pacific/Honolulu", "Australia/Darwin",
)  # fmt: skip
FIRST, LAST = datetime(1989, 1, 3, tzinfo=UTC), datetime(2105, 12, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedWarehouse]:
    made = EmbeddedWarehouse(Path(tmp_path_factory.mktemp("data")), workers=1)
    yield made
    made.close()


def moved(zone: str, after: datetime) -> datetime:
    """The next moment at which that zone's clocks are moved, or some months later; to the minute."""
    rules, step = ZoneInfo(zone), timedelta(days=1)
    while step >= timedelta(minutes=1):
        for _ in range(250):
            later = min(after + step, LAST)
            if later.astimezone(rules).utcoffset() != after.astimezone(rules).utcoffset():
                break
            after = later
        step /= 24 if step == timedelta(days=1) else 60
    return after


@st.composite
def bounds(draw: st.DrawFn) -> tuple[str, str, datetime]:
    """(zone, bucket, a moment that a clock shows without smaller units), often near a change of clocks."""
    zone, bucket = draw(st.sampled_from(ZONES)), draw(st.sampled_from(CLOCKS))
    moment = draw(st.datetimes(FIRST.replace(tzinfo=None), LAST.replace(tzinfo=None))).replace(tzinfo=UTC)
    if draw(st.booleans()):
        moment = moved(zone, moment) + timedelta(minutes=draw(st.integers(-3000, 3000)))
    clock = moment.astimezone(ZoneInfo(zone)).replace(second=0, microsecond=0)
    if bucket != "minute":
        clock = clock.replace(minute=0)
    if bucket not in ("minute", "hour"):
        clock = clock.replace(hour=0, fold=draw(st.integers(0, 1)))
    if bucket == "week":
        clock -= timedelta(days=clock.weekday())
    return zone, bucket, (clock.replace(day=1) if bucket == "month" else clock).astimezone(UTC)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bounds(), st.lists(st.integers(-200_000, 200_000), max_size=30), st.booleans())
def test_an_edge_divides_buckets_as_it_divides_times(
    warehouse: EmbeddedWarehouse, bound: tuple[str, str, datetime], distances: list[int], fine: bool
) -> None:
    zone, bucket, value = bound
    if not is_edge(bucket, value, zone):
        return
    type_text = f"DateTime64(3, '{zone}')" if fine else f"DateTime('{zone}')"
    start = int(value.timestamp())
    near = [
        start + far
        for far in (*distances, *range(-9000, 9001, 450), -1, 0, 1, *range(-200_000, 200_000, 7200))
    ]
    far = [0, 1, 2**31, 2**32 - 1, *((-2_000_000_000, 2**33) if fine else ())]
    moments = [second for second in near if fine or 0 <= second < 2**32] + far
    millis = [moment * 1000 for moment in moments]
    column = f"CAST(fromUnixTimestamp64Milli(arrayJoin({millis}::Array(Int64))) AS {type_text})"
    stored = bucket_sql(bucket, parse_type(type_text), "x")
    edge = f"fromUnixTimestamp64Milli({start * 1000}::Int64)"
    sql = f"SELECT x FROM (SELECT {column} AS x) WHERE (x >= {edge}) != ({stored} >= {edge})"
    with warehouse.run(Statement(sql), Caps()) as result:
        wrong = [one for batch in result for one in batch.column(0).to_pylist()]
    assert not wrong, (bound, wrong)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dates(date(1970, 1, 1), date(2149, 6, 6)), st.sampled_from(CLOCKS), st.sampled_from(("Date", "Date32"))
)
def test_the_same_for_dates(warehouse: EmbeddedWarehouse, day: date, bucket: str, type_text: str) -> None:
    if bucket == "week":
        day = max(day - timedelta(days=day.weekday()), date(1970, 1, 1))
    day = day.replace(day=1) if bucket == "month" else day
    if not is_edge(bucket, day, "UTC"):
        return
    first = (day - date(1970, 1, 1)).days
    days = sorted({max(0, min(65535, first + far)) for far in (*range(-70, 71), -70_000, 70_000)})
    column = f"CAST(arrayJoin({days}::Array(Int32)) AS {type_text})"
    stored = bucket_sql(bucket, parse_type(type_text), "x")
    edge = f"toDate('{day}')"
    sql = f"SELECT x FROM (SELECT {column} AS x) WHERE (x >= {edge}) != ({stored} >= {edge})"
    with warehouse.run(Statement(sql), Caps()) as result:
        wrong = [one for batch in result for one in batch.column(0).to_pylist()]
    assert not wrong, (day, bucket, wrong)


@pytest.mark.parametrize(
    ("bucket", "value", "zone", "expected"),
    [
        ("hour", "2026-02-01T03:00:00Z", "UTC", True),
        ("hour", "2026-02-01T03:00:01Z", "UTC", False),
        ("hour", "2026-02-01T03:30:00Z", "Asia/Kolkata", True),
        ("hour", "2026-02-01T03:00:00Z", "Asia/Kolkata", False),
        ("hour", "2026-03-29T01:00:00Z", "Europe/Berlin", True),  # moved by an hour: hours stay hours
        ("hour", "2026-04-04T16:00:00Z", "Australia/Lord_Howe", False),  # moved by half an hour
        ("day", "2026-02-01T18:30:00Z", "Asia/Kolkata", True),
        ("day", "2026-02-01T00:00:00Z", "Asia/Kolkata", False),
        ("day", "2026-02-01T23:00:00Z", "Europe/Berlin", False),  # its rules differ between servers
        ("week", "2026-02-02T00:00:00Z", "UTC", True),
        ("week", "2026-02-01T00:00:00Z", "UTC", False),
        ("month", "2026-02-01T00:00:00Z", "UTC", True),
        ("month", "2026-02-02T00:00:00Z", "UTC", False),
        ("day", "1989-12-31T00:00:00Z", "UTC", False),  # before the times that are proved
    ],
)
def test_edges(bucket: str, value: str, zone: str, expected: bool) -> None:
    assert is_edge(bucket, datetime.fromisoformat(value), zone) is expected
