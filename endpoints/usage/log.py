"""The rows under `_usage/<day>/<hour>/`, UTC: many small Parquet files, and one for each hour that is over.

A file's name is given by who writes it, so that writing it twice is writing it once. A compacted file names
in its metadata those that it `replaces`; readers pass over these while they are still there, so that no row
counts twice whenever compaction is killed.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from endpoints.lake.store import Store
from endpoints.usage.record import Alike

FOLDER = "_usage"
HOUR = timedelta(hours=1)
READERS = 16  # objects read at once
SETTLED = timedelta(minutes=10)  # after its end an hour gets no more files, but from a store that was away
_REPLACES = b"replaces"
_COMPACTED = "whole-"
# What each run has of its own, however alike they are; `at` as it comes, in seconds.
_OWN = {"at": pa.float64(), "duration": pa.float64(), "rows": pa.int64(), "bytes": pa.int64()}

SCHEMA = pa.schema(
    [
        ("at", pa.timestamp("us", "UTC")),
        ("endpoint", pa.string()),
        ("version", pa.int32()),
        ("key_id", pa.string()),
        ("source", pa.string()),
        ("reason", pa.string()),
        ("status", pa.int16()),
        ("duration", pa.float64()),
        ("rows", pa.int64()),
        ("bytes", pa.int64()),
        ("cached", pa.bool_()),
    ]
)


def write(store: Store, name: str, runs: Sequence[Alike]) -> None:
    """Keep the runs under `name`, which is new, or holds the very same runs. StoreUnavailable."""
    table = _table(runs)
    hours = pc.floor_temporal(table["at"], unit="hour")
    for hour in hours.unique():
        rows = table.filter(pc.equal(hours, hour))
        store.put(f"{_folder(hour.as_py())}/{name}.parquet", _parquet(rows))


def read(store: Store, since: datetime, until: datetime, *, endpoint: str | None = None) -> pl.DataFrame:
    """The runs with `since <= at < until`, in the columns of `SCHEMA`; of one endpoint, if one is named.

    StoreUnavailable.
    """
    with ThreadPoolExecutor(READERS, thread_name_prefix="usage") as threads:
        days = threads.map(lambda day: _hours_of(store, day), _days(since, until))
        hours = [hour for found in days for hour in found if _hour(since) <= hour < until]
        frames = [frame for found in threads.map(partial(_read_hour, store), hours) for frame in found]
    rows = pl.concat(frames or [_frame(SCHEMA.empty_table())])
    asked = (pl.col("at") >= since) & (pl.col("at") < until)
    if endpoint is not None:
        asked &= pl.col("endpoint").str.to_lowercase() == endpoint.lower()
    return rows.filter(asked)


def compact(store: Store, now: datetime) -> int:
    """Make one file of each hour's, where the hour is over; how many files went. Safe to kill."""
    gone = 0
    for hour in _kept_hours(store):
        if hour + HOUR + SETTLED <= now:
            gone += _compact_hour(store, hour)
    return gone


def forget(store: Store, before: datetime) -> int:
    """Remove the hours that ended by `before`; how many files went."""
    gone = 0
    for hour in _kept_hours(store):
        if hour + HOUR <= before:
            for key in _keys(store, hour):
                store.delete(key)
                gone += 1
    return gone


def _compact_hour(store: Store, hour: datetime) -> int:
    files = _files(store, hour)
    replaced = {name for _, names in files.values() for name in names}
    if len(files) > 1:
        sources = sorted(_name(key) for key in files)
        table = pa.concat_tables([table for table, _ in files.values()])
        table = table.sort_by([("endpoint", "ascending"), ("at", "ascending")])
        digest = hashlib.blake2b(orjson.dumps(sources), digest_size=12).hexdigest()
        # What the sources replace may still be there as well.
        body = _parquet(table, replaces=[*sources, *replaced])
        store.put(f"{_folder(hour)}/{_COMPACTED}{digest}.parquet", body)
        replaced |= set(sources)
    doomed = [key for key in _keys(store, hour) if _name(key) in replaced]
    for key in doomed:
        store.delete(key)
    return len(doomed)


def _read_hour(store: Store, hour: datetime) -> list[pl.DataFrame]:
    return [_frame(table) for table, _ in _files(store, hour).values()]


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _files(store: Store, hour: datetime) -> dict[str, tuple[pa.Table, tuple[str, ...]]]:
    """The hour's files that count, by key: their rows, and the names of what they replace."""
    for _ in range(3):  # compaction may take files away between the listing and the reading
        found = {key: store.get(key) for key in _keys(store, hour)}
        if None not in found.values():
            break
    files = {key: _opened(body) for key, body in found.items() if body is not None}
    replaced = {name for _, names in files.values() for name in names}
    return {key: file for key, file in files.items() if _name(key) not in replaced}


def _opened(body: bytes) -> tuple[pa.Table, tuple[str, ...]]:
    table = pq.read_table(pa.BufferReader(body))
    replaces = (table.schema.metadata or {}).get(_REPLACES)
    return table.replace_schema_metadata(None), tuple(orjson.loads(replaces)) if replaces else ()


def _table(runs: Sequence[Alike]) -> pa.Table:
    kinds = zip(*(group.run for group in runs), strict=True)
    which = np.repeat(np.arange(len(runs)), [len(group.at) for group in runs])
    columns = {
        field.name: pa.array(values, field.type).take(pa.array(which))
        for field, values in zip(SCHEMA, kinds, strict=True)
        if field.name not in _OWN
    }
    for name, type_ in _OWN.items():
        columns[name] = pa.concat_arrays([pa.array(getattr(group, name), type_) for group in runs])
    at = np.rint(columns["at"].to_numpy() * 1e6).astype(np.int64)
    columns["at"] = pa.array(at).cast(SCHEMA.field("at").type)
    return pa.Table.from_arrays([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def _parquet(table: pa.Table, *, replaces: Sequence[str] = ()) -> bytes:
    if replaces:
        table = table.replace_schema_metadata({_REPLACES: orjson.dumps(replaces)})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _hour(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _days(since: datetime, until: datetime) -> Iterator[str]:
    day = since.astimezone(UTC).date()
    while day <= until.astimezone(UTC).date():
        yield day.isoformat()
        day += timedelta(days=1)


def _folder(hour: datetime) -> str:
    return f"{FOLDER}/{hour:%Y-%m-%d}/{hour:%H}"


def _keys(store: Store, hour: datetime) -> list[str]:
    return [found.key for found in store.list(_folder(hour)) if found.key.endswith(".parquet")]


def _name(key: str) -> str:
    return key.rpartition("/")[2].removesuffix(".parquet")


def _kept_hours(store: Store) -> Iterator[datetime]:
    for day in store.folders(FOLDER):
        yield from _hours_of(store, day)


def _hours_of(store: Store, day: str) -> list[datetime]:
    """The hours of a day that have runs."""
    hours = store.folders(f"{FOLDER}/{day}")
    return [datetime.strptime(f"{day} {hour}", "%Y-%m-%d %H").replace(tzinfo=UTC) for hour in hours]
