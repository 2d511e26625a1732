"""Which partitions a request can touch: none too few, and no more than its conditions leave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.definition import Partitions
from endpoints.lake.manifest import Manifest, PartitionEntry, Server
from endpoints.lake.touched import touched
from endpoints.query.bind import bind
from endpoints.query.plan import Plan, make_plan
from endpoints.types import Column, parse_type
from tests.parity.harness import version_of

NOW = datetime(2026, 2, 5, 12, tzinfo=UTC)
START = datetime(2026, 1, 1, tzinfo=UTC)
BY_DAY = Partitions("ts", "day", START)


def keys(
    where: str,
    given: Mapping[str, object],
    partitions: Partitions = BY_DAY,
    sliced: str = "DateTime",
    stored: str = "DateTime",
    optional: frozenset[str] = frozenset(),
    select: str = "k",
) -> tuple[str, ...] | None:
    """What a request with that WHERE touches, on a server in UTC."""
    version = version_of(f"SELECT {select} FROM t WHERE {where}", optional, partitions=partitions)
    plan = make_plan(version)
    assert isinstance(plan, Plan)
    columns = tuple(Column(dimension.column, parse_type(stored)) for dimension in plan.dimensions)
    entry = PartitionEntry((), (Column("k", parse_type("String")), *columns), NOW, "f", "r", "a", 0, 0)
    manifest = Manifest(1, "parity", 1, "", "", NOW, "published", "f", Server("26.9", "UTC", sliced))
    manifest = replace(manifest, partitions={"2026-01-01": entry})
    return touched(plan, bind(version, given, now=NOW), manifest, NOW)


DAY, HOUR = {"stored": "Date"}, "2026-02-01T10:00:00Z"


@pytest.mark.parametrize(
    ("where", "given", "more", "expected"),
    [
        ("toDate(ts) = {a:Date}", {"a": "2026-02-01"}, DAY, ("2026-02-01",)),
        ("toDate(ts) >= {a:Date}", {"a": "2026-02-04"}, DAY, ("2026-02-04", "2026-02-05")),
        ("toDate(ts) > {a:Date}", {"a": "2026-02-04"}, DAY, ("2026-02-05",)),
        ("toDate(ts) < {a:Date}", {"a": "2026-01-02"}, DAY, ("2026-01-01",)),
        ("toDate(ts) <= {a:Date}", {"a": "2026-01-01"}, DAY, ("2026-01-01",)),
        ("{a:Date} <= toDate(ts)", {"a": "2026-02-05"}, DAY, ("2026-02-05",)),
        ("toDate(ts) BETWEEN {a:Date} AND {b:Date}", {"a": "2026-02-01", "b": "2026-02-02"}, DAY,
         ("2026-02-01", "2026-02-02")),
        ("toDate(ts) IN {a:Array(Date)}", {"a": ["2026-02-01", "2026-02-03"]}, DAY,
         ("2026-02-01", "2026-02-02", "2026-02-03")),
        ("toDate(ts) IN {a:Array(Date)}", {"a": []}, DAY, None),
        ("ts >= {a:DateTime} AND ts < {b:DateTime}", {"a": HOUR, "b": "2026-02-01T11:00:00Z"}, {},
         ("2026-02-01",)),
        ("ts < {a:DateTime}", {"a": "2026-01-02T00:00:00Z"}, {}, ("2026-01-01",)),
        ("ts <= {a:DateTime}", {"a": "2026-01-02T00:00:00Z"}, {}, ("2026-01-01", "2026-01-02")),
        ("ts >= {a:DateTime} AND ts < {b:DateTime}", {"a": HOUR, "b": "2026-01-01T00:00:00Z"}, {}, ()),
        ("ts < {a:DateTime}", {"a": "2025-01-02T00:00:00Z"}, {}, ()),
        ("ts >= {a:DateTime}", {"a": "2027-01-02T00:00:00Z"}, {}, ()),
        ("toYYYYMM(ts) = {a:UInt32}", {"a": 202602}, {"stored": "UInt32"},
         tuple(f"2026-02-0{n}" for n in range(1, 6))),
        ("toYYYYMM(ts) >= {a:UInt32}", {"a": 202613}, {"stored": "UInt32"}, None),
        ("toMonday(ts) > {a:Date}", {"a": "2026-01-27"}, DAY, tuple(f"2026-02-0{n}" for n in range(2, 6))),
        ("toDate(ts, 'Asia/Tokyo') = {a:Date}", {"a": "2026-02-01"}, DAY, ("2026-01-31", "2026-02-01")),
        # What is not understood excludes nothing.
        ("toDate(ts) = {a:Date} OR k = 'x'", {"a": "2026-02-01"}, DAY, None),
        ("NOT toDate(ts) = {a:Date}", {"a": "2026-02-01"}, DAY, None),
        ("toDate(ts) != {a:Date}", {"a": "2026-02-01"}, DAY, None),
        ("toDayOfWeek(ts) = {a:UInt8}", {"a": 1}, {"stored": "UInt8"}, None),
        ("ts >= {a:Date}", {"a": "2026-02-01"}, {}, None),
        ("toDate(other) = {a:Date}", {"a": "2026-02-01"}, DAY, None),
    ],
)  # fmt: skip
def test_conditions_over_the_column(
    where: str, given: dict[str, object], more: dict[str, str], expected: tuple[str, ...] | None
) -> None:
    assert keys(where, given, **more) == expected


def test_the_columns_zone_decides_its_days() -> None:
    day = {"a": "2026-02-01"}
    assert keys("toDate(ts) = {a:Date}", day, sliced="DateTime('Asia/Tokyo')", stored="Date") == (
        "2026-01-31",
        "2026-02-01",
    )
    tokyo = replace(BY_DAY, timezone="Asia/Tokyo", start=datetime(2025, 12, 31, 15, tzinfo=UTC))
    assert keys("toDate(ts) = {a:Date}", day, tokyo, "DateTime('Asia/Tokyo')", "Date") == ("2026-02-01",)
    # A Date column's days are those of the partitions, in whatever zone.
    assert keys("ts = {a:Date}", day, tokyo, "Date", "Date") == ("2026-02-01",)


def test_a_day_with_25_hours_has_all_of_them() -> None:
    start = datetime(2025, 9, 30, 22, tzinfo=UTC)
    berlin = Partitions("ts", "hour", start, timezone="Europe/Berlin")
    found = keys("toDate(ts) = {a:Date}", {"a": "2025-10-26"}, berlin, "DateTime('Europe/Berlin')", "Date")
    assert found is not None
    assert len(found) == 25
    assert {"2025-10-26-02:00", "2025-10-26-02:00+0100"} <= set(found)


def test_an_alias_stands_for_its_expression() -> None:
    select = "toDate(ts) AS day, k"
    assert keys("day = {a:Date}", {"a": "2026-02-01"}, stored="Date", select=select) == ("2026-02-01",)
    shadowing = "toDate(ts) AS day, toDate(day) AS other"
    assert keys("day = {a:Date}", {"a": "2026-02-01"}, stored="Date", select=shadowing) is None


def test_an_optional_condition_that_is_left_out_excludes_nothing() -> None:
    where, optional = "toDate(ts) >= {a:Date}", frozenset({"a"})
    assert keys(where, {}, stored="Date", optional=optional) is None
    assert keys(where, {"a": "2026-02-05"}, stored="Date", optional=optional) == ("2026-02-05",)


def test_partitions_by_list() -> None:
    by_list = Partitions("k", "list", values=("a", "b", "c"))
    where = "k = {a:String}"
    assert keys(where, {"a": "b"}, by_list, "String", "String") == ("b",)
    assert keys(where, {"a": "z"}, by_list, "String", "String") == ()
    assert keys("k IN {a:Array(String)}", {"a": ["c", "a", "z"]}, by_list, "String", "String") == ("a", "c")
    assert keys("lower(k) = {a:String}", {"a": "b"}, by_list, "String", "String") is None


@given(
    st.sampled_from(["=", ">=", ">", "<", "<="]),
    st.dates(date(2025, 12, 30), date(2026, 2, 7)),
    st.datetimes(datetime(2026, 1, 1), datetime(2026, 2, 5, 11), timezones=st.just(UTC)),
    st.sampled_from([("toDate(ts)", 0), ("toMonday(ts)", 1), ("toStartOfMonth(ts)", 2)]),
)
def test_no_row_that_passes_is_in_a_partition_left_out(
    operator: str, value: date, at: datetime, function: tuple[str, int]
) -> None:
    text, number = function
    day = at.date()
    kept = (day, day - timedelta(days=day.weekday()), day.replace(day=1))[number]
    passes = {
        "=": kept == value,
        ">=": kept >= value,
        ">": kept > value,
        "<": kept < value,
        "<=": kept <= value,
    }
    found = keys(f"{text} {operator} {{a:Date}}", {"a": value.isoformat()}, stored="Date")
    assert found is None or not passes[operator] or day.isoformat() in found
