from __future__ import annotations

import hashlib
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from endpoints.lake.publish import Attempt, Lake
from endpoints.lake.write import ROW_GROUP_ROWS, PartitionWriter
from endpoints.types import Column, parse_type, storage_schema

COLUMNS = (Column("n", parse_type("UInt64")), Column("name", parse_type("Nullable(String)")))


def rows(numbers: range) -> pa.RecordBatch:
    names = pa.repeat(pa.scalar(b"row", pa.binary()), len(numbers))
    return pa.record_batch([pa.array(numbers, pa.uint64()), names], schema=storage_schema(COLUMNS))


def stored(lake: Lake, path: str) -> bytes:
    return b"".join(lake.store.chunks(f"endpoints/usage/v1/{path}") or ())


@pytest.fixture
def attempt(lake: Lake, begin) -> Attempt:
    return begin(lake)


def test_rows_come_back_in_their_order_with_the_checksum_of_the_file(lake: Lake, attempt: Attempt) -> None:
    with attempt.writer("all", COLUMNS, sort=["n"]) as writer:
        for start in range(0, 200_000, 999):
            writer.write(rows(range(start, min(start + 999, 200_000))))
    (file,) = writer.close()
    body = stored(lake, file.path)
    assert (file.rows, file.bytes) == (200_000, len(body))
    assert file.checksum == f"sha256:{hashlib.sha256(body).hexdigest()}"
    parquet = pq.ParquetFile(io.BytesIO(body))
    assert parquet.read().column("n").to_pylist() == list(range(200_000))
    assert parquet.schema_arrow.equals(storage_schema(COLUMNS))


def test_row_groups_are_sized_for_pruning_and_have_statistics(lake: Lake, attempt: Attempt) -> None:
    with attempt.writer("all", COLUMNS, sort=["n"]) as writer:
        writer.write(rows(range(150_000)))
    metadata = pq.ParquetFile(io.BytesIO(stored(lake, writer.close()[0].path))).metadata
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    full, rest = divmod(150_000, ROW_GROUP_ROWS)
    assert [group.num_rows for group in groups] == [ROW_GROUP_ROWS] * full + [rest]
    assert [group.column(0).statistics.max + 1 for group in groups] == [
        *range(ROW_GROUP_ROWS, 150_000, ROW_GROUP_ROWS),
        150_000,
    ]
    assert groups[0].column(0).compression == "ZSTD"
    assert groups[0].sorting_columns == (pq.SortingColumn(0),)


def test_large_partitions_are_split_into_files(lake: Lake, attempt: Attempt) -> None:
    writer = PartitionWriter(lake.store, "endpoints/usage/v1", "data/a", "all", COLUMNS, file_bytes=100_000)
    for start in range(0, 300_000, 50_000):
        writer.write(rows(range(start, start + 50_000)))
    files = writer.close()
    assert len(files) > 1
    assert sum(file.rows for file in files) == 300_000
    tables = [pq.read_table(io.BytesIO(stored(lake, file.path))) for file in files]
    assert pa.concat_tables(tables).column("n").to_pylist() == list(range(300_000))


def test_an_empty_result_is_one_file_that_has_the_columns(lake: Lake, attempt: Attempt) -> None:
    with attempt.writer("all", COLUMNS) as writer:
        pass
    (file,) = writer.close()
    assert file.rows == 0
    table = pq.read_table(io.BytesIO(stored(lake, file.path)))
    assert table.schema.equals(storage_schema(COLUMNS))


def _write_and_fail(attempt: Attempt) -> None:
    with attempt.writer("all", COLUMNS) as writer:
        writer.write(rows(range(100_000)))
        raise ZeroDivisionError


def test_an_aborted_writer_leaves_nothing(lake: Lake, attempt: Attempt) -> None:
    with pytest.raises(ZeroDivisionError):
        _write_and_fail(attempt)
    assert list(lake.store.list("endpoints")) == []
    if lake.store.root:
        assert [path for path in lake.store.root.rglob("*") if path.is_file()] == []


def test_rows_of_another_schema_are_refused(disk: Lake, begin) -> None:
    writer = begin(disk).writer("all", COLUMNS)
    with pytest.raises(ValueError, match="do not fit"):
        writer.write(pa.record_batch({"n": pa.array([1], pa.int64())}))


@pytest.mark.parametrize(
    "partition", ["..", ".", "a/b", "x#1", "Zürich", "", "a" * 300, "2026-10-25-02:00+0100"]
)
def test_any_partition_key_has_a_file_name(disk: Lake, begin, partition: str) -> None:
    attempt = begin(disk, partition)
    with attempt.writer(partition, COLUMNS) as writer:
        writer.write(rows(range(3)))
    (file,) = writer.close()
    assert file.path.startswith(f"data/{attempt.attempt_id}/")
    assert [found.key for found in disk.store.list("endpoints")] == [f"endpoints/usage/v1/{file.path}"]


def test_memory_stays_bounded(disk: Lake, begin) -> None:
    """Thirty million values pass; what Arrow holds never reaches a tenth of them."""
    pool = pa.default_memory_pool()
    batch = rows(range(ROW_GROUP_ROWS // 4))
    base, highest = pool.bytes_allocated(), 0
    with begin(disk).writer("all", COLUMNS) as writer:
        for _ in range(600):
            writer.write(batch)
            highest = max(highest, pool.bytes_allocated() - base)
    assert sum(file.rows for file in writer.close()) == 600 * batch.num_rows
    assert highest < 600 * batch.nbytes / 10
