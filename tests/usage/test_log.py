"""Usage in the lake: written, read, compacted, forgotten, counted."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endpoints.lake.store import Store
from endpoints.usage import RunRecord, alike, callers, compact, forget, read, report, totals, write

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def run(at: datetime, endpoint: str = "usage", **changes: object) -> RunRecord:
    whole = RunRecord(at.timestamp(), endpoint, 1, "k1", "asset", None, 200, 0.002, 3, 100, cached=False)
    return whole._replace(**changes)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(f"file://{tmp_path}")


def times(store: Store, since: datetime, until: datetime, endpoint: str | None = None) -> list[datetime]:
    return sorted(read(store, since, until, endpoint=endpoint)["at"].to_list())


def test_runs_are_read_by_time_and_endpoint(store: Store) -> None:
    at = [NOON + n * timedelta(minutes=40) for n in range(4)]
    write(store, "a", alike([run(at[0]), run(at[1], "other"), run(at[2]), run(at[3])]))
    assert times(store, NOON, NOON + 3 * HOUR) == at
    assert times(store, NOON, at[3]) == at[:3], "the end is not in it"
    assert times(store, NOON, at[3], "USAGE") == [at[0], at[2]]
    assert times(store, NOON - 9 * HOUR, NOON) == []


def test_what_is_sent_twice_counts_once(store: Store) -> None:
    for _ in range(2):
        write(store, "a", alike([run(NOON), run(NOON + HOUR)]))
    assert len(times(store, NOON, NOON + 2 * HOUR)) == 2


def test_compaction_keeps_every_run_and_spares_the_current_hour(store: Store, tmp_path: Path) -> None:
    for n in range(5):
        write(store, f"f{n}", alike([run(NOON + n * timedelta(minutes=20))]))
    before = times(store, NOON, NOON + 2 * HOUR)
    assert compact(store, NOON + HOUR + timedelta(minutes=15)) == 3
    assert times(store, NOON, NOON + 2 * HOUR) == before
    assert len(list((tmp_path / "_usage/2026-01-02/12").iterdir())) == 1
    assert len(list((tmp_path / "_usage/2026-01-02/13").iterdir())) == 2, "it may still get more"
    write(store, "late", alike([run(NOON)]))
    assert compact(store, NOON + 9 * HOUR) == 2 + 2
    assert len(times(store, NOON, NOON + 2 * HOUR)) == 6
    assert compact(store, NOON + 9 * HOUR) == 0


def test_a_clock_that_is_set_forward_and_back_loses_no_run(store: Store) -> None:
    """Runs keep the time at which they were recorded; compaction under a wrong clock comes early, no more."""
    at = [NOON, NOON + 6 * HOUR, NOON - 6 * HOUR, NOON + timedelta(minutes=1)]
    write(store, "a", alike(run(one) for one in at))
    write(store, "b", alike([run(at[0])]))
    assert compact(store, NOON + 9 * HOUR) == 2
    write(store, "c", alike([run(at[0])]))
    assert compact(store, NOON) == 0
    everything = sorted([*at, at[0], at[0]])
    assert times(store, NOON - 9 * HOUR, NOON + 9 * HOUR) == everything
    assert compact(store, NOON + 9 * HOUR) == 2
    assert times(store, NOON - 9 * HOUR, NOON + 9 * HOUR) == everything
    assert times(store, NOON - 9 * HOUR, NOON + HOUR) == [at[2], *[at[0]] * 3, at[3]]


@settings(max_examples=25, deadline=None)
@given(dying=st.integers(0, 6), again=st.booleans())
def test_killed_compaction_counts_nothing_twice(
    tmp_path_factory: pytest.TempPathFactory, dying: int, again: bool
) -> None:
    """It dies before the n-th of its changes; what is read stays the same, then and after another pass."""
    store = _Dying(f"file://{tmp_path_factory.mktemp('lake')}")
    for n in range(5):
        write(store, f"f{n}", alike([run(NOON + n * timedelta(minutes=1))]))
    before = times(store, NOON, NOON + HOUR)
    store.left = dying
    with contextlib.suppress(RuntimeError):
        compact(store, NOON + 9 * HOUR)
    store.left = 99
    assert times(store, NOON, NOON + HOUR) == before
    if again:
        write(store, "late", alike([run(NOON + timedelta(minutes=30))]))
        before.append(NOON + timedelta(minutes=30))
    compact(store, NOON + 9 * HOUR)
    assert times(store, NOON, NOON + HOUR) == before


class _Dying(Store):
    """A store that takes `left` more changes."""

    left = 99

    def _change(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("killed")

    def put(self, key: str, body: bytes) -> None:
        self._change()
        super().put(key, body)

    def delete(self, key: str) -> None:
        self._change()
        super().delete(key)


def test_what_is_too_old_is_forgotten(store: Store) -> None:
    write(store, "a", alike([run(NOON), run(NOON + HOUR)]))
    assert forget(store, NOON + HOUR) == 1
    assert times(store, NOON, NOON + 9 * HOUR) == [NOON + HOUR]


def test_runs_are_counted(store: Store) -> None:
    runs = [run(NOON, duration=n / 1000, cached=n > 90) for n in range(1, 101)]
    runs += [run(NOON + 24 * HOUR, key_id="k2", source=None, status=503, version=None, rows=0, bytes=9)]
    write(store, "a", alike(runs))
    found = read(store, NOON, NOON + 48 * HOUR)
    first, second = report(found, "day")
    assert first == {
        "day": "2026-01-02",
        "requests": 100,
        "errors": 0,
        "p50_ms": 50.5,
        "p95_ms": 95.05,
        "p99_ms": 99.01,
        "rows": 300,
        "bytes": 10_000,
        "cached_share": 0.1,
        "asset_share": 1.0,
    }
    assert (second["day"], second["errors"], second["asset_share"]) == ("2026-01-03", 1, 0.0)
    assert [row["key"] for row in report(found, "key")] == ["k1", "k2"]
    assert [row["version"] for row in report(found, "version")] == [1, None]
    assert next(row["hour"] for row in report(found, "hour")) == "2026-01-02T12:00:00Z"
    assert totals(found)["requests"] == 101
    assert callers(found, 1) == {"k1": 100}


def test_nothing_has_no_quantiles(store: Store) -> None:
    found = read(store, NOON, NOON + HOUR)
    assert (totals(found)["requests"], totals(found)["p99_ms"], report(found, "source")) == (0, None, [])
