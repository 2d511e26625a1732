"""What changed between two snapshots: columns, rows, and which rows, told by their keys.

Files of the same content are not read. Rows are compared as values, whatever files and partitions they are
in; those of both sides are held in memory, up to a limit, past which only columns and counts are told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from endpoints.lake.files import FileCache
from endpoints.lake.manifest import FileEntry, Manifest
from endpoints.parity import Row, rows_of
from endpoints.types import Column, json_values, storage_type

MOST_ROWS = 500_000
"""Rows of files that differ, of both sides together, that are compared."""


@dataclass(frozen=True, slots=True)
class ChangedRow:
    """A row that was `added`, `removed` or `changed`; by column, as JSON has the values."""

    change: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Changes:
    """From one snapshot to another. Columns by name with their types; rows counted where `compared`."""

    added_columns: dict[str, str]
    removed_columns: dict[str, str]
    changed_columns: dict[str, tuple[str, str]]
    rows: tuple[int, int]
    compared: bool
    added: int = 0
    removed: int = 0
    changed: int = 0
    sample: tuple[ChangedRow, ...] = ()

    @property
    def same(self) -> bool:
        """Nothing differs, and all was compared."""
        columns = (*self.added_columns, *self.removed_columns, *self.changed_columns)
        return self.compared and not columns and not (self.added or self.removed or self.changed)


def changes(
    before: Manifest, after: Manifest, files: FileCache, *, key: Sequence[str], sample: int
) -> Changes:
    """What changed. `key` names columns by which a row stays the same row; those that only one side has do
    not count, and without any, or where they are not unique, a changed row is one removed and one added.

    Raises Corrupt, MissingFile, StoreUnavailable.
    """
    was, now = _columns(before), _columns(after)
    common = [column for column in now.values() if was.get(column.name) == column]
    counts = (_rows(before.files), _rows(after.files))
    found = Changes(
        {name: str(c.type) for name, c in now.items() if name not in was},
        {name: str(c.type) for name, c in was.items() if name not in now},
        {n: (str(was[n].type), str(c.type)) for n, c in now.items() if n in was and was[n] != c},
        counts,
        compared=False,
    )
    old, new = _unshared(before, after, shared_only=len(common) == len(was) == len(now))
    if _rows(old) + _rows(new) > MOST_ROWS or not common:
        return found
    one, other = _read(before, old, common, files), _read(after, new, common, files)
    keys = [at for at, column in enumerate(common) if column.name in key]
    moves = _Moves(one - other, other - one, keys)
    shown = tuple(moves.sample(common, after.server.timezone, sample))
    return Changes(
        found.added_columns,
        found.removed_columns,
        found.changed_columns,
        counts,
        True,
        moves.added.total(),
        moves.removed.total(),
        len(moves.changed),
        shown,
    )


class _Moves:
    """Rows that only one side has; those whose key both sides have once have changed."""

    def __init__(self, gone: Counter[Row], come: Counter[Row], key: Sequence[int]) -> None:
        self.removed, self.added = gone, come
        self.changed: list[tuple[Row, Row]] = []
        if not key:
            return
        before, after = _by_key(gone, key), _by_key(come, key)
        for name in [name for name in before if name in after]:
            one, other = before[name], after[name]
            if len(one) == len(other) == 1:
                self.changed.append((one[0], other[0]))
                del gone[one[0]], come[other[0]]

    def sample(self, columns: Sequence[Column], timezone: str, wanted: int) -> Iterator[ChangedRow]:
        """A few of each kind."""

        def shown(row: Row) -> dict[str, Any]:
            return {c.name: _value(v, c, timezone) for c, v in zip(columns, row, strict=True)}

        yield from (ChangedRow("changed", shown(a), shown(b)) for a, b in self.changed[:wanted])
        yield from (ChangedRow("removed", shown(row), None) for row in list(self.removed)[:wanted])
        yield from (ChangedRow("added", None, shown(row)) for row in list(self.added)[:wanted])


def _by_key(rows: Counter[Row], key: Sequence[int]) -> dict[Row, list[Row]]:
    found: dict[Row, list[Row]] = {}
    for row in rows.elements():
        found.setdefault(tuple(row[at] for at in key), []).append(row)
    return found


def _columns(manifest: Manifest) -> dict[str, Column]:
    """The columns of the newest partition: those before may be of another definition."""
    entries = sorted(manifest.partitions.values(), key=lambda entry: entry.snapshot)
    return {column.name: column for column in entries[-1].columns} if entries else {}


def _unshared(
    before: Manifest, after: Manifest, *, shared_only: bool
) -> tuple[list[FileEntry], list[FileEntry]]:
    """The files of each side that the other has not; all of them where columns differ."""
    if not shared_only:
        return list(before.files), list(after.files)
    one, other = Counter(f.checksum for f in before.files), Counter(f.checksum for f in after.files)
    return (
        [file for file in before.files if file.checksum not in other],
        [file for file in after.files if file.checksum not in one],
    )


def _rows(files: Iterable[FileEntry]) -> int:
    return sum(file.rows for file in files)


def _read(
    manifest: Manifest, entries: Sequence[FileEntry], columns: Sequence[Column], files: FileCache
) -> Counter[Row]:
    names = [column.name for column in columns]
    found = Counter[Row]()
    for entry in entries:
        table = pq.read_table(files.local(manifest.endpoint, manifest.version, entry), columns=names)
        found.update(map(_hashable, rows_of(table.select(names))))
    return found


def _hashable(value: Any) -> Any:
    """Lists and mappings as tuples."""
    if isinstance(value, list | tuple):
        return tuple(map(_hashable, value))
    return tuple((key, _hashable(item)) for key, item in value.items()) if isinstance(value, dict) else value


def _value(value: Any, column: Column, timezone: str) -> Any:
    """A stored value as JSON has it. Times are numbers here (`parity.rows_of`)."""
    stored = storage_type(column.type)
    given = pa.int64() if pa.types.is_timestamp(stored) else stored
    return json_values(pa.array([value], given).cast(stored), column.type, timezone=timezone)[0]
