"""A lake on either store, and rows to publish in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from endpoints.lake.manifest import FileEntry, PartitionEntry, Server
from endpoints.lake.publish import Attempt, Lake, Published, Superseded
from endpoints.lake.store import Store
from endpoints.types import Column, parse_type, storage_schema

COLUMNS = (Column("n", parse_type("UInt64")), Column("name", parse_type("Nullable(String)")))
START = datetime(2026, 1, 1, tzinfo=UTC)
Publish = Callable[..., Published | Superseded]


def batch_of(numbers: Sequence[int]) -> pa.RecordBatch:
    columns = [pa.array(numbers, pa.uint64()), pa.array([b"row" for _ in numbers], pa.binary())]
    return pa.record_batch(columns, schema=storage_schema(COLUMNS))


def written(attempt: Attempt, partition: str, numbers: Sequence[int], minute: int) -> PartitionEntry:
    """One partition's rows in the store; `as_of` is so many minutes after the start."""
    with attempt.writer(partition, COLUMNS) as writer:
        writer.write(batch_of(numbers))
    return attempt.entry(writer.close(), COLUMNS, as_of=START + timedelta(minutes=minute))


@pytest.fixture
def store(lake_url: str) -> Store:
    return Store(lake_url)


@pytest.fixture
def lake(store: Store) -> Lake:
    return Lake(store)


@pytest.fixture
def disk(tmp_path) -> Lake:
    """A lake on the disk only, for rules in which the store has no part."""
    return Lake(Store(f"file://{tmp_path / 'lake'}"))


@pytest.fixture
def write() -> Callable[[Attempt, str, Sequence[int], int], PartitionEntry]:
    return written


@pytest.fixture
def begin() -> Callable[..., Attempt]:
    def begin(lake: Lake, *partitions: str, fingerprint: str = "f1") -> Attempt:
        return lake.begin(
            "usage", 1, fingerprint=fingerprint, run_id="run", partitions=partitions or ("all",)
        )

    return begin


@pytest.fixture
def publish(begin) -> Publish:
    """One whole attempt: `publish(lake, {"all": [1, 2]}, minute=5)`."""

    def publish(
        lake: Lake, partitions: Mapping[str, Sequence[int]], minute: int, fingerprint: str = "f1"
    ) -> Published | Superseded:
        attempt = begin(lake, *partitions, fingerprint=fingerprint)
        entries = {key: written(attempt, key, rows, minute) for key, rows in partitions.items()}
        return attempt.publish(entries, Server("26.9", "UTC"))

    return publish


@pytest.fixture
def entry() -> Callable[..., PartitionEntry]:
    """An entry without a real file, for rules about manifests alone."""

    def entry(minute: int = 0, **changes: object) -> PartitionEntry:
        given: dict[str, object] = {
            "files": (FileEntry("data/a/all-0.parquet", 10, 1000, "sha256:" + "0" * 64),),
            "columns": COLUMNS,
            "as_of": START + timedelta(minutes=minute),
            "fingerprint": "f1",
            "run_id": "run",
            "attempt_id": "a",
            "rows": 10,
            "bytes": 1000,
            **changes,
        }
        return PartitionEntry(**given)  # type: ignore[arg-type]

    return entry
