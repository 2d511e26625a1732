"""Row groups of published files: found by their statistics, decoded once, kept within a budget of bytes.

An asset's rows are sorted by its seek dimensions across all its files. One key's rows are then a few
neighbouring row groups, and in each a slice that a binary search finds.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from endpoints.errors import Corrupt

Bounds = tuple[Any, Any] | None
Load = Callable[[], Path]
_FOOTERS = 10_000


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
class Group:
    """One row group: its place, its rows, and the least and greatest value of each seek dimension."""

    file: str
    index: int
    rows: int
    bounds: tuple[Bounds, ...]


class RowGroups:
    """Decoded row groups of immutable files, the least recently used dropped past `budget` bytes.
    Thread-safe.
    """

    def __init__(self, budget: int) -> None:
        self._budget, self._used = budget, 0
        self._lock = threading.Lock()
        self._tables: OrderedDict[tuple[str, int], pa.Table] = OrderedDict()
        self._footers: OrderedDict[tuple[str, tuple[str, ...]], tuple[Group, ...]] = OrderedDict()

    def groups(self, file: str, seek: tuple[str, ...], load: Load) -> tuple[Group, ...]:
        """The row groups of a file, with bounds of the `seek` columns; read from its footer once."""
        key = (file, seek)
        with self._lock:
            if (known := self._footers.get(key)) is not None:
                self._footers.move_to_end(key)
                return known
        found = _read_footer(file, seek, load())
        with self._lock:
            self._footers[key] = found
            while len(self._footers) > _FOOTERS:
                self._footers.popitem(last=False)
        return found

    def table(self, group: Group, load: Load) -> pa.Table:
        """All columns of a row group, each in one chunk."""
        key = (group.file, group.index)
        with self._lock:
            if (known := self._tables.get(key)) is not None:
                self._tables.move_to_end(key)
                return known
        table = _decode(group, load())
        with self._lock:
            if key not in self._tables and table.nbytes <= self._budget:
                self._tables[key] = table
                self._used += table.nbytes
            while self._used > self._budget:
                _, dropped = self._tables.popitem(last=False)
                self._used -= dropped.nbytes
        return table


def seek_groups(groups: Sequence[Group], sought: Sequence[Sought]) -> Iterator[Group]:
    """The row groups that may hold the key."""
    keys = [(at, s.key) for at, s in enumerate(sought) if s.ordered]
    for group in groups:
        if all(_within(group.bounds[at], key) for at, key in keys):
            yield group


def _within(bounds: Bounds, key: Any) -> bool:
    return bounds is None or bool(bounds[0] <= key <= bounds[1])


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
        self._array = array.view(pa.int64()) if pa.types.is_timestamp(array.type) else array

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, index: Any) -> Any:
        value = self._array[index].as_py()
        return _LAST if value is None else value


def comparable(value: pa.Scalar) -> Any:
    """A value as statistics and `_Values` give it: instants as numbers, which keep nanoseconds."""
    return value.value if pa.types.is_timestamp(value.type) else value.as_py()


def _filter(table: pa.Table, sought: Sequence[Sought]) -> pa.Table:
    for one in sought:
        table = table.filter(pc.equal(table.column(one.column), one.value))
    return table


def _read_footer(file: str, seek: tuple[str, ...], path: Path) -> tuple[Group, ...]:
    try:
        metadata = pq.read_metadata(path)
    except (pa.ArrowException, OSError) as error:
        raise Corrupt(file, f"has no readable footer: {error}") from error
    names = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    if not set(seek) <= set(names):
        raise Corrupt(file, f"lacks one of the columns {', '.join(seek)}")
    places = [names.index(name) for name in seek]
    return tuple(
        Group(
            file,
            index,
            metadata.row_group(index).num_rows,
            tuple(_bounds(metadata.row_group(index).column(place)) for place in places),
        )
        for index in range(metadata.num_row_groups)
    )


def _bounds(chunk: Any) -> Bounds:
    """Least and greatest value in a column chunk, NULLs apart; None where unknown."""
    statistics = chunk.statistics
    if statistics is None or not statistics.has_min_max:
        return None
    if statistics.logical_type.type == "TIMESTAMP":
        return statistics.min_raw, statistics.max_raw
    return statistics.min, statistics.max


def _decode(group: Group, path: Path) -> pa.Table:
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            return file.read_row_group(group.index, use_threads=False).combine_chunks()
    except (pa.ArrowException, OSError) as error:
        raise Corrupt(group.file, f"cannot be decoded: {error}") from error
