"""Columns in the table's terms: their storage form in Arrow, and what callers see of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl
import pyarrow as pa

from endpoints.errors import BadQuery, UnsupportedType
from endpoints.types.family import Form, Integers, decoded, family_of, known
from endpoints.types.grammar import ClickHouseType, Column, identifier
from endpoints.types.refused import refusal


def check_storable(columns: Iterable[Column]) -> None:
    """Every column has an exact form here; otherwise `UnsupportedType` naming the column and the way out.

    Names must differ as well, as they do in Parquet and in JSON objects: else `BadQuery`.
    """
    names = set()
    for column in columns:
        _check_column(column, column.type)
        if column.name in names:
            raise BadQuery(f"two columns are named {column.name!r}: give each a name of its own with AS")
        names.add(column.name)


@lru_cache(maxsize=4096)
def storage_type(t: ClickHouseType) -> pa.DataType:
    """The Arrow type of a column of type `t` in Parquet, in memory, everywhere after the warehouse."""
    return family_of(t).storage(t.base)


def storage_field(name: str, t: ClickHouseType) -> pa.Field:
    """A column, or a part of one, in its storage form."""
    return pa.field(name, storage_type(t), nullable=t.nullable)


def storage_schema(columns: Iterable[Column]) -> pa.Schema:
    """The Arrow schema of `columns` in storage form."""
    return _storage_schema(tuple(columns))


@lru_cache(maxsize=1024)
def _storage_schema(columns: tuple[Column, ...]) -> pa.Schema:
    return pa.schema([storage_field(column.name, column.type) for column in columns])


def to_storage(array: pa.Array, t: ClickHouseType) -> pa.Array:
    """`array` in storage form.

    Takes what chDB's Arrow output, clickhouse-driver's Arrow stream, a Parquet file of ClickHouse's
    or Polars gives for type `t`, and what is in storage form already. Times without a zone are UTC.
    """
    wanted = storage_type(t)
    if array.type.equals(wanted):
        return array
    return family_of(t).store(decoded(array), t.base)


def structure(columns: Iterable[Column]) -> str:
    """The columns as ClickHouse takes them in CREATE TABLE and `file(…)`, to read storage form back."""
    # A column declared Nested would become several.
    types = ((c.name, c.type.base if c.type.name == "Nested" else c.type) for c in columns)
    return ", ".join(f"{identifier(name)} {t.text}" for name, t in types)


def to_storage_batch(batch: pa.RecordBatch, columns: Sequence[Column]) -> pa.RecordBatch:
    """`batch`, whose columns are `columns` in this order, in storage form under their names."""
    arrays = [to_storage(a, c.type) for a, c in zip(batch.columns, columns, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=storage_schema(columns))


def json_values(
    array: pa.Array | pa.ChunkedArray, t: ClickHouseType, *, timezone: str, integers: Integers = "number"
) -> list[Any]:
    """A column, in storage form or packed, as values that orjson writes. `timezone`: for types that name
    none.
    """
    return values_of(array, t, Form(timezone, integers))


def csv_values(array: pa.Array | pa.ChunkedArray, t: ClickHouseType, *, timezone: str) -> list[str | None]:
    """A column, in storage form or packed, as CSV fields; None for NULL, containers as JSON."""
    return texts_of(array, t, Form(timezone))


def arrow_schema(columns: Iterable[Column], *, timezone: str) -> pa.Schema:
    """The Arrow schema in which callers get `columns`. `timezone`: for types that name none."""
    return pa.schema([arrow_field(column.name, column.type, timezone) for column in columns])


def arrow_field(name: str, t: ClickHouseType, timezone: str) -> pa.Field:
    """A column, or a part of one, as callers get it in Arrow."""
    return pa.field(name, family_of(t).arrow(t.base, timezone), nullable=t.nullable)


def to_arrow(array: pa.Array, t: ClickHouseType, form: Form) -> pa.Array:
    """An array in storage form as callers get it in Arrow."""
    return family_of(t).to_arrow(array, t.base, form)


def to_arrow_batch(batch: pa.RecordBatch, columns: Sequence[Column], *, timezone: str) -> pa.RecordBatch:
    """A batch in storage form, in the schema `arrow_schema(columns)`."""
    arrays = [to_arrow(a, c.type, Form(timezone)) for a, c in zip(batch.columns, columns, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=arrow_schema(columns, timezone=timezone))


def values_of(array: pa.Array | pa.ChunkedArray, t: ClickHouseType, form: Form) -> list[Any]:
    """`json_values` with the form in one object."""
    family, base = family_of(t), t.base
    return _shown(array, lambda chunk: family.json(chunk, base, form))


def texts_of(array: pa.Array | pa.ChunkedArray, t: ClickHouseType, form: Form) -> list[str | None]:
    """`csv_values` with the form in one object."""
    family, base = family_of(t), t.base
    return _shown(array, lambda chunk: family.text(chunk, base, form))


def openapi_schema(t: ClickHouseType, *, integers: Integers = "number") -> dict[str, Any]:
    """The JSON Schema (OpenAPI 3.1) of the values that `json_values` gives."""
    schema = family_of(t).openapi(t.base, integers)
    if not t.nullable or "null" in schema["type"]:
        return schema
    nullable = {**schema, "type": [schema["type"], "null"]}
    if "enum" in schema:
        nullable["enum"] = [*schema["enum"], None]
    return nullable


def polars_type(t: ClickHouseType) -> pl.DataType:
    """The Polars type of a column in storage form, which pandera's schemas expect as well.

    Decimals past 38 digits have none: `UnsupportedType`.
    """
    kind = storage_type(t)
    if pa.types.is_decimal256(kind):
        raise UnsupportedType(t.text, fix="Polars has no decimals of more than 38 digits.")
    series = pl.from_arrow(pa.nulls(0, kind))
    assert isinstance(series, pl.Series)
    return series.dtype


def _shown(array: pa.Array | pa.ChunkedArray, show: Callable[[pa.Array], list[Any]]) -> list[Any]:
    if isinstance(array, pa.ChunkedArray):
        return [value for chunk in array.chunks for value in _shown(chunk, show)]
    if not pa.types.is_dictionary(array.type):
        return show(array)
    if array.null_count or len(array.dictionary) > len(array):
        return show(array.dictionary_decode())
    values = show(array.dictionary)  # each once
    return [values[place] for place in array.indices.to_numpy().tolist()]


def _check_column(column: Column, part: ClickHouseType) -> None:
    if not known(part):
        raise refusal(part, column.type, column.name)
    if part.base.name == "Tuple" and not part.base.elements:
        raise UnsupportedType(column.type.text, column.name, "Leave the empty tuple out.")
    if part.timezone is not None and not _known_zone(part.timezone):
        way_out = (
            f"Its time zone is not known here: select toTimeZone({identifier(column.name)}, 'UTC') instead."
        )
        raise UnsupportedType(column.type.text, column.name, way_out)
    for inner in part.base.parts:
        _check_column(column, inner)


def _known_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
