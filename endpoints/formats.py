"""Rows as bytes for callers: JSON, JSON lines, CSV, Arrow, Parquet.

Each format is a generator of parts, so that an answer of any size is made in the memory of one part. A part
holds `PART_ROWS` rows.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from endpoints.rows import Rows
from endpoints.types import Integers, arrow_schema, csv_values, json_values, to_arrow_batch

Shape: TypeAlias = Literal["arrays", "objects"]
Tabular: TypeAlias = Literal["csv", "arrow", "parquet"]

PART_ROWS = 16_384
ROW_GROUP_PARTS = 8  # parts of a row group of Parquet: what is held until it is written


def json_rows(rows: Rows, shape: Shape = "arrays", integers: Integers = "number") -> bytes:
    """The JSON array of rows: each an array in the order of the columns, or an object by their names."""
    return b"".join(json_parts(rows, shape, integers))


def json_parts(rows: Rows, shape: Shape = "arrays", integers: Integers = "number") -> Iterator[bytes]:
    """`json_rows` in parts."""
    yield b"["
    separator = b""
    for values in _values(rows, shape, integers):
        yield separator + orjson.dumps(values)[1:-1]
        separator = b","
    yield b"]"


def ndjson_parts(rows: Rows, shape: Shape = "objects", integers: Integers = "number") -> Iterator[bytes]:
    """A JSON document for each row, each on a line of its own."""
    for values in _values(rows, shape, integers):
        yield b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in values)


def csv_rows(rows: Rows) -> bytes:
    """RFC 4180: a header line, then a line for each row, ended by CRLF, in UTF-8. NULL is an empty field."""
    return b"".join(csv_parts(rows))


def csv_parts(rows: Rows) -> Iterator[bytes]:
    """`csv_rows` in parts."""
    yield _csv_lines([[column.name for column in rows.columns]])
    for batch in _batches(rows, rows.packed):
        columns = [
            csv_values(array, column.type, timezone=rows.timezone)
            for array, column in zip(batch.columns, rows.columns, strict=True)
        ]
        yield _csv_lines(zip(*columns, strict=True))


def arrow_parts(rows: Rows) -> Iterator[bytes]:
    """An Arrow IPC stream, in the types that other programs know (`endpoints.types.arrow_schema`)."""
    sink = _Sink()
    with pa.ipc.new_stream(sink, arrow_schema(rows.columns, timezone=rows.timezone)) as writer:
        for batch in _batches(rows, rows.table):
            writer.write_batch(to_arrow_batch(batch, rows.columns, timezone=rows.timezone))
            yield sink.taken()
    yield sink.taken()


def parquet_parts(rows: Rows) -> Iterator[bytes]:
    """A Parquet file in the types of `arrow_parts`."""
    sink, held = _Sink(), list[pa.RecordBatch]()
    schema = arrow_schema(rows.columns, timezone=rows.timezone)
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for batch in _batches(rows, rows.table):
            held.append(to_arrow_batch(batch, rows.columns, timezone=rows.timezone))
            if len(held) == ROW_GROUP_PARTS:
                writer.write_table(pa.Table.from_batches(held, schema))
                held = []
                yield sink.taken()
        writer.write_table(pa.Table.from_batches(held, schema))
    yield sink.taken()


TABULAR: Mapping[Tabular, Callable[[Rows], Iterator[bytes]]] = {
    "csv": csv_parts,
    "arrow": arrow_parts,
    "parquet": parquet_parts,
}
"""The formats that take no options."""


def _batches(rows: Rows, table: pa.Table) -> Iterator[pa.RecordBatch]:
    """The parts of the page, in storage form or packed as `table` is."""
    for batch in table.to_batches(max_chunksize=PART_ROWS):
        yield batch
        rows.forget()


def _values(rows: Rows, shape: Shape, integers: Integers) -> Iterator[list[Any]]:
    """The rows as values that orjson writes, a part at a time."""
    names = [column.name for column in rows.columns]
    for batch in _batches(rows, rows.packed):
        columns = [
            json_values(array, column.type, timezone=rows.timezone, integers=integers)
            for array, column in zip(batch.columns, rows.columns, strict=True)
        ]
        values: Iterator[tuple[object, ...]] = zip(*columns, strict=True)
        if shape == "arrays":
            yield list(values)
        else:
            yield [dict(zip(names, row, strict=True)) for row in values]


def _csv_lines(lines: Any) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(lines)
    return text.getvalue().encode()


class _Sink(io.RawIOBase):
    """A file that gives away what has been written to it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        self._written += len(self._parts[-1])
        return len(self._parts[-1])

    def tell(self) -> int:
        return self._written

    def taken(self) -> bytes:
        """What was written since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)
