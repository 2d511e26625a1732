"""Variables' values in the table's terms: from what a caller sent to what ClickHouse and filters get."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from endpoints.types.columns import storage_type
from endpoints.types.family import Value, family_of, known
from endpoints.types.grammar import ClickHouseType, quote

MAX_VALUE_BYTES = 8192
MAX_ARRAY_DEPTH = 2


def is_variable_type(t: ClickHouseType) -> bool:
    """Whether `{name:Type}` may have the type: scalars, and arrays of them up to two deep."""
    depth = 0
    base = t.base
    while base.name == "Array":
        depth, base = depth + 1, base.inner.base
    return depth <= MAX_ARRAY_DEPTH and known(base) and family_of(base).variable


def parse_value(t: ClickHouseType, raw: object, *, timezone: str = "UTC") -> Value:
    """The value of type `t` that a caller means by `raw`.

    `raw` is a string (or, repeated, a list of them) from a URL, or a JSON value. `timezone` is for clock
    readings where the type names no zone. Outside the type's domain: ValueError, one sentence for callers.
    """
    if _size(raw) > MAX_VALUE_BYTES:
        raise ValueError(f"must be at most {MAX_VALUE_BYTES} bytes")
    return checked(t, raw, timezone)


def checked(t: ClickHouseType, raw: object, timezone: str) -> Value:
    """`parse_value` for a part of a value, whose size has been seen to."""
    if raw is None and t.nullable:
        return None
    if raw is None:
        raise ValueError("must not be null")
    return family_of(t).parse(t.base, raw, timezone)


def render_parameter(t: ClickHouseType, value: Value) -> str:
    """The text that ClickHouse's `{name:Type}` reads back as exactly `value`: escaped once, as in TSV."""
    if value is None:
        return "\\N"
    text = family_of(t).render(t.base, value)
    # Inside an array's brackets ClickHouse reads quoted strings instead, which `in_array` has escaped.
    return text if t.base.name == "Array" else quote(text)[1:-1]


def in_array(t: ClickHouseType, value: Value) -> str:
    """`value` as ClickHouse reads it as an element of an array's text."""
    if value is None:
        return "NULL"
    family = family_of(t)
    text = family.render(t.base, value)
    return text if family.bare else quote(text)


def render_literal(t: ClickHouseType, value: Value) -> str:
    """`value` as an SQL expression of type `t`, for servers without parameters."""
    if value is None:
        return f"CAST(NULL AS {t.text})"
    literal = family_of(t).literal(t.base, value)
    return literal if t.text == t.base.text else f"CAST({literal} AS {t.text})"


def to_scalar(t: ClickHouseType, value: Value) -> pa.Scalar:
    """`value` in storage form, for filters over an asset."""
    return pa.scalar(stored(t, value), storage_type(t))


def stored(t: ClickHouseType, value: Value) -> object:
    """`value` as pyarrow takes it for the storage type."""
    return None if value is None else family_of(t).scalar(t.base, value)


def show_value(t: ClickHouseType, value: Value) -> Any:
    """`value` in a form that JSON can hold, the same for equal values: for cache keys and docs."""
    return None if value is None else family_of(t).show(t.base, value)


def example_value(t: ClickHouseType) -> Value:
    """Some valid value of the type, to DESCRIBE a query before there are real ones."""
    return family_of(t).example(t.base)


def _size(raw: object, depth: int = 0) -> int:
    """About how many bytes `raw` is as text."""
    if isinstance(raw, str):
        return len(raw.encode("utf-8", "surrogatepass"))
    if not isinstance(raw, (list, tuple)):
        return len(str(raw)) if isinstance(raw, (int, float)) else 0
    if depth > MAX_ARRAY_DEPTH:
        raise ValueError(f"lists nest at most {MAX_ARRAY_DEPTH} deep")
    return 2 + sum(_size(item, depth + 1) + 1 for item in raw)
