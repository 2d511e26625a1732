"""The demo's events: a function of the clock alone, so that a day can be written again at any moment."""

from __future__ import annotations

import itertools
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from endpoints.demo.events import DAYS, SCHEMA, EventSource, Feed, write_events

SOURCE = EventSource(20_000, customers=50, people=500)
DAY = date(2026, 3, 4)
MIDNIGHT = datetime(2026, 3, 4, tzinfo=UTC)
seconds = st.integers(0, 86_400)


@settings(max_examples=25)
@given(seconds, seconds)
def test_time_only_adds(one: int, other: int) -> None:
    earlier, later = sorted((one, other))
    before = SOURCE.day(DAY, MIDNIGHT + timedelta(seconds=earlier))
    after = SOURCE.day(DAY, MIDNIGHT + timedelta(seconds=later))
    assert after.slice(0, before.num_rows).equals(before)


def test_nothing_has_happened_after_the_clock() -> None:
    until = MIDNIGHT + timedelta(hours=10, minutes=7)
    times = pl.Series(SOURCE.day(DAY, until)["timestamp"])
    assert times.is_sorted()
    assert times.min() >= MIDNIGHT
    assert times.max() < until


def test_a_second_source_makes_the_same() -> None:
    end = MIDNIGHT + timedelta(days=1)
    assert EventSource(20_000, customers=50, people=500).day(DAY, end).equals(SOURCE.day(DAY, end))


def test_the_events_look_like_a_products(tmp_path: Path) -> None:
    now = MIDNIGHT + timedelta(hours=12)
    for _ in write_events(tmp_path, SOURCE, now):
        pass
    events = pl.read_parquet(tmp_path / "*.parquet")
    assert 18_000 < len(events) < 22_000
    assert events["event"].n_unique() == 6
    assert (events["amount"] > 0).sum() == (events["event"] == "purchase").sum() > 0
    sizes = events["customer_id"].value_counts(sort=True)
    assert sizes["customer_id"][0] == "cust_1"
    assert sizes["count"][0] > 10 * sizes["count"].median()
    assert events.group_by("person_id").agg(pl.col("os").n_unique())["os"].max() == 1
    weekday = events.group_by(pl.col("timestamp").dt.weekday()).len().sort("timestamp")["len"]
    assert weekday[1] > 1.5 * weekday[5]
    paths = events["properties"].str.json_path_match("$.path")
    referrers = events["properties"].str.json_path_match("$.referrer")
    assert paths.null_count() == 0
    assert 'a friend\'s "tip"' in referrers


def test_columns_are_not_nullable_and_decimals_are_exact(tmp_path: Path) -> None:
    for _ in write_events(tmp_path, SOURCE, MIDNIGHT):
        pass
    schema = pq.read_schema(sorted(tmp_path.iterdir())[0])
    assert schema.equals(SCHEMA)
    assert schema.field("amount").type == pa.decimal128(18, 2)


def test_only_days_that_were_not_over_are_written_again(tmp_path: Path) -> None:
    noon = MIDNIGHT + timedelta(hours=12)
    for _ in write_events(tmp_path, SOURCE, noon):
        pass
    kept = {path: path.stat().st_ino for path in tmp_path.iterdir()}
    steps = list(write_events(tmp_path, SOURCE, noon + timedelta(days=1)))
    assert steps[-1] == (DAYS, DAYS)
    assert len(list(tmp_path.iterdir())) == DAYS + 1  # the oldest day stays, the new one has come
    assert [path.stem for path, inode in kept.items() if path.stat().st_ino != inode] == ["2026-03-04"]


def test_the_feed_adds_what_has_happened(tmp_path: Path) -> None:
    hours = (MIDNIGHT + timedelta(hours=hour) for hour in itertools.count(1))
    feed = Feed(tmp_path, SOURCE, every=timedelta(milliseconds=1), clock=lambda: next(hours))
    feed.start()
    try:
        first = wait_for_rows(tmp_path / "2026-03-04.parquet", more_than=0)
        assert wait_for_rows(tmp_path / "2026-03-04.parquet", more_than=first) > first
    finally:
        feed.stop()
    assert not list(tmp_path.glob(".*"))


def wait_for_rows(path: Path, *, more_than: int) -> int:
    """How many events the file has once it has more; the suite's timeout ends a feed that never adds."""
    while not path.exists() or (rows := pq.read_metadata(path).num_rows) <= more_than:
        time.sleep(0.001)
    return rows
