"""Repeated keys, counted exactly in bounded memory."""

from __future__ import annotations

from collections import Counter

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.duplicates import DuplicateFinder

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


@pytest.mark.parametrize("distinct", [True, False])
def test_memory_is_bounded(distinct: bool) -> None:
    """What is held never exceeds the limit by more than a batch, whatever the keys."""
    finder = DuplicateFinder(held_bytes=50_000)
    for start in range(0, 100_000, 1000):
        keys = pl.DataFrame({"key": range(start, start + 1000)} if distinct else {"key": [7] * 1000})
        finder.add(keys)
        assert sum(frame.estimated_size() for frame in finder._held) < 50_000 + 20_000
    assert finder.finish().surplus == (0 if distinct else 99_999)


def test_files_are_dropped() -> None:
    finder = DuplicateFinder(held_bytes=1)
    finder.add(pl.DataFrame({"key": [1, 1, 2]}))
    assert finder._folder is not None
    folder = finder._folder.name
    finder.close()
    with pytest.raises(FileNotFoundError):
        pl.read_ipc(f"{folder}/0.arrows")
