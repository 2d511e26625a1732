"""Types that hold values of other types: Array (and Nested, Ring, …), Tuple (and Point), Map.

Their elements come back through the table.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from endpoints.types import columns, values
from endpoints.types.family import Family, Form, Integers, Value, json_kind, row
from endpoints.types.grammar import ClickHouseType, quote


class _Container(Family):
    """CSV shows a container as its JSON."""

    variable = False

    def text(self, array: pa.Array, t: ClickHouseType, form: Form) -> list[str | None]:
        return [None if x is None else orjson.dumps(x).decode() for x in self.json(array, t, form)]


@row
class Array(_Container):
    """Array, Nested and the geometries that are arrays of points: JSON lists."""

    names = ("Array",)
    variable = True
    bare = True

    def storage(self, t: ClickHouseType) -> pa.DataType:
        return pa.list_(columns.storage_field("element", t.inner))

    def store(self, array: pa.Array, t: ClickHouseType) -> pa.Array:
        values = columns.to_storage(array.flatten(), t.inner)
        mask = array.is_null() if array.null_count else None
        return pa.ListArray.from_arrays(_offsets(array), values, self.storage(t), mask=mask)

    def json(self, array: pa.Array, t: ClickHouseType, form: Form) -> list[Any]:
        values = columns.values_of(array.flatten(), t.inner, form)
        return _restored([values[i:j] for i, j in _spans(array)], array)

    def arrow(self, t: ClickHouseType, timezone: str) -> pa.DataType:
        return pa.list_(columns.arrow_field("element", t.inner, timezone))

    def to_arrow(self, array: pa.Array, t: ClickHouseType, form: Form) -> pa.Array:
        values = columns.to_arrow(array.flatten(), t.inner, form)
        mask = array.is_null() if array.null_count else None
        return pa.ListArray.from_arrays(_offsets(array), values, self.arrow(t, form.timezone), mask=mask)

    def openapi(self, t: ClickHouseType, integers: Integers) -> dict[str, Any]:
        return {"type": "array", "items": columns.openapi_schema(t.inner, integers=integers)}

    def parse(self, t: ClickHouseType, raw: object, timezone: str) -> Value:
        if isinstance(raw, str) and raw.startswith("["):
            try:
                raw = orjson.loads(raw)
            except orjson.JSONDecodeError:
                raise ValueError("expected a JSON list after '['") from None
        elif isinstance(raw, str):
            raw = [raw]
        if not isinstance(raw, (list, tuple)):
            raise ValueError(f"expected a list, got {json_kind(raw)}")
        return [self._item(t, place, item, timezone) for place, item in enumerate(raw)]

    def _item(self, t: ClickHouseType, place: int, item: object, timezone: str) -> Value:
        if t.inner.base.name == "Array" and not isinstance(item, (list, tuple)):
            raise ValueError(f"item {place}: expected a list, got {json_kind(item)}")
        try:
            return values.checked(t.inner, item, timezone)
        except ValueError as error:
            raise ValueError(f"item {place}: {error}") from None

    def render(self, t: ClickHouseType, value: list[Any]) -> str:
        return "[" + ",".join(values.in_array(t.inner, item) for item in value) + "]"

    def literal(self, t: ClickHouseType, value: list[Any]) -> str:
        items = ", ".join(values.render_literal(t.inner, item) for item in value)
        # [] has one dimension, and old servers cast it to no other.
        return f"CAST({f'[{items}]' if items else quote('[]')} AS {t.text})"

    def scalar(self, t: ClickHouseType, value: list[Any]) -> object:
        return [values.stored(t.inner, item) for item in value]

    def show(self, t: ClickHouseType, value: list[Any]) -> Any:
        return [values.show_value(t.inner, item) for item in value]

    def example(self, t: ClickHouseType) -> Value:
        return [values.example_value(t.inner)]


@row
class Tuple(_Container):
    """Tuple and Point: a JSON list, or an object where the elements have names."""

    names = ("Tuple",)

    def storage(self, t: ClickHouseType) -> pa.DataType:
        return pa.struct([columns.storage_field(name, e.type) for name, e in _named(t)])

    def store(self, array: pa.Array, t: ClickHouseType) -> pa.Array:
        if not pa.types.is_struct(array.type) or array.type.num_fields != len(t.elements):
            raise pa.ArrowInvalid(f"{array.type} does not hold a {t}")
        children = [columns.to_storage(array.field(i), e.type) for i, e in enumerate(t.elements)]
        mask = array.is_null() if array.null_count else None
        fields = list(self.storage(t))
        return pa.StructArray.from_arrays(children, fields=fields, mask=mask)

    def json(self, array: pa.Array, t: ClickHouseType, form: Form) -> list[Any]:
        children = [columns.values_of(array.field(i), e.type, form) for i, e in enumerate(t.elements)]
        rows: Iterable[tuple[Any, ...]] = zip(*children, strict=True)
        if t.elements[0].name is None:
            return _restored(list(map(list, rows)), array)
        names = [name for name, _ in _named(t)]
        return _restored([dict(zip(names, row, strict=True)) for row in rows], array)

    def arrow(self, t: ClickHouseType, timezone: str) -> pa.DataType:
        return pa.struct([columns.arrow_field(name, e.type, timezone) for name, e in _named(t)])

    def to_arrow(self, array: pa.Array, t: ClickHouseType, form: Form) -> pa.Array:
        children = [columns.to_arrow(array.field(i), e.type, form) for i, e in enumerate(t.elements)]
        mask = array.is_null() if array.null_count else None
        return pa.StructArray.from_arrays(children, fields=list(self.arrow(t, form.timezone)), mask=mask)

    def openapi(self, t: ClickHouseType, integers: Integers) -> dict[str, Any]:
        schemas = {name: columns.openapi_schema(e.type, integers=integers) for name, e in _named(t)}
        if t.elements[0].name is None:
            count = len(schemas)
            return {"type": "array", "prefixItems": [*schemas.values()], "minItems": count, "maxItems": count}
        return {"type": "object", "properties": schemas, "required": [*schemas]}


@row
class Map(_Container):
    """Map: a JSON object, keys as text; of equal keys the last one counts."""

    names = ("Map",)

    def storage(self, t: ClickHouseType) -> pa.DataType:
        key, value = t.key_and_value
        return pa.map_(columns.storage_field("key", key), columns.storage_field("value", value))

    def store(self, array: pa.Array, t: ClickHouseType) -> pa.Array:
        key, value = t.key_and_value
        entries = _entries(array)
        keys, values = columns.to_storage(entries.field(0), key), columns.to_storage(entries.field(1), value)
        return _map_array(array, keys, values, self.storage(t))

    def arrow(self, t: ClickHouseType, timezone: str) -> pa.DataType:
        key, value = t.key_and_value
        key_field = columns.arrow_field("key", key, timezone).with_nullable(False)
        return pa.map_(key_field, columns.arrow_field("value", value, timezone))

    def to_arrow(self, array: pa.Array, t: ClickHouseType, form: Form) -> pa.Array:
        key, value = t.key_and_value
        entries = _entries(array)
        keys = columns.to_arrow(entries.field(0), key, form)
        values = columns.to_arrow(entries.field(1), value, form)
        return _map_array(array, keys, values, self.arrow(t, form.timezone))

    def json(self, array: pa.Array, t: ClickHouseType, form: Form) -> list[Any]:
        key, value = t.key_and_value
        entries = _entries(array)
        keys = columns.texts_of(entries.field(0), key, form)
        pairs = list(zip(keys, columns.values_of(entries.field(1), value, form), strict=True))
        return _restored([dict(pairs[i:j]) for i, j in _spans(array)], array)

    def openapi(self, t: ClickHouseType, integers: Integers) -> dict[str, Any]:
        _, value = t.key_and_value
        return {"type": "object", "additionalProperties": columns.openapi_schema(value, integers=integers)}


def _named(t: ClickHouseType) -> list[tuple[str, Any]]:
    """A tuple's elements with the names that ClickHouse gives them: 1, 2, … where there are none."""
    return [(e.name or str(i), e) for i, e in enumerate(t.elements, 1)]


def _map_array(array: pa.Array, keys: pa.Array, values: pa.Array, kind: pa.MapType) -> pa.Array:
    """The maps of `array` with other keys and values, as type `kind`."""
    rows = pa.StructArray.from_arrays([keys, values], fields=[kind.key_field, kind.item_field])
    plain = pa.ListArray.from_arrays(
        _offsets(array), rows, mask=array.is_null() if array.null_count else None
    )
    return pa.Array.from_buffers(
        kind, len(plain), plain.buffers()[:2], plain.null_count, plain.offset, [plain.values]
    )


def _entries(array: pa.Array) -> pa.StructArray:
    """The key-value pairs of the rows that are not null, in one array."""
    plain = pa.ListArray.from_arrays(
        array.offsets, pa.StructArray.from_arrays([array.keys, array.items], ["k", "v"])
    )
    return plain.flatten()


def _lengths(array: pa.Array) -> np.ndarray[Any, Any]:
    """How many values each row holds: none where it is null."""
    lengths: np.ndarray[Any, Any] = np.diff(array.offsets.to_numpy())
    if array.null_count:
        lengths[array.is_null().to_numpy(zero_copy_only=False)] = 0
    return lengths


def _offsets(array: pa.Array) -> pa.Array:
    """Where each row of a list begins in `array.flatten()`."""
    return pa.array(np.concatenate(([0], np.cumsum(_lengths(array)))), pa.int32())


def _spans(array: pa.Array) -> Iterable[tuple[int, int]]:
    offsets = _offsets(array).to_pylist()
    return pairwise(offsets)


def _restored(values: list[Any], array: pa.Array) -> list[Any]:
    """`values` with None where `array` is null."""
    if not array.null_count:
        return values
    return [v if valid else None for v, valid in zip(values, array.is_valid().to_pylist(), strict=True)]
