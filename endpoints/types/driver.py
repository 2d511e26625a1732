"""What clickhouse-driver 0.2.11 has to be told, or cannot do, to give a column's exact values in Arrow.

It knows most types. For tuples, geometries and wide integers it guesses an Arrow type from the first row,
which is wrong; then it takes Python objects for any type that it is told, in `arrow_types`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from endpoints.errors import UnsupportedType
from endpoints.types.columns import storage_type
from endpoints.types.grammar import ClickHouseType, Column, identifier

_WIDE = ("Int128", "UInt128", "Int256", "UInt256")


def driver_type(column: Column) -> pa.DataType | None:
    """The Arrow type to name in `arrow_types`; None where the driver's own is right.

    `to_storage` makes storage form of either. `UnsupportedType`, with the way out, for what it would
    read wrongly.
    """
    parts = list(_parts(column.type))
    guessed = any(part.base.name in ("Tuple", *_WIDE) for part in parts)
    for part in parts:
        if why := _misread(part, column.type, guessed):
            way_out = f"{why}: select toJSONString({identifier(column.name)}) instead."
            raise UnsupportedType(column.type.text, column.name, f"The native protocol's driver {way_out}")
    return _told(column.type) if guessed else None


def _misread(part: ClickHouseType, whole: ClickHouseType, guessed: bool) -> str | None:
    if part.nullable and part.base.name == "Tuple":
        return "mixes up the elements of a Tuple that may be NULL"
    if part.base.name == "IPv6" and guessed:
        return "cannot read IPv6 beside a Tuple or a wide integer"
    if part.base.name == "DateTime64" and part.base.numbers[0] > 6 and whole.base != part.base:
        return "rounds nanoseconds inside other types"
    return None


def _told(t: ClickHouseType) -> pa.DataType:
    base = t.base
    if base.name == "Array":
        return pa.list_(_told(base.inner))
    if base.name == "Tuple":
        return pa.struct([(e.name or str(i), _told(e.type)) for i, e in enumerate(base.elements, 1)])
    if base.name == "Map":
        key, value = base.key_and_value
        return pa.map_(_told(key), _told(value))
    if base.name in _WIDE:
        # Of Arrow's types the one that takes Python's large ints; past 76 digits it is an error.
        return pa.decimal256(76, 0)
    return storage_type(base)


def _parts(t: ClickHouseType) -> Iterator[ClickHouseType]:
    yield t
    for part in t.base.parts:
        yield from _parts(part)
