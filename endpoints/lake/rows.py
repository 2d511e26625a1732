"""Row groups of published files: found by their statistics, decoded once, kept within a budget of bytes.

An asset's rows are sorted by its seek dimensions across all its files. One key's rows are then a few
neighbouring row groups, and in each a slice that a binary search finds.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from endpoints.errors import Corrupt

Bounds = tuple[Any, Any] | None
Load = Callable[[], Path]
K = TypeVar("K")
V = TypeVar("V")
_NUMBERS = {  # what is compared as a number, and as which
    **{pa.timestamp(unit).id: pa.int64() for unit in ("s", "ms", "us", "ns")},
    pa.date32().id: pa.int32(),
}
_WHOLE = [
    (pa.uint8(), 0, 2**8 - 1),
    (pa.int8(), -(2**7), 2**7 - 1),
    (pa.uint16(), 0, 2**16 - 1),
    (pa.int16(), -(2**15), 2**15 - 1),
    (pa.uint32(), 0, 2**32 - 1),
    (pa.int32(), -(2**31), 2**31 - 1),
]
_FOOTER_SHARE = 8  # of the budget, one part in
_FOOTER_WEIGHT = 6  # bytes in memory for one in the file, about


@dataclass(frozen=True, slots=True)
class Sought:
    """`column = value` on a seek dimension. `ordered`: Arrow's order of the storage form is ClickHouse's."""

    column: str
    value: pa.Scalar
    ordered: bool

    @property
    def key(self) -> Any:
        return comparable(self.value)


@dataclass(frozen=True, slots=True)
class Compared:
    """`column operator value`, which every row of the answer passes, in a type of ClickHouse's own order."""

    column: str
    operator: str
    value: pa.Scalar

    def passes(self, bounds: Bounds) -> bool:
        """Whether some value between the bounds may pass; NULL never does."""
        if bounds is None:
            return True
        key, (least, greatest) = comparable(self.value), bounds
        match self.operator:
            case "<":
                return bool(least < key)
            case "<=":
                return bool(least <= key)
            case ">":
                return bool(greatest > key)
            case ">=":
                return bool(greatest >= key)
            case _:
                return _within(bounds, key)


@dataclass(frozen=True, slots=True)
class Group:
    """One row group: its file, its place in it, its rows."""

    file: str
    index: int
    rows: int


@dataclass(frozen=True, slots=True)
class Footer:
    """What a file says of itself: how to decode it, and the least and greatest values of each row group.

    `bounds` holds, per column that is sought or compared, one pair for each row group. `coded` names the
    columns that decode to dictionaries: a third of the time, and of the memory, of as many strings.
    """

    metadata: pq.FileMetaData
    schema: pa.Schema
    groups: tuple[Group, ...]
    bounds: Mapping[str, tuple[Bounds, ...]]
    coded: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """About what this takes in memory."""
        return int(self.metadata.serialized_size) * _FOOTER_WEIGHT

    def seek(self, sought: Sequence[Sought], compared: Sequence[Compared] = ()) -> Iterator[Group]:
        """The row groups that may hold rows of the key that pass what is compared, in their order."""
        keys = [Compared(one.column, "=", one.value) for one in sought if one.ordered]
        asked = [(self.bounds[one.column], one) for one in (*keys, *compared)]
        for index in self._first(sought):
            if all(one.passes(bounds[index]) for bounds, one in asked):
                yield self.groups[index]

    def _first(self, sought: Sequence[Sought]) -> range:
        """The row groups among which the first dimension's value is: rows are sorted by it."""
        everything = range(len(self.groups))
        if not sought or not sought[0].ordered or None in self.bounds[sought[0].column]:
            return everything
        bounds, key = self.bounds[sought[0].column], sought[0].key
        return range(
            bisect_left(everything, key, key=lambda index: bounds[index][1]),  # type: ignore[index]
            bisect_right(everything, key, key=lambda index: bounds[index][0]),  # type: ignore[index]
        )


def _within(bounds: Bounds, key: Any) -> bool:
    return bounds is None or bool(bounds[0] <= key <= bounds[1])


class RowGroups:
    """Footers and decoded row groups of immutable files, the least recently used dropped past `budget` bytes.
    Thread-safe.
    """

    def __init__(self, budget: int) -> None:
        self._lock = threading.Lock()
        self._footers = _Recent[tuple[str, tuple[str, ...]], Footer](budget // _FOOTER_SHARE)
        self._tables = _Recent[tuple[str, int], pa.Table](budget - budget // _FOOTER_SHARE)

    @property
    def decoded(self) -> int:
        """How many row groups are in memory."""
        with self._lock:
            return len(self._tables)

    @property
    def held_bytes(self) -> int:
        """What all that is in memory takes."""
        with self._lock:
            return self._footers.held_bytes + self._tables.held_bytes

    def footer(self, file: str, bounded: tuple[str, ...], load: Load) -> Footer:
        """The footer of a file, with bounds of the `bounded` columns; read once."""
        with self._lock:
            if (known := self._footers.get((file, bounded))) is not None:
                return known
        found = _read_footer(file, bounded, load())
        with self._lock:
            self._footers.put((file, bounded), found, found.nbytes)
        return found

    def rows(
        self, footer: Footer, group: Group, sought: Sequence[Sought], load: Load, *, keep: bool = True
    ) -> pa.Table:
        """The rows of a row group that hold the key, in storage form; `keep`: for other reads as well."""
        return _plain(seek_rows(self._table(footer, group, load, keep), sought), footer.schema)

    def _table(self, footer: Footer, group: Group, load: Load, keep: bool) -> pa.Table:
        """All columns of a row group, each in one chunk; those that stay in memory are narrowed."""
        key = (group.file, group.index)
        with self._lock:
            if (known := self._tables.get(key)) is not None:
                return known
        table = _decode(footer, group, load())
        if not keep:
            return table
        table = narrow(table)
        with self._lock:
            self._tables.put(key, table, table.nbytes)
        return table


class _Recent(Generic[K, V]):
    """Values up to `budget` bytes, the least recently used dropped first; one that is larger is not kept."""

    def __init__(self, budget: int) -> None:
        self._budget, self.held_bytes = budget, 0
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> V | None:
        found = self._values.get(key)
        if found is None:
            return None
        self._values.move_to_end(key)
        return found[0]

    def put(self, key: K, value: V, size: int) -> None:
        if key in self._values or size > self._budget:
            return
        self._values[key] = (value, size)
        self.held_bytes += size
        while self.held_bytes > self._budget:
            _, (_, dropped) = self._values.popitem(last=False)
            self.held_bytes -= dropped


def seek_rows(table: pa.Table, sought: Sequence[Sought]) -> pa.Table:
    """The rows of a sorted table that hold the key: a slice, as long as the dimensions are ordered."""
    low, high = 0, table.num_rows
    for at, one in enumerate(sought):
        if not one.ordered:
            return _filter(table.slice(low, high - low), sought[at:])
        values = _Values(table.column(one.column))
        low, high = bisect_left(values, one.key, low, high), bisect_right(values, one.key, low, high)
        if low == high:
            break
    return table.slice(low, high - low)


class _Last:
    """NULL in the order of ClickHouse's ORDER BY: behind every value."""

    def __lt__(self, other: object) -> bool:
        return False

    def __gt__(self, other: object) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return other is self

    __hash__ = object.__hash__


_LAST = _Last()


class _Values(Sequence[Any]):
    """A column's values as Python compares them, one at a time: a search looks at a few only."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        as_number = _NUMBERS.get(array.type.id)
        self._array = array if as_number is None else array.view(as_number)

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, index: Any) -> Any:
        value = self._array[index].as_py()
        return _LAST if value is None else value


def comparable(value: pa.Scalar) -> Any:
    """A value as statistics and `_Values` give it: days and instants as numbers, which keep nanoseconds."""
    return value.value if value.type.id in _NUMBERS else value.as_py()


def _filter(table: pa.Table, sought: Sequence[Sought]) -> pa.Table:
    for one in sought:
        table = table.filter(pc.equal(table.column(one.column), one.value))
    return table


def _read_footer(file: str, bounded: tuple[str, ...], path: Path) -> Footer:
    try:
        metadata = pq.read_metadata(path)
        schema = metadata.schema.to_arrow_schema()
    except (pa.ArrowException, OSError) as error:
        raise Corrupt(file, f"has no readable footer: {error}") from error
    names = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    if not set(bounded) <= set(names):
        raise Corrupt(file, f"lacks one of the columns {', '.join(bounded)}")
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    places = {name: names.index(name) for name in bounded}
    texts = [field.name for field in schema if field.type in (pa.binary(), pa.string())]
    return Footer(
        metadata,
        schema,
        tuple(Group(file, index, group.num_rows) for index, group in enumerate(groups)),
        {name: tuple(_bounds(group.column(place)) for group in groups) for name, place in places.items()},
        tuple(name for name in texts if _is_coded([group.column(names.index(name)) for group in groups])),
    )


def _is_coded(chunks: Sequence[Any]) -> bool:
    """Whether a column of byte strings is dictionary-coded: plain values take four bytes each, and more."""
    size, values = sum(c.total_uncompressed_size for c in chunks), sum(c.num_values for c in chunks)
    return bool(size < 4 * values)


def _bounds(chunk: Any) -> Bounds:
    """Least and greatest value in a column chunk, NULLs apart; None where unknown."""
    statistics = chunk.statistics
    if statistics is None or not statistics.has_min_max:
        return None
    if statistics.logical_type.type in ("TIMESTAMP", "DATE"):
        return statistics.min_raw, statistics.max_raw
    return statistics.min, statistics.max


def _decode(footer: Footer, group: Group, path: Path) -> pa.Table:
    try:
        with pq.ParquetFile(
            path, metadata=footer.metadata, memory_map=True, read_dictionary=footer.coded
        ) as file:
            return file.read_row_group(group.index, use_threads=False).combine_chunks()
    except (pa.ArrowException, OSError) as error:
        raise Corrupt(group.file, f"cannot be decoded: {error}") from error


def _plain(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows in the file's own schema: dictionaries become values."""
    if rows.schema.equals(schema):
        return rows
    columns = [
        column if column.type.equals(field.type) else _decoded(column, field.type)
        for column, field in zip(rows.columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _decoded(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    """The values of a column as the file has them."""
    return pa.chunked_array([_widened(chunk, wanted) for chunk in column.chunks], wanted)


def _widened(chunk: pa.Array, wanted: pa.DataType) -> pa.Array:
    """One chunk in the wanted type. `cast` says the same, and takes several times as long for a few rows."""
    if pa.types.is_dictionary(chunk.type):
        return chunk.dictionary_decode() if chunk.type.value_type.equals(wanted) else chunk.cast(wanted)
    as_number = _NUMBERS.get(wanted.id, wanted)
    if chunk.null_count:
        return chunk.cast(as_number).view(wanted)
    values = pa.array(chunk.to_numpy().astype(as_number.to_pandas_dtype()))
    return values if as_number is wanted else values.view(wanted)


def narrow(table: pa.Table) -> pa.Table:
    """The same values in as few bytes as they need here: whole numbers, days, and places in a dictionary.

    A row group's counts are small and its texts few, so that a budget of memory holds several times as many
    rows. Few of them are ever widened again: those of one answer.
    """
    columns = [_narrowed(column) for column in table.columns]
    return pa.Table.from_arrays(columns, names=table.column_names)


def _narrowed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if column.num_chunks != 1:
        return column
    array = column.chunk(0)
    if pa.types.is_dictionary(array.type):
        return pa.chunked_array([pa.DictionaryArray.from_arrays(_fitting(array.indices), array.dictionary)])
    if pa.types.is_integer(array.type):
        return pa.chunked_array([_fitting(array)])
    if pa.types.is_date32(array.type):
        return pa.chunked_array([_fitting(array.view(pa.int32()))])
    return column


def _fitting(array: pa.Array) -> pa.Array:
    """Whole numbers in the narrowest type that holds them all."""
    extremes = pc.min_max(array)
    least, greatest = extremes["min"].as_py(), extremes["max"].as_py()
    if least is None:
        return array
    candidates = (type_ for type_, low, high in _WHOLE if low <= least and greatest <= high)
    found = next(candidates, array.type)
    return array.cast(found) if found.bit_width < array.type.bit_width else array
