"""Repeated keys, counted exactly in bounded memory."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.duplicates import DuplicateFinder, RunDuplicateFinder

KEY = st.tuples(st.integers(0, 40), st.one_of(st.none(), st.sampled_from([b"", b"a", b"\xff\x00", b"aa"])))
SCHEMA = {"number": pl.Int64, "text": pl.Binary}


@given(
    batches=st.lists(st.lists(KEY, max_size=40), max_size=12), held_bytes=st.sampled_from([1, 300, 1 << 20])
)
def test_counts_equal_a_naive_count(batches: list[list[tuple[int, bytes | None]]], held_bytes: int) -> None:
    finder, naive = DuplicateFinder(held_bytes=held_bytes), Counter[tuple[int, bytes | None]]()
    for batch in batches:
        finder.add(pl.DataFrame(batch, schema=SCHEMA, orient="row"))
        naive.update(batch)
    found = finder.finish()
    repeated = {key for key, count in naive.items() if count > 1}
    assert found.surplus == sum(count - 1 for count in naive.values())
    assert set(found.examples.rows()) <= repeated
    assert len(found.examples) == min(5, len(repeated))


ROW = st.tuples(
    st.one_of(st.none(), st.integers(0, 3)), st.integers(0, 3), st.sampled_from([None, b"", b"a"])
)


@given(
    rows=st.lists(ROW, max_size=40),
    sorts=st.sampled_from([(), (1,), (2, 1), (1, 2)]),
    down=st.booleans(),
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=9),
    held_rows=st.sampled_from([1, 5, 1000]),
)
def test_runs_are_counted_exactly_however_they_are_sorted(
    rows: list[tuple[int | None, int, bytes | None]],
    sorts: tuple[int, ...],
    down: bool,
    sizes: list[int],
    held_rows: int,
) -> None:
    """Neighbours prove or the finder counts: the result is the naive one, in whatever pieces rows come."""
    rows.sort(key=lambda row: [row[at] or b"" if at == 2 else row[at] or 0 for at in sorts], reverse=down)
    rows.sort(key=lambda row: (row[0] is None, row[0] or 0))
    schema = {"run": pl.Int64, "number": pl.Int64, "text": pl.Binary}
    finder, left = RunDuplicateFinder(["run"], held_rows=held_rows), rows
    for size in (*sizes, len(rows)):
        finder.add(pl.DataFrame(left[:size], schema=schema, orient="row"))
        left = left[size:]
    found = finder.finish()
    repeated = {row for row, count in Counter(rows).items() if count > 1}
    assert found.surplus == len(rows) - len(set(rows))
    assert set(found.examples.rows()) <= repeated
    assert len(found.examples) == min(5, len(repeated))


def test_sorted_runs_are_proved_without_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DuplicateFinder, "add", lambda *_: pytest.fail("hashed"))
    finder = RunDuplicateFinder(["run"])
    for start in range(0, 1000, 64):
        numbers = range(start, min(start + 64, 1000))
        runs = {"run": [n // 10 for n in numbers], "b": [n % 2 for n in numbers]}
        finder.add(pl.DataFrame({**runs, "a": [-(n % 10 // 2) - n // 10 for n in numbers]}))
    assert finder.finish().surplus == 0


def test_rows_that_are_not_sorted_are_told() -> None:
    finder = RunDuplicateFinder(["a", "b"])
    finder.add(pl.DataFrame({"a": [1, 1], "b": [1, 2], "c": [0, 0]}))
    with pytest.raises(ValueError, match="not sorted by a, b"):
        finder.add(pl.DataFrame({"a": [1], "b": [1], "c": [0]}))


@pytest.mark.parametrize("distinct", [True, False])
def test_memory_is_bounded(distinct: bool) -> None:
    """What is held never exceeds the limit by more than a batch, whatever the keys."""
    finder = DuplicateFinder(held_bytes=50_000)
    for start in range(0, 100_000, 1000):
        keys = pl.DataFrame({"key": range(start, start + 1000)} if distinct else {"key": [7] * 1000})
        finder.add(keys)
        assert sum(frame.estimated_size() for frame in finder._held) < 50_000 + 20_000
    assert finder.finish().surplus == (0 if distinct else 99_999)


def test_files_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    finder = DuplicateFinder(held_bytes=1)
    finder.add(pl.DataFrame({"key": [1, 1, 2]}))
    assert list(tmp_path.rglob("*.arrows"))
    finder.close()
    assert not any(tmp_path.iterdir())
