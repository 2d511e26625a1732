"""Defaults: literals, and moments relative to now."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.definition.defaults import parse_default
from endpoints.types import parse_type

NOW = datetime(2026, 3, 29, 22, 30, 15, 123456, tzinfo=UTC)


def resolve(type_text: str, raw: object, timezone: str = "UTC", now: datetime = NOW) -> object:
    type_ = parse_type(type_text)
    return parse_default(raw, type_).resolve(now, timezone, type_)


@pytest.mark.parametrize(
    ("type_text", "raw", "timezone", "expected"),
    [
        ("UInt8", "5", "UTC", 5),
        ("String", "today", "UTC", "today"),
        ("Nullable(String)", None, "UTC", None),
        ("Array(UInt8)", ["1", "2"], "UTC", [1, 2]),
        ("Date", "2026-01-31", "UTC", date(2026, 1, 31)),
        ("Date", "today", "UTC", date(2026, 3, 29)),
        ("Date", "today - 30d", "UTC", date(2026, 2, 27)),
        ("Date32", "today-2w", "UTC", date(2026, 3, 15)),
        ("Nullable(Date)", "today + 1d", "UTC", date(2026, 3, 30)),
        ("Date", "now", "UTC", date(2026, 3, 29)),
        ("Date", "today", "Asia/Tokyo", date(2026, 3, 30)),
        ("DateTime", "now", "UTC", datetime(2026, 3, 29, 22, 30, 15, tzinfo=UTC)),
        ("DateTime", "now - 2h", "UTC", datetime(2026, 3, 29, 20, 30, 15, tzinfo=UTC)),
        ("DateTime64(3)", "now - 90m", "UTC", datetime(2026, 3, 29, 21, 0, 15, tzinfo=UTC)),
        ("DateTime", "today", "Asia/Tokyo", datetime(2026, 3, 29, 15, tzinfo=UTC)),
        ("DateTime('Asia/Tokyo')", "today", "UTC", datetime(2026, 3, 29, 15, tzinfo=UTC)),
        # Berlin's clocks went forward that night: a day before is the same time of day, 23 hours before.
        ("DateTime('Europe/Berlin')", "today", "UTC", datetime(2026, 3, 29, 22, tzinfo=UTC)),
        ("DateTime('Europe/Berlin')", "today - 1d", "UTC", datetime(2026, 3, 28, 23, tzinfo=UTC)),
        ("DateTime('Europe/Berlin')", "now - 24h", "UTC", datetime(2026, 3, 28, 22, 30, 15, tzinfo=UTC)),
    ],
)
def test_resolve(type_text: str, raw: object, timezone: str, expected: object) -> None:
    assert resolve(type_text, raw, timezone) == expected


@pytest.mark.parametrize("raw", ["now", "now - 0d", "now - 60m"])
def test_the_hour_that_comes_twice(raw: str) -> None:
    second = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)  # 02:30 in Berlin, as an hour before
    expected = second - timedelta(minutes=60) if "60m" in raw else second
    assert resolve("DateTime('Europe/Berlin')", raw, now=second) == expected


@pytest.mark.parametrize(
    ("type_text", "raw", "words"),
    [
        ("UInt8", "256", "255"),
        ("Date", "today - 5h", "days"),
        ("Date", "today - 1y", "date"),
        ("DateTime", "yesterday", "time"),
        ("String", None, "null"),
    ],
)
def test_what_is_no_default(type_text: str, raw: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        resolve(type_text, raw)


@given(
    st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)),
    st.sampled_from(["UTC", "Europe/Berlin", "America/Sao_Paulo", "Asia/Kolkata", "Pacific/Apia"]),
    st.integers(-400, 400),
    st.sampled_from("mhdw"),
)
def test_moments_exist_and_are_near(now: datetime, zone: str, count: int, unit: str) -> None:
    sign = "-" if count < 0 else "+"
    value = resolve("DateTime", f"now {sign} {abs(count)}{unit}", zone, now)
    assert isinstance(value, datetime)
    length = {
        "m": timedelta(minutes=1),
        "h": timedelta(hours=1),
        "d": timedelta(days=1),
        "w": timedelta(weeks=1),
    }
    # A day on the calendar can be an hour off, in Apia's case a day and an hour.
    assert abs(value - now - count * length[unit]) <= timedelta(days=1, hours=1)
