"""Rows of several partitions in the query's own order: by Arrow where it orders as ClickHouse does."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from endpoints.errors import Unservable
from endpoints.query.bind import Bound
from endpoints.query.plan.conditions import ARROW_ORDER
from endpoints.query.plan.edits import quoted
from endpoints.query.plan.model import OrderKey
from endpoints.query.plan.reading import Run
from endpoints.types import Column, storage_schema
from endpoints.warehouse.protocol import Caps, Statement


class Merge:
    """Puts rows in the order of `keys`, then of all result columns: the first `width` of `columns`."""

    def __init__(
        self, columns: Sequence[Column], width: int, keys: Sequence[OrderKey], run: Run, bound: Bound
    ) -> None:
        self._columns, self._run, self._bound = tuple(columns), run, bound
        self._keys = _by_place(columns[:width], keys)

    def ordered(self, pieces: Sequence[pa.Table], timezone: str) -> pa.Table:
        """The rows of all pieces. Unservable where ClickHouse is needed and cannot."""
        if not pieces:
            return storage_schema(self._columns).empty_table()
        rows = pa.concat_tables(pieces)
        if not self._keys or rows.num_rows < 2:
            return rows
        if all(self._in_arrow(key) for key in self._keys):
            by = [
                (str(place), "descending" if desc else "ascending", "at_start" if first else "at_end")
                for place, desc, first in self._keys
            ]
            numbered = rows.rename_columns([str(place) for place in range(rows.num_columns)])
            return rows.take(pc.sort_indices(numbered, sort_keys=by))
        names = [quoted(column.name) for column in self._columns]
        order = ", ".join(
            f"{names[place]}{' DESC' * desc} NULLS {'FIRST' if nulls_first else 'LAST'}"
            for place, desc, nulls_first in self._keys
        )
        sql = f"SELECT {', '.join(names)} FROM __rows ORDER BY {order}"  # noqa: S608  (quoted)
        caps = Caps(timeout=self._bound.version.limits.timeout)
        return self._run(Statement(sql), self._columns, rows, timezone=timezone, caps=caps)[1]

    def _in_arrow(self, key: tuple[int, bool, bool]) -> bool:
        return self._columns[key[0]].type.base.name in ARROW_ORDER


def _by_place(result: Sequence[Column], keys: Sequence[OrderKey]) -> list[tuple[int, bool, bool]]:
    """(place, descending, NULLs first) of each column that orders, the query's own first."""
    names = [column.name for column in result]
    found = []
    for key in keys:
        if isinstance(key.column, str) and key.column not in names:
            raise Unservable(f"the result has no column {key.column}, by which it is ordered")
        place = names.index(key.column) if isinstance(key.column, str) else key.column
        found.append((place, key.descending, key.nulls_first))
    return found + [(place, False, False) for place in range(len(names))]
