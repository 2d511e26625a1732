"""Row groups of published files: found by their statistics, decoded once, kept within a budget of bytes.

An asset's rows are sorted by its seek dimensions across all its files. One key's rows are then a few
neighbouring row groups, and in each a slice that a binary search finds.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from endpoints.errors import Corrupt
from endpoints.packing import NUMBERS, pack, unpack

Bounds = tuple[Any, Any] | None
Load = Callable[[], Path]
K = TypeVar("K")
V = TypeVar("V")
_LOCKS = 64
_FOOTER_SHARE = 8  # of the budget, one part in
_FOOTER_WEIGHT = 6  # bytes in memory for one in the file, about


@dataclass(frozen=True, slots=True)
class Sought:
    """`column = value` on a seek dimension of that storage type. `key` is the value as `comparable` gives it;
    `ordered`: Arrow's order of the storage form is ClickHouse's.
    """

    column: str
    key: Any
    type: pa.DataType
    ordered: bool

    @property
    def value(self) -> pa.Scalar:
        """The value in storage form."""
        as_number = NUMBERS.get(self.type.id)
        return pa.scalar(self.key, as_number or self.type).cast(self.type)

    def passes(self, bounds: Bounds) -> bool:
        """Whether the value may be between the bounds."""
        return not self.ordered or _within(bounds, self.key)


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

    `bounds` holds, per column that is sought or compared, one pair for each row group; `extremes` holds the
    least and the greatest of all, of columns where every row group has them. `coded` names the columns
    that decode to dictionaries: a third of the time, and of the memory, of as many strings.
    """

    metadata: pq.FileMetaData
    schema: pa.Schema
    groups: tuple[Group, ...]
    bounds: Mapping[str, tuple[Bounds, ...]]
    extremes: Mapping[str, tuple[list[Any], list[Any]]]
    coded: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """About what this takes in memory."""
        return int(self.metadata.serialized_size) * _FOOTER_WEIGHT

    def seek(self, sought: Sequence[Sought], compared: Sequence[Compared] = ()) -> Iterator[Group]:
        """The row groups that may hold rows of the key that pass what is compared, in their order."""
        wanted: tuple[Sought | Compared, ...] = (*sought, *compared)
        asked = [(self.bounds[one.column], one) for one in wanted]
        for index in self._first(sought):
            if all(one.passes(bounds[index]) for bounds, one in asked):
                yield self.groups[index]

    def _first(self, sought: Sequence[Sought]) -> range:
        """The row groups among which the first dimension's value is: rows are sorted by it."""
        extremes = self.extremes.get(sought[0].column) if sought and sought[0].ordered else None
        if extremes is None:
            return range(len(self.groups))
        least, greatest = extremes
        return range(bisect_left(greatest, sought[0].key), bisect_right(least, sought[0].key))


def _within(bounds: Bounds, key: Any) -> bool:
    return bounds is None or bool(bounds[0] <= key <= bounds[1])


class RowGroups:
    """Footers and decoded row groups of immutable files, the least recently used dropped past `budget` bytes.
    Thread-safe.
    """

    def __init__(self, budget: int) -> None:
        self._lock = threading.Lock()
        self._decoding = [threading.Lock() for _ in range(_LOCKS)]
        self._footers = _Recent[tuple[str, tuple[str, ...]], Footer](budget // _FOOTER_SHARE)
        self._tables = _Recent[tuple[str, int], _Decoded](budget - budget // _FOOTER_SHARE)

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
        self,
        footer: Footer,
        group: Group,
        sought: Sequence[Sought],
        load: Load,
        *,
        keep: bool = True,
        packed: bool = False,
    ) -> pa.Table:
        """The rows of a row group that hold the key, in storage form or `packed`; `keep`: for other reads as
        well.
        """
        rows = self._decoded(footer, group, load, keep).seek(sought)
        return rows if packed else unpack(rows, footer.schema)

    def _decoded(self, footer: Footer, group: Group, load: Load, keep: bool) -> _Decoded:
        """All columns of a row group; those that stay in memory are packed."""
        key = (group.file, group.index)
        if (known := self._known(key)) is not None:
            return known
        if not keep:
            return _Decoded(_decode(footer, group, load()))
        path = load()
        with self._decoding[hash(key) % _LOCKS]:  # whoever wants the same waits for it
            if (known := self._known(key)) is None:
                known = _Decoded(pack(_decode(footer, group, path)))
                with self._lock:
                    self._tables.put(key, known, known.table.nbytes)
            return known

    def _known(self, key: tuple[str, int]) -> _Decoded | None:
        with self._lock:
            return self._tables.get(key)


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


@dataclass(slots=True)
class _Decoded:
    """A row group's rows, and what has been searched in them. `table` has one chunk per column."""

    table: pa.Table
    searched: dict[str, _Searched] = field(default_factory=dict)

    def seek(self, sought: Sequence[Sought]) -> pa.Table:
        """The rows that hold the key: a slice, as long as the dimensions are ordered."""
        low, high = 0, self.table.num_rows
        for at, one in enumerate(sought):
            if not one.ordered:
                return _filter(self.table.slice(low, high - low), sought[at:])
            low, high = self._column(one.column).span(one.key, low, high)
            if low == high:
                break
        return self.table.slice(low, high - low)

    def _column(self, name: str) -> _Searched:
        found = self.searched.get(name)
        if found is None:
            found = self.searched[name] = _searched(self.table.column(name))
        return found


@dataclass(frozen=True, slots=True)
class _Searched:
    """A column as Python compares its values. `places` are those of a column that is sorted as a whole and
    dictionary-coded: they ascend with the values, of which `values` holds each once.
    """

    values: Sequence[Any]
    places: Sequence[int] | None = None

    def span(self, key: Any, low: int, high: int) -> tuple[int, int]:
        """From where to where, between `low` and `high`, the key stands; those rows are sorted."""
        values = self.values
        if self.places is not None:
            place = bisect_left(values, key)
            if place == len(values) or values[place] != key:
                return low, low
            values, key = self.places, place
        low = bisect_left(values, key, low, high)
        return low, bisect_right(values, key, low, high)


def _searched(column: pa.ChunkedArray) -> _Searched:
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if array.null_count:
        return _Searched(_Values(array))
    if pa.types.is_dictionary(array.type):
        places, values = array.indices.to_numpy(), array.dictionary
        in_order = pc.all(pc.less(values[:-1], values[1:])).as_py()  # None of one value or none
        if in_order is not False and (places[:-1] <= places[1:]).all():
            return _Searched(_Values(values), memoryview(places))
    as_number = NUMBERS.get(array.type.id, array.type)
    if pa.types.is_integer(as_number):
        return _Searched(memoryview(array.view(as_number).to_numpy()))
    return _Searched(_Values(array))


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
    """Values as Python compares them, one at a time: a search looks at a few only."""

    def __init__(self, array: pa.Array) -> None:
        self._array = array.view(NUMBERS.get(array.type.id, array.type))

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, index: Any) -> Any:
        value = self._array[index].as_py()
        return _LAST if value is None else value


def comparable(value: pa.Scalar) -> Any:
    """A value as statistics and `_Values` give it: days and instants as numbers, which keep nanoseconds."""
    return value.value if value.type.id in NUMBERS else value.as_py()


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
    bounds = {name: [_bounds(group.column(place)) for group in groups] for name, place in places.items()}
    return Footer(
        metadata,
        schema,
        tuple(Group(file, index, group.num_rows) for index, group in enumerate(groups)),
        {name: tuple(pairs) for name, pairs in bounds.items()},
        {name: found for name, pairs in bounds.items() if (found := _extremes(pairs)) is not None},
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


def _extremes(bounds: Sequence[Bounds]) -> tuple[list[Any], list[Any]] | None:
    """The least values of all row groups, and the greatest; None where one is unknown."""
    known = [pair for pair in bounds if pair is not None]
    if len(known) < len(bounds):
        return None
    return [least for least, _ in known], [greatest for _, greatest in known]


def _decode(footer: Footer, group: Group, path: Path) -> pa.Table:
    try:
        with pq.ParquetFile(
            path, metadata=footer.metadata, memory_map=True, read_dictionary=footer.coded
        ) as file:
            return file.read_row_group(group.index, use_threads=False).combine_chunks()
    except (pa.ArrowException, OSError) as error:
        raise Corrupt(group.file, f"cannot be decoded: {error}") from error
