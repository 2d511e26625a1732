"""Writing a partition: record batches to Parquet files, in bounded memory.

A thread encodes row groups while the next ones come in: Arrow lets go of Python's lock meanwhile.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from endpoints.lake.manifest import FileEntry
from endpoints.lake.store import Store
from endpoints.types import Column, storage_schema

# What one key costs whose row group is not in memory (measured: 0.6 ms to decode, 1 ms with twice the rows).
ROW_GROUP_ROWS = 32_768
ROW_GROUP_BYTES = 64 * 2**20
FILE_BYTES = 128 * 2**20
_ENCODING = 2  # row groups that wait for the thread, or are in it
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", re.ASCII)


class PartitionWriter:
    """Streams the rows of one partition, in their order, to files of bounded size.

    A file appears in the store when it is complete; `abort`, or a `with` block that raises, leaves none half
    written. Files that are complete but never published are collected later.
    """

    def __init__(
        self,
        store: Store,
        folder: str,
        attempt: str,
        partition: str,
        columns: Sequence[Column],
        *,
        sort: Sequence[str] = (),
        file_bytes: int = FILE_BYTES,
    ) -> None:
        self._store, self._folder = store, folder
        self._stem = f"{attempt}/{file_stem(partition)}"
        self._schema: pa.Schema = storage_schema(columns)
        self._sorting = pq.SortingColumn.from_ordering(self._schema, [(name, "ascending") for name in sort])
        self._file_bytes = file_bytes
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = self._waiting_bytes = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="parquet")
        self._encoding: deque[Future[None]] = deque()
        self._open: _OpenFile | None = None  # until the end the thread's, as `_files` is
        self._files: list[FileEntry] = []
        self._closed = False

    def write(self, batch: pa.RecordBatch) -> None:
        """Takes rows in storage form; ValueError where the schema is another."""
        if not batch.schema.equals(self._schema):
            raise ValueError(f"rows of schema {batch.schema} do not fit files of schema {self._schema}")
        for piece in _pieces(batch):
            self._waiting.append(piece)
            self._waiting_rows += piece.num_rows
            self._waiting_bytes += piece.nbytes
            while self._waiting_rows >= ROW_GROUP_ROWS or self._waiting_bytes >= ROW_GROUP_BYTES:
                self._flush()

    def close(self) -> tuple[FileEntry, ...]:
        """Ends the last file and returns all of them. An empty result is one file without rows."""
        if not self._closed:
            self._flush()
            self._settle(0)
            if self._open is None and not self._files:
                self._open = self._start()
            self._end_file()
            self._closed = True
            self._thread.shutdown()
        return tuple(self._files)

    def abort(self) -> None:
        """Drops the file being written."""
        self._closed = True
        self._waiting.clear()
        self._thread.shutdown(cancel_futures=True)
        if self._open is not None:
            self._open.abort()
            self._open = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _flush(self) -> None:
        """Hands what waits to the thread, as one row group."""
        if not self._waiting:
            return
        table = pa.Table.from_batches(self._waiting, self._schema)
        group, rest = table.slice(0, ROW_GROUP_ROWS), table.slice(ROW_GROUP_ROWS)
        self._waiting = rest.to_batches()
        self._waiting_rows, self._waiting_bytes = rest.num_rows, rest.nbytes
        self._settle(_ENCODING - 1)
        self._encoding.append(self._thread.submit(self._encode, group))

    def _settle(self, left: int) -> None:
        """Waits until at most `left` row groups are being encoded. Raises what went wrong with the others."""
        while len(self._encoding) > left:
            self._encoding.popleft().result()

    def _encode(self, group: pa.Table) -> None:
        self._open = self._open or self._start()
        self._open.write(group)
        if self._open.size >= self._file_bytes:
            self._end_file()

    def _start(self) -> _OpenFile:
        path = f"{self._stem}-{len(self._files)}.parquet"
        return _OpenFile(self._store, self._folder, path, self._schema, self._sorting)

    def _end_file(self) -> None:
        if self._open is not None:
            self._files.append(self._open.close())
            self._open = None


class _OpenFile:
    """One Parquet file on its way, with the checksum of its bytes."""

    def __init__(
        self, store: Store, folder: str, path: str, schema: pa.Schema, sorting: Sequence[pq.SortingColumn]
    ) -> None:
        self._path, self._rows = path, 0
        self._stack = ExitStack()
        staging = self._stack.enter_context(store.staged(f"{folder}/{path}"))
        self._sink = _Hashing(staging)
        self._stack.callback(self._sink.close)
        self._writer = pq.ParquetWriter(
            self._sink,
            schema,
            compression="zstd",
            sorting_columns=sorting or None,
            write_page_index=True,
        )

    @property
    def size(self) -> int:
        return self._sink.size

    def write(self, group: pa.Table) -> None:
        self._writer.write_table(group, row_group_size=ROW_GROUP_ROWS)
        self._rows += group.num_rows

    def close(self) -> FileEntry:
        try:
            self._writer.close()
        except BaseException as error:
            self._stack.__exit__(type(error), error, error.__traceback__)
            raise
        self._stack.close()
        return FileEntry(self._path, self._rows, self._sink.size, f"sha256:{self._sink.hash.hexdigest()}")

    def abort(self) -> None:
        error = _Aborted()
        try:
            self._writer.close()
            self._stack.__exit__(_Aborted, error, None)
        except _Aborted:
            return


class _Aborted(Exception):
    """Thrown into the store's staging, so that it drops the file."""


class _Hashing:
    """A file, write only, that hashes what passes."""

    def __init__(self, path: Path) -> None:
        self._file: IO[bytes] = path.open("wb")
        self.hash, self.size, self.closed = hashlib.sha256(), 0, False

    def write(self, data: Any) -> int:
        """Parquet is written front to back, so that the hash of the pieces is the file's."""
        self.hash.update(data)
        written = self._file.write(data)
        self.size += written
        return written

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()
        self.closed = True

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


def _pieces(batch: pa.RecordBatch) -> list[pa.RecordBatch]:
    return [batch.slice(start, ROW_GROUP_ROWS) for start in range(0, batch.num_rows, ROW_GROUP_ROWS)]


def file_stem(partition: str) -> str:
    """The partition's key where it can be a file name, else a hash of it."""
    if _PLAIN_NAME.fullmatch(partition):
        return partition
    return hashlib.sha256(partition.encode()).hexdigest()[:32]
