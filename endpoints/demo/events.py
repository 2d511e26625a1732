"""Product events of a made-up company: deterministic but for the clock.

Every hour's events are a function of the seed and the hour alone, whenever and however often they are asked
for. So a day's file can be written again at any moment, up to now, and holds what it held before and what
has happened since; a run tomorrow adds to today's data instead of changing it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

SEED = 20_13
DAYS = 90
HOUR = 3_600_000  # milliseconds

SCHEMA = pa.schema(
    [
        pa.field("timestamp", pa.timestamp("ms", "UTC"), nullable=False),
        pa.field("event", pa.string(), nullable=False),
        pa.field("customer_id", pa.string(), nullable=False),
        pa.field("person_id", pa.string(), nullable=False),
        pa.field("os", pa.string(), nullable=False),
        pa.field("country", pa.string(), nullable=False),
        pa.field("amount", pa.decimal128(18, 2), nullable=False),
        pa.field("properties", pa.string(), nullable=False),
    ]
)

_EVENTS = {"pageview": 62, "click": 18, "search": 9, "add_to_cart": 5, "sign_up": 3, "purchase": 3}
_OSES = {"Windows": 38, "macOS": 24, "iOS": 17, "Android": 15, "Linux": 6}
_COUNTRIES = {"US": 34, "DE": 13, "GB": 11, "IN": 9, "FR": 8, "BR": 7, "NL": 5, "JP": 5, "CA": 5, "AU": 3}
_PATHS = ("/", "/pricing", "/docs", "/docs/start", "/blog", "/login", "/app", "/app/reports", "/settings")
_REFERRERS = ("", "google", "newsletter", "hacker news", 'a friend\'s \\"tip\\"')  # JSON text: quotes escaped

# Working hours carry the traffic; weekends are quiet.
_WEEKDAYS = np.array([1.16, 1.22, 1.20, 1.17, 1.05, 0.58, 0.62])
_HOURS = 1 + 0.85 * np.sin((np.arange(24) - 9) / 24 * 2 * np.pi)


class EventSource:
    """Events at a rate of `total` per 90 days."""

    def __init__(self, total: int = 2_000_000, *, customers: int = 400, people: int = 40_000) -> None:
        self._per_hour = total / (DAYS * 24)
        self._customers = customers
        self._people = people

    def day(self, day: date, until: datetime) -> pa.Table:
        """The events of one UTC day that happened before `until`, in order of time."""
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        first = int(start.timestamp()) // 3600
        cut = int(until.timestamp() * 1000)
        hours = [self._hour(hour, cut) for hour in range(first, first + 24) if hour * HOUR < cut]
        return pa.concat_tables([SCHEMA.empty_table(), *hours])

    def _hour(self, hour: int, cut: int) -> pa.Table:
        """One hour since the epoch; events at or after `cut` (epoch ms) have not happened yet."""
        rng = np.random.default_rng((SEED, hour))
        weekday = (hour // 24 + 3) % 7  # the epoch was a Thursday
        count = int(rng.poisson(self._per_hour * _WEEKDAYS[weekday] * _HOURS[hour % 24]))
        times = np.sort(rng.integers(0, HOUR, count)) + hour * HOUR
        person = np.searchsorted(self._universe.reach, rng.random(count))
        event = rng.choice(len(_EVENTS), count, p=_shares(_EVENTS))
        cents = np.where(
            event == list(_EVENTS).index("purchase"), np.exp(rng.normal(8.2, 0.9, count)).astype(np.int64), 0
        )
        path = rng.integers(0, len(_PATHS), count)
        referrer = rng.integers(0, len(_REFERRERS), count)
        duration = rng.gamma(2.0, 900.0, count).astype(np.int64)
        people = self._universe
        table = pa.table(
            [
                pa.array(times, pa.timestamp("ms", "UTC")),
                pa.array(list(_EVENTS)).take(pa.array(event)),
                people.customer.take(pa.array(person)),
                people.name.take(pa.array(person)),
                people.os.take(pa.array(person)),
                people.country.take(pa.array(person)),
                _decimal(cents),
                _properties(path, referrer, duration),
            ],
            schema=SCHEMA,
        )
        return table.slice(0, int(np.searchsorted(times, cut)))

    @cached_property
    def _universe(self) -> _Universe:
        return _Universe(self._customers, self._people)


class _Universe:
    """Who there is: a few big customers and a long tail; each person has one system and one country."""

    def __init__(self, customers: int, people: int) -> None:
        rng = np.random.default_rng(SEED)
        size = 1 / np.arange(1, customers + 1) ** 1.1
        customer = rng.choice(customers, people, p=size / size.sum())
        activity = rng.pareto(2.5, people) + 0.2
        self.reach: NDArray[np.float64] = np.cumsum(activity) / activity.sum()
        self.customer = pa.array([f"cust_{number + 1}" for number in customer])
        self.name = pa.array([f"person_{number + 1}" for number in range(people)])
        self.os = pa.array(list(_OSES)).take(pa.array(rng.choice(len(_OSES), people, p=_shares(_OSES))))
        self.country = pa.array(list(_COUNTRIES)).take(
            pa.array(rng.choice(len(_COUNTRIES), people, p=_shares(_COUNTRIES)))
        )


def _shares(weights: dict[str, int]) -> NDArray[np.float64]:
    values = np.array(list(weights.values()), dtype=np.float64)
    shares: NDArray[np.float64] = values / values.sum()
    return shares


def _decimal(cents: NDArray[np.int64]) -> pa.Array:
    """Decimal(18, 2) out of whole cents, without a Python object per row."""
    words = np.zeros((len(cents), 2), dtype=np.int64)  # 128 bits, little-endian; no amount is negative
    words[:, 0] = cents
    return pa.Array.from_buffers(pa.decimal128(18, 2), len(cents), [None, pa.py_buffer(words.tobytes())])


def _properties(
    path: NDArray[np.int64], referrer: NDArray[np.int64], duration: NDArray[np.int64]
) -> pa.Array:
    return pc.binary_join_element_wise(
        '{"path": "',
        pa.array(_PATHS).take(pa.array(path)),
        '", "referrer": "',
        pa.array(_REFERRERS).take(pa.array(referrer)),
        '", "duration_ms": ',
        pc.cast(pa.array(duration), pa.string()),
        "}",
        "",
    )


def write_events(folder: Path, source: EventSource, now: datetime) -> Iterator[tuple[int, int]]:
    """Write what is missing of the last 90 days up to `now`, one file a day; yield (days done, days).

    A file is replaced by a rename, so a query sees a day as it was or as it is. A day is written again until
    it has passed whole. Older days, of an earlier run, stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    days = [now.date() - timedelta(days=back) for back in reversed(range(DAYS))]
    for done, day in enumerate(days, start=1):
        path = folder / f"{day.isoformat()}.parquet"
        if not _complete(path, day):
            _replace(path, source.day(day, now), now)
        yield done, len(days)


def _complete(path: Path, day: date) -> bool:
    """Whether the file was written after its day had ended."""
    end = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    return path.exists() and path.stat().st_mtime >= end.timestamp()


def _replace(path: Path, table: pa.Table, now: datetime) -> None:
    """The file's time says up to when it is complete."""
    unfinished = path.with_name(f".{path.name}.unfinished")  # no `*.parquet`: no query can see it
    pq.write_table(table, unfinished, compression="zstd")
    os.utime(unfinished, (now.timestamp(), now.timestamp()))
    unfinished.replace(path)


class Feed:
    """Keeps adding what has happened since, every few seconds, until stopped."""

    def __init__(
        self,
        folder: Path,
        source: EventSource,
        *,
        every: timedelta = timedelta(seconds=5),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._folder, self._source, self._every, self._clock = folder, source, every, clock
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo-events", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._every.total_seconds()):
            for _ in write_events(self._folder, self._source, self._clock()):
                pass
