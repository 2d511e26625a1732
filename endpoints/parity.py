"""Parity: whether two answers are the same, to the last bit of every value but floats.

One truth for the tests that compare assets with live queries and for the check of every new asset.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import pyarrow as pa

from endpoints.rows import Rows

FLOATS = 1e-9
"""Relative: sums of floats depend on the order in which ClickHouse adds."""

Row = tuple[Any, ...]
_SHOWN = 5


def difference(
    asset: Rows, live: Rows, *, floats: float = 0.0, ordered: bool = True, without: Collection[int] = ()
) -> str | None:
    """What is not the same: names, types, rows, order, whether rows follow. None where nothing is.

    `floats` is the relative difference that they may have; 0 tells -0.0 from 0.0 as well. `ordered=False`
    compares rows in any order. `without` are places of columns whose values are not compared.
    """
    if asset.columns != live.columns:
        return f"columns {_named(asset)} are not {_named(live)}"
    one, other = rows_of(asset.table, without), rows_of(live.table, without)
    if not _same_rows(one, other, floats, ordered):
        at = _first_difference(one, other, floats)
        shown = f"from row {at} on: asset {one[at : at + _SHOWN]} ({len(one)} rows)"
        return f"{shown}, live {other[at : at + _SHOWN]} ({len(other)} rows)"
    return None if asset.has_more == live.has_more else f"has_more is {asset.has_more}"


def rows_of(table: pa.Table, without: Collection[int] = ()) -> list[Row]:
    """The rows as Python values, instants as their numbers; columns of one name are all kept."""
    columns = [_values(column) for at, column in enumerate(table.columns) if at not in without]
    return list(zip(*columns, strict=True)) if columns else [()] * table.num_rows


def _named(rows: Rows) -> str:
    return ", ".join(f"{column.name} {column.type}" for column in rows.columns)


def _values(column: pa.ChunkedArray) -> list[Any]:
    # as_py() of a timestamp has microseconds at best.
    values: list[Any] = (
        column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
    ).to_pylist()
    return values


def _same_rows(one: Sequence[Row], other: Sequence[Row], floats: float, ordered: bool) -> bool:
    if len(one) != len(other):
        return False
    if all(_same(a, b, floats) for a, b in zip(one, other, strict=True)):
        return True
    if ordered and not (floats and any(isinstance(value, float) for row in one for value in row)):
        return False
    # Rows that tie but for the last bits of a float may stand either way round.
    pairs = zip(sorted(one, key=_floats_last), sorted(other, key=_floats_last), strict=True)
    return all(_same(a, b, floats) for a, b in pairs)


def _first_difference(one: Sequence[Row], other: Sequence[Row], floats: float) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if not _same(a, b, floats)), min(len(one), len(other)))


def _floats_last(row: Row) -> tuple[list[str], list[float]]:
    floats = [value for value in row if isinstance(value, float)]
    return [repr(value) for value in row if not isinstance(value, float)], floats


def _same(one: Any, other: Any, floats: float) -> bool:
    """Values that print the same are the same: NaN is NaN, -0.0 is not 0.0, 1 is not True."""
    if floats and isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=floats) or repr(one) == repr(other)
    if isinstance(one, list | tuple) and type(one) is type(other):
        return len(one) == len(other) and all(_same(a, b, floats) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict) and isinstance(other, dict):
        return _same(list(one.items()), list(other.items()), floats)
    return repr(one) == repr(other)
