"""Rows on their way to being whole."""

from __future__ import annotations

import gc
import resource
from pathlib import Path

import pyarrow as pa
import pytest

from endpoints.errors import OverLimit
from endpoints.rows import Rows
from endpoints.spool import Spool, digest
from endpoints.types import Column, parse_type, storage_schema

COLUMNS = (Column("n", parse_type("UInt64")), Column("s", parse_type("String")))
SCHEMA = storage_schema(COLUMNS)


def batch(start: int, rows: int) -> pa.RecordBatch:
    numbers = range(start, start + rows)
    arrays = [pa.array(numbers, pa.uint64()), pa.array([b"x" * 100 for _ in numbers], pa.binary())]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


@pytest.mark.parametrize("memory_bytes", [0, 50_000, 10**9])
def test_the_rows_come_out_as_they_went_in(tmp_path: Path, memory_bytes: int) -> None:
    with Spool(memory_bytes, 10**9, tmp_path / "new") as spool:
        for start in range(0, 3000, 300):
            spool.add(batch(start, 300))
        table = spool.table(COLUMNS)
    gc.collect()
    assert not list(tmp_path.glob("new/*"))
    assert table.schema == SCHEMA
    assert table["n"].to_pylist() == list(range(3000))


def test_a_killed_process_leaves_no_file(tmp_path: Path) -> None:
    """What is on the disk has no name at any time, so that nobody need remove it."""
    with Spool(0, 10**9, tmp_path) as spool:
        spool.add(batch(0, 300))
        assert not any(tmp_path.iterdir())
        assert spool.table(COLUMNS).num_rows == 300
        assert not any(tmp_path.iterdir())


def test_no_rows_have_columns_all_the_same(tmp_path: Path) -> None:
    with Spool(0, 10**9, tmp_path) as spool:
        assert spool.table(COLUMNS).schema == SCHEMA


def test_too_much_is_refused(tmp_path: Path) -> None:
    with Spool(1000, 50_000, tmp_path) as spool:
        spool.add(batch(0, 300))
        with pytest.raises(OverLimit):
            spool.add(batch(300, 300))


def test_a_full_disk_is_a_limit(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OverLimit, match="cannot be written"):
            fill(tmp_path, rows=30_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fill(folder: Path, rows: int) -> None:
    with Spool(0, 10**9, folder) as spool:
        for start in range(0, rows, 300):
            spool.add(batch(start, 300))


def test_a_folder_that_cannot_be_made_is_a_limit(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with Spool(0, 10**9, tmp_path / "file" / "folder") as spool, pytest.raises(OverLimit):
        spool.add(batch(0, 300))


def test_the_digest_tells_rows_apart_not_batches(tmp_path: Path) -> None:
    def of(*batches: pa.RecordBatch) -> str:
        with Spool(10**9, 10**9, tmp_path) as spool:
            for one in batches:
                spool.add(one)
            return digest(Rows(COLUMNS, spool.table(COLUMNS), "UTC", has_more=False))

    assert of(batch(0, 10)) == of(batch(0, 4), batch(4, 6))
    assert of(batch(0, 10)) != of(batch(1, 10))
