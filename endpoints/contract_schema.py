"""A contract as a pandera schema, and columns in the form that it checks.

Storage form is not what people write contracts about: a String is bytes there, a UUID sixteen of them. Every
checked column is first made *readable*: numbers, dates and times as themselves, all else as the text that
callers see. pandera gets eager frames: on lazy ones it skips the values.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any, cast

import orjson
import pandera.polars as pandera
import polars as pl
import pyarrow as pa

from endpoints.definition import ColumnContract, Contract
from endpoints.query.plan.conditions import ARROW_ORDER
from endpoints.types import ClickHouseType, Column, json_values, parse_value, polars_type

Test = Callable[[pl.Expr], pl.Expr]

_INTEGERS = {f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)}
_WIDE = {f"{sign}Int{bits}" for sign in ("", "U") for bits in (128, 256)}
_FLOATS = {"Float32", "Float64"}
_TIMES = {"Date", "Date32", "DateTime", "DateTime64"}
_TEXTS = {"String", "FixedString"}
_NAMES = {"Enum8", "Enum16", "UUID", "IPv4", "IPv6"}
_BOUNDS: Mapping[str, Callable[[Any, Any], Any]] = {
    "ge": operator.ge,
    "gt": operator.gt,
    "le": operator.le,
    "lt": operator.lt,
}
_NUMBERS = _INTEGERS | _WIDE | _FLOATS | {"Decimal"}
# Which types each check means something for.
_APPLIES = {
    **dict.fromkeys(_BOUNDS, _NUMBERS | _TIMES | _TEXTS),
    "isin": _NUMBERS | _TIMES | _TEXTS | _NAMES | {"Bool"},
    **dict.fromkeys(("pattern", "min_length", "max_length"), _TEXTS | _NAMES),
}
# Widest that Polars holds: past it values are compared one by one, in Python.
_POLARS_DIGITS = 38
_EXACT = Context(prec=200)


def schema(contract: Contract, columns: Sequence[Column], timezone: str = "UTC") -> pandera.DataFrameSchema:
    """The pandera schema of a contract, over the readable form of the columns whose values it checks.

    `timezone` is the server's: bounds of a DateTime whose type names no zone are read in it.
    """
    types = {column.name: column.type for column in columns}
    return pandera.DataFrameSchema(
        {
            name: pandera.Column(
                readable_dtype(types[name]),
                checks=[
                    check_of(check, value, types[name], timezone)
                    for check, value in value_checks(rules).items()
                ],
                nullable=rules.nullable is not False,
            )
            for name, rules in contract.columns.items()
            if value_checks(rules) or rules.nullable is False
        }
    )


def readable_dtype(t: ClickHouseType) -> pl.DataType:
    """The Polars type in which a contract sees a ClickHouse type."""
    name = t.base.name
    if name in _INTEGERS | _FLOATS | _TIMES | {"Bool"} or (name == "Decimal" and not _is_wide(t)):
        return polars_type(t)
    return pl.String()


def _is_wide(t: ClickHouseType) -> bool:
    return t.base.name == "Decimal" and t.base.numbers[0] > _POLARS_DIGITS


def readable(array: pa.Array, t: ClickHouseType) -> pl.Series:
    """A column in storage form as a contract sees it: see the top of the file."""
    dtype = readable_dtype(t)
    if dtype != pl.String() or pa.types.is_string(array.type):
        return cast(pl.Series, pl.from_arrow(array))
    if pa.types.is_binary(array.type):
        try:
            return cast(pl.Series, pl.from_arrow(array.cast(pa.string())))
        except pa.ArrowInvalid:
            pass  # not UTF-8: as callers see it
    values = json_values(array, t, timezone="UTC", integers="string")
    return pl.Series([_text(value) for value in values], dtype=pl.String)


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()


def comparable(array: pa.Array, t: ClickHouseType) -> pl.Series:
    """A column such that equal values, and only they, are equal: bytes stay bytes."""
    return cast(pl.Series, pl.from_arrow(array.cast(pa.string()) if _is_wide(t) else array))


def is_ordered(t: ClickHouseType) -> bool:
    """Whether Polars sorts the `comparable` form of the type as ClickHouse sorts the type."""
    return t.base.name in ARROW_ORDER and not _is_wide(t)


def value_checks(rules: ColumnContract) -> dict[str, Any]:
    """The checks of single values that a column's rules ask for, by name."""
    asked = {name: getattr(rules, name) for name in _APPLIES}
    return {name: value for name, value in asked.items() if value is not None}


def check_of(check: str, value: Any, t: ClickHouseType, timezone: str = "UTC") -> pandera.Check:
    """ValueError where the check means nothing for the type, or its value is none of the type."""
    if t.base.name not in _APPLIES[check]:
        raise ValueError(f"{check} cannot be checked on {t}")
    if check in _BOUNDS:
        test = _bound(_BOUNDS[check], value, t.base, timezone)
    elif check == "isin":
        test = _member([item for item in value if item is not None], t.base, timezone)
    else:
        test = _string_test(check, value)

    def passes(data: pandera.PolarsData) -> pl.LazyFrame:
        return data.lazyframe.select(test(pl.col(str(data.key))))

    return pandera.Check(passes, name=check)


def _string_test(check: str, value: Any) -> Test:
    if check == "pattern":
        return _pattern(value)
    if check == "min_length":
        return lambda column: column.str.len_chars() >= value
    return lambda column: column.str.len_chars() <= value


def _pattern(pattern: str) -> Test:
    """A search, as everywhere: `^` and `$` are the author's to write."""
    try:
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.ComputeError:  # what Rust's engine lacks, such as look-around
        search = re.compile(pattern).search
        return lambda column: column.map_elements(lambda text: search(text) is not None, pl.Boolean)
    return lambda column: column.str.contains(pattern)


def _bound(compare: Callable[[Any, Any], Any], value: Any, t: ClickHouseType, timezone: str) -> Test:
    """Exact for every number: as floats, 2^53 + 1 would equal 2^53. NaN is within no bound."""
    if t.name in _FLOATS:
        limit = pl.lit(float(value), dtype=polars_type(t))  # 0.1 is another number as Float32
        return lambda column: column.is_not_nan() & compare(column, limit)
    if t.name not in _NUMBERS:
        literal = _literal(value, t, timezone)
        return lambda column: compare(column, pl.lit(literal))
    number = Decimal(str(value))
    if readable_dtype(t) == pl.String():
        return lambda column: column.map_elements(lambda text: compare(Decimal(text), number), pl.Boolean)
    # On the type's own grid of whole steps: x >= 0.5 is 2x >= 1, and for whole x it is x >= 1.
    steps = _steps(number, t)
    rounding = ROUND_CEILING if compare in (operator.ge, operator.lt) else ROUND_FLOOR
    whole = min(max(int(steps.to_integral_value(rounding)), -(2**127)), 2**127 - 1)
    return lambda column: compare(_grid(column), pl.lit(whole, dtype=pl.Int128))


def _member(values: Sequence[Any], t: ClickHouseType, timezone: str) -> Test:
    if t.name in _FLOATS:
        floats = pl.Series([float(value) for value in values]).cast(polars_type(t)).implode()
        return lambda column: column.is_in(floats)
    if t.name not in _NUMBERS:
        literals = [_literal(value, t, timezone) for value in values]
        return lambda column: column.is_in(literals)
    numbers = {Decimal(str(value)) for value in values}
    if readable_dtype(t) == pl.String():
        return lambda column: column.map_elements(lambda text: Decimal(text) in numbers, pl.Boolean)
    steps = [_steps(number, t) for number in numbers]
    whole = pl.Series(
        [int(s) for s in steps if s == s.to_integral_value() and abs(s) < 2**127], dtype=pl.Int128
    )
    return lambda column: _grid(column).is_in(whole.implode())


def _steps(number: Decimal, t: ClickHouseType) -> Decimal:
    return _EXACT.scaleb(number, t.numbers[1]) if t.name == "Decimal" else number


def _grid(column: pl.Expr) -> pl.Expr:
    """Integers as they are, decimals as whole numbers of their last digit."""
    return column.to_physical().cast(pl.Int128)


def _literal(value: Any, t: ClickHouseType, timezone: str) -> Any:
    """A contract's value as Polars compares it with the readable column. ValueError where it is none."""
    parsed = parse_value(t, value.isoformat() if isinstance(value, date) else value, timezone=timezone)
    return parsed if isinstance(parsed, (str, bool, date)) else str(parsed)
