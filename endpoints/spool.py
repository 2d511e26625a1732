"""Rows on their way to being whole: in memory while few, in a temporary file when not."""

from __future__ import annotations

import hashlib
import mmap
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import pyarrow as pa

from endpoints.errors import OverLimit
from endpoints.rows import Rows
from endpoints.types import Column, storage_schema


class Spool:
    """Takes record batches, gives one table.

    Past `memory_bytes` everything goes to a file in `folder` that has no name: it lives as long as the table,
    which maps it, and leaves nothing behind, even if this process is killed. Past `file_bytes`, and on a
    disk that is full: OverLimit.
    """

    def __init__(self, memory_bytes: int, file_bytes: int, folder: Path) -> None:
        self._memory_bytes, self._file_bytes, self._folder = memory_bytes, file_bytes, folder
        self._batches: list[pa.RecordBatch] = []
        self._bytes = 0
        self._file: IO[bytes] | None = None
        self._writer: pa.RecordBatchFileWriter | None = None
        self._open = ExitStack()
        self.mapped: mmap.mmap | None = None
        """The file that `table` lies in, if it does."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # a full disk has been told by then, and the file goes all the same
            self._open.close()

    def add(self, batch: pa.RecordBatch) -> None:
        """Take rows in. Raises OverLimit."""
        self._bytes += batch.nbytes
        if self._bytes > self._file_bytes:
            raise OverLimit(f"the result is larger than {self._file_bytes} bytes")
        with _full_disk_is_a_limit():
            if self._writer is not None:
                self._writer.write_batch(batch)
                return
            self._batches.append(batch)
            if self._bytes > self._memory_bytes:
                self._spill()

    def table(self, columns: Iterable[Column]) -> pa.Table:
        """All rows; `columns` give the schema where there are none."""
        if self._writer is None or self._file is None:
            return pa.Table.from_batches(self._batches, schema=storage_schema(columns)).combine_chunks()
        with _full_disk_is_a_limit():
            self._writer.close()
            self._file.flush()
        self.mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return pa.ipc.open_file(pa.py_buffer(self.mapped)).read_all()

    def _spill(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
        self._file = self._open.enter_context(file)
        self._writer = self._open.enter_context(pa.ipc.new_file(self._file, self._batches[0].schema))
        for batch in self._batches:
            self._writer.write_batch(batch)
        self._batches = []


@contextmanager
def _full_disk_is_a_limit() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OverLimit(f"the temporary file of a large result cannot be written: {error}") from error


def spool_in_temporary_folder() -> Spool:
    """A spool for those who have no settings: 64 MiB in memory, then the system's temporary folder."""
    return Spool(64 * 2**20, 64 * 2**30, Path(tempfile.gettempdir()))


def digest(rows: Rows) -> str:
    """A hash of the rows: equal rows in equal chunks give equal digests."""
    state = hashlib.blake2b(digest_size=12)
    for batch in rows.table.to_batches():
        state.update(batch.serialize())
        rows.forget()
    return state.hexdigest()
