"""Tables in as few bytes as their values need: how rows stay in memory.

A row group's counts are small and its texts few, so that a budget of memory holds several times as many rows.
Few of them are ever unpacked: those of one answer, and where that is JSON or CSV not even those.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

NUMBERS = {  # what is a number underneath, and which
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


def pack(table: pa.Table) -> pa.Table:
    """The same values: whole numbers, days, and places in a dictionary in the narrowest type that holds them.

    Columns of one chunk are packed; whatever else there is stays as it is.
    """
    columns = [_packed(column) for column in table.columns]
    return pa.Table.from_arrays(columns, names=table.column_names)


def unpack(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The values in the types of `schema`, those that they had before they were packed."""
    if table.schema.equals(schema):
        return table
    columns = [
        column if column.type.equals(field.type) else _unpacked(column, field.type)
        for column, field in zip(table.columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _packed(column: pa.ChunkedArray) -> pa.ChunkedArray:
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
    """Whole numbers in the narrowest type that holds them all.

    By numpy where there is no NULL: Arrow lets go of the interpreter for each step, and where others are busy
    waits for it longer than a step takes.
    """
    if not len(array):
        return array
    if array.null_count:
        extremes = pc.min_max(array)
        found = _narrowest(array.type, extremes["min"].as_py(), extremes["max"].as_py())
        return array if found is array.type else array.cast(found)
    numbers = array.to_numpy()
    found = _narrowest(array.type, int(numbers.min()), int(numbers.max()))
    return array if found is array.type else pa.array(numbers.astype(found.to_pandas_dtype()))


def _narrowest(own: pa.DataType, least: int | None, greatest: int | None) -> pa.DataType:
    """The narrowest type that holds both; `own` where none is narrower."""
    if least is None or greatest is None:
        return own
    candidates = (type_ for type_, low, high in _WHOLE if low <= least and greatest <= high)
    found = next(candidates, own)
    return found if found.bit_width < own.bit_width else own


def _unpacked(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([_widened(chunk, wanted) for chunk in column.chunks], wanted)


def _widened(chunk: pa.Array, wanted: pa.DataType) -> pa.Array:
    """One chunk in the wanted type. `cast` says the same, and takes several times as long for a few rows."""
    if pa.types.is_dictionary(chunk.type):
        return chunk.dictionary_decode() if chunk.type.value_type.equals(wanted) else chunk.cast(wanted)
    as_number = NUMBERS.get(wanted.id, wanted)
    if chunk.null_count:
        return chunk.cast(as_number).view(wanted)
    values = pa.array(chunk.to_numpy().astype(as_number.to_pandas_dtype()))
    return values if as_number is wanted else values.view(wanted)
