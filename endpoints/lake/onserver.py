"""Assets that the ClickHouse server writes into the lake by itself: rows come back as a file to be checked.

The server has a *named collection* (ENDPOINTS_LAKE_COLLECTION) with the lake's URL and credentials, so that
no query of ours holds any, nor does any log of the server. Whether it has one, and whether that leads to this
very lake, is tried out with a small file first. Where it has none, rows stream through us.

What the server has written is read back once: for its checksum, for the contract, and to see that it is what
we would have written. The manifest, and all that readers see, are the same either way.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from endpoints.errors import Corrupt, WarehouseError
from endpoints.lake.layout import version_folder
from endpoints.lake.manifest import FileEntry
from endpoints.lake.publish import Attempt
from endpoints.lake.store import Store
from endpoints.lake.write import ROW_GROUP_ROWS, file_stem
from endpoints.scratch import Scratch
from endpoints.types import Column, storage_schema
from endpoints.warehouse.protocol import Caps, Statement, Warehouse
from endpoints.warehouse.text import without_semicolon

if TYPE_CHECKING:
    from endpoints.warehouse.native import NativeWarehouse

OFF = "none"
BATCH_ROWS = 131_072
_FORMAT: Final[Mapping[str, str | int]] = {
    "output_format_parquet_row_group_size": ROW_GROUP_ROWS,
    "output_format_parquet_compression_method": "zstd",
    "output_format_parquet_string_as_string": 0,
    "output_format_parquet_fixed_string_as_fixed_byte_array": 1,
    "max_insert_threads": 1,  # one file, its rows in the query's order
}


@dataclass(frozen=True, slots=True)
class Streams:
    """Rows have to stream through us; `why` is a short sentence for operators."""

    why: str


class OtherForm(Corrupt):
    """The server's file is not what we would have written: the rows are to stream through us instead."""


class Rows(Protocol):
    """Rows to be checked, in storage form; `close` stops what makes them."""

    @property
    def columns(self) -> tuple[Column, ...]: ...
    @property
    def timezone(self) -> str: ...
    def __iter__(self) -> Iterator[pa.RecordBatch]: ...
    def close(self) -> None: ...


class Files(Protocol):
    """Where the rows go; `close` says which files hold them."""

    def write(self, batch: pa.RecordBatch) -> None: ...
    def close(self) -> tuple[FileEntry, ...]: ...


@dataclass(frozen=True, slots=True)
class Writing:
    """One partition on its way into the lake; `how` is told to operators."""

    rows: Rows
    files: Files
    how: str


@dataclass(frozen=True, slots=True)
class ServerSide:
    """A server that writes into this lake, through its named collection."""

    warehouse: NativeWarehouse
    collection: str

    @contextmanager
    def write(
        self,
        statement: Statement,
        columns: tuple[Column, ...],
        attempt: Attempt,
        partition: str,
        sort: Sequence[str],
    ) -> Iterator[Writing]:
        """Have the server write the statement's rows as the attempt's file; then they can be read.

        Raises OtherForm where the file has another form than ours, and a WarehouseError.
        """
        path = f"data/{attempt.attempt_id}/{file_stem(partition)}-0.parquet"
        key = f"{version_folder(attempt.endpoint, attempt.version)}/{path}"
        insert = _insert(self.collection, key, without_semicolon(statement.sql))
        self.warehouse.write(Statement(insert, statement.parameters), _FORMAT)
        with closing(Scratch("written")) as scratch:
            local = scratch.path / "file"
            size, checksum = _fetch(attempt.store, key, local)
            with pq.ParquetFile(local) as file:
                _check_form(file, path, columns, sort)
                entry = FileEntry(path, file.metadata.num_rows, size, f"sha256:{checksum}")
                rows = _ReadBack(columns, self.warehouse.server().timezone, file)
                yield Writing(rows, _Written(entry), "by the ClickHouse server")


@dataclass(frozen=True, slots=True)
class _ReadBack:
    """The rows of a file that the server wrote."""

    columns: tuple[Column, ...]
    timezone: str
    file: pq.ParquetFile

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        schema = storage_schema(self.columns)
        for batch in self.file.iter_batches(BATCH_ROWS):
            yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)

    def close(self) -> None:
        """Nothing: the server has ended."""


@dataclass(frozen=True, slots=True)
class _Written:
    """A file that is in the lake already."""

    entry: FileEntry

    def write(self, batch: pa.RecordBatch) -> None:
        """Nothing: the batch came from the file."""

    def close(self) -> tuple[FileEntry, ...]:
        return (self.entry,)


@contextmanager
def written_rows(
    warehouse: Warehouse,
    server: ServerSide | Streams,
    attempt: Attempt,
    partition: str,
    statement: Statement,
    sort: Sequence[str],
) -> Iterator[Writing]:
    """The statement's rows on their way into the lake: by the server where it writes, else through us.

    `sort` names the columns that they are sorted by. Leaving by an error leaves no file half written.
    """
    with ExitStack() as stack:
        found: Writing | Streams = (
            server
            if isinstance(server, Streams)
            else _by_server(stack, server, attempt, partition, statement, sort)
        )
        if isinstance(found, Streams):
            rows = stack.enter_context(warehouse.run(statement, Caps()))
            files = stack.enter_context(attempt.writer(partition, rows.columns, sort=sort))
            found = Writing(rows, files, f"streamed: {found.why}")
        yield found


def _by_server(
    stack: ExitStack,
    server: ServerSide,
    attempt: Attempt,
    partition: str,
    statement: Statement,
    sort: Sequence[str],
) -> Writing | Streams:
    columns = server.warehouse.describe(statement)
    if any(re.search(r"\bUUID\b", column.type.text) for column in columns):
        return Streams("ClickHouse marks UUIDs in Parquet as such, and assets do not")
    try:
        return stack.enter_context(server.write(statement, columns, attempt, partition, sort))
    except OtherForm as error:
        return Streams(f"the server's file {error}")


def server_side(warehouse: Warehouse, store: Store, collection: str) -> ServerSide | Streams:
    """Whether the server writes to this store, found out by letting it write a small file."""
    if collection == OFF:
        return Streams("ENDPOINTS_LAKE_COLLECTION says so")
    if not store.shared:
        return Streams("the lake is a folder of this machine")
    # Its driver takes pandas with it: not for loading a code location.
    from endpoints.warehouse.native import NativeWarehouse

    if not isinstance(warehouse, NativeWarehouse):
        return Streams("embedded ClickHouse has no network")
    key = f"_probe/{secrets.token_hex(16)}.parquet"
    try:
        warehouse.write(Statement(_insert(collection, key, "SELECT 1 AS probe")), _FORMAT)
    except WarehouseError as error:
        code = f" (ClickHouse's code {error.clickhouse_code})" if error.clickhouse_code else ""
        return Streams(f"the server does not write through the named collection {collection}{code}")
    if store.get(key) is None:
        return Streams(f"the server's named collection {collection} leads elsewhere than this lake")
    store.delete(key)
    return ServerSide(warehouse, collection)


def _insert(collection: str, key: str, sql: str) -> str:
    """Both names are ours: the collection's form is checked by the settings, the key is of plain names."""
    return f"INSERT INTO FUNCTION s3({collection}, filename = '{key}', format = 'Parquet')\n{sql}"


def _fetch(store: Store, key: str, local: Path) -> tuple[int, str]:
    """The object in a file of this machine: its bytes and their SHA-256."""
    chunks = store.chunks(key)
    if chunks is None:
        raise Corrupt(key, "is not where the server should have written it")
    size, digest = 0, hashlib.sha256()
    with local.open("wb") as file:
        for chunk in chunks:
            size += file.write(chunk)
            digest.update(chunk)
    return size, digest.hexdigest()


def _check_form(file: pq.ParquetFile, path: str, columns: Sequence[Column], sort: Sequence[str]) -> None:
    if not file.schema_arrow.remove_metadata().equals(storage_schema(columns)):
        raise OtherForm(path, "has columns of another form")
    names = file.schema_arrow.names
    groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
    if any(group.num_rows > 2 * ROW_GROUP_ROWS for group in groups):
        raise OtherForm(path, "has row groups that are too large")
    for name in sort[:1]:
        bounds = [group.column(names.index(name)).statistics for group in groups]
        known = [(b.min, b.max) for b in bounds if b is not None and b.has_min_max]
        if any(after[0] < before[1] for before, after in pairwise(known)):
            raise OtherForm(path, f"is not sorted by {name}")
