"""What a row of the type table has to say: one `Family` for each kind of ClickHouse type."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from endpoints.types.grammar import ClickHouseType, quote
from endpoints.types.refused import refusal

Integers: TypeAlias = Literal["number", "string"]
Scalar: TypeAlias = int | str | bool | float | Decimal | date | datetime | UUID | IPv4Address | IPv6Address
Value: TypeAlias = Scalar | list[Any] | None
"""A variable's value, typed, as `parse_value` gives it: a list for Array, None for NULL."""


@dataclass(frozen=True, slots=True)
class Form:
    """How callers get values: the server's time zone, 64-bit integers as numbers or strings."""

    timezone: str
    integers: Integers = "number"


class Family:
    """One kind of ClickHouse type in every form that this project gives it.

    `t` is always a base type (`ClickHouseType.base`): Nullable and the like are dealt with around it.
    Arrays may hold nulls all the same, and methods over arrays keep them: None in a list, null in Arrow.
    """

    names: ClassVar[tuple[str, ...]]
    variable: ClassVar[bool] = True
    """Whether a variable may have the type."""
    bare: ClassVar[bool] = False
    """Whether ClickHouse writes the value without quotes inside an array."""

    def storage(self, t: ClickHouseType) -> pa.DataType:
        """The Arrow type of a column, in Parquet and in memory."""
        raise NotImplementedError

    def store(self, array: pa.Array, t: ClickHouseType) -> pa.Array:
        """What a warehouse gave, or a Parquet file holds, in storage form."""
        return array.cast(self.storage(t))

    def json(self, array: pa.Array, t: ClickHouseType, form: Form) -> list[Any]:
        """Storage form as JSON values, one for each row. Whole numbers and days may come as narrower ones."""
        return array.to_pylist()  # type: ignore[no-any-return]

    def text(self, array: pa.Array, t: ClickHouseType, form: Form) -> list[str | None]:
        """Storage form as text, one for each row: CSV fields and keys of JSON objects."""
        return self.json(array, t, form)

    def arrow(self, t: ClickHouseType, timezone: str) -> pa.DataType:
        """The Arrow type that callers get in Arrow and Parquet: what other programs take it for."""
        return self.storage(t)

    def to_arrow(self, array: pa.Array, t: ClickHouseType, form: Form) -> pa.Array:
        """Storage form as `arrow`."""
        return array

    def openapi(self, t: ClickHouseType, integers: Integers) -> dict[str, Any]:
        """The JSON Schema of what `json` gives."""
        raise NotImplementedError

    def parse(self, t: ClickHouseType, raw: object, timezone: str) -> Value:
        """The value that a caller means by `raw`; ValueError with one sentence otherwise."""
        raise NotImplementedError

    def render(self, t: ClickHouseType, value: Any) -> str:
        """The value as ClickHouse reads it in text, without quotes or escapes."""
        return str(value)

    def literal(self, t: ClickHouseType, value: Any) -> str:
        """The value as an SQL expression of type `t`, on servers of any age."""
        return f"CAST({quote(self.render(t, value))} AS {t.text})"

    def scalar(self, t: ClickHouseType, value: Any) -> object:
        """The value as pyarrow takes it for the storage type."""
        return value

    def show(self, t: ClickHouseType, value: Any) -> Any:
        """The value in JSON, equal for equal values."""
        return self.render(t, value)

    def example(self, t: ClickHouseType) -> Value:
        """Some value of the type."""
        raise NotImplementedError


class Text(Family):
    """A family whose values callers get as text in Arrow too, since no other program reads its storage
    form.
    """

    def arrow(self, t: ClickHouseType, timezone: str) -> pa.DataType:
        return pa.string()

    def to_arrow(self, array: pa.Array, t: ClickHouseType, form: Form) -> pa.Array:
        return pa.array(self.json(array, t, form), pa.string())


_BY_NAME: dict[str, Family] = {}
_F = TypeVar("_F", bound=type[Family])


def row(family: _F) -> _F:
    """Puts a family into the table, under all of its names."""
    _BY_NAME.update(dict.fromkeys(family.names, family()))
    return family


def families() -> tuple[Family, ...]:
    """The rows of the table."""
    return tuple(dict.fromkeys(_BY_NAME.values()))


def known(t: ClickHouseType) -> bool:
    """Whether the table has a row for `t`."""
    return t.base.name in _BY_NAME


def family_of(t: ClickHouseType) -> Family:
    """The row of the table for `t`; `UnsupportedType` where there is none."""
    family = _BY_NAME.get(t.base.name)
    if family is None:
        raise refusal(t, t)
    return family


def expect_text(raw: object, what: str) -> str:
    """`raw` if it is text; otherwise a sentence that says what is expected."""
    if not isinstance(raw, str):
        raise ValueError(f"expected {what} as a string, got {json_kind(raw)}")
    return raw


def json_kind(raw: object) -> str:
    """What a caller would call `raw`."""
    match raw:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list() | tuple():
            return "a list"
        case _:
            return "an object"


def decoded(array: pa.Array) -> pa.Array:
    """`array` in Arrow's plain encoding: no dictionaries, extension types, large or view forms of text."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        return array.cast(pa.string())
    if pa.types.is_large_binary(array.type) or pa.types.is_binary_view(array.type):
        return array.cast(pa.binary())
    return array


def as_numbers(array: pa.Array) -> list[Any]:
    """Whole numbers of any width: without NULLs a fraction of what `to_pylist` takes."""
    return array.to_pylist() if array.null_count else array.to_numpy().tolist()  # type: ignore[no-any-return]


def as_strings(array: pa.Array) -> list[str | None]:
    """Arrow's own text of numbers and dates."""
    return pc.cast(array, pa.string()).to_pylist()  # type: ignore[no-any-return]
