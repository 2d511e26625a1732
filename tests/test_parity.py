"""When two answers are the same."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from endpoints.parity import FLOATS, difference
from endpoints.rows import Rows
from endpoints.types import Column, parse_type, storage_schema


def rows(values: list[Any], type_text: str = "Float64", has_more: bool = False, **more: list[int]) -> Rows:
    columns = (Column("v", parse_type(type_text)), *(Column(n, parse_type("Int64")) for n in more))
    table = pa.table([values, *more.values()], schema=storage_schema(columns))
    return Rows(columns, table, "UTC", has_more)


NAN = float("nan")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ([1.0, NAN], [1.0, NAN], True),
        ([0.1 + 0.2], [0.3], True),
        ([1.0], [1.0 + 1e-8], False),
        ([NAN], [0.0], False),
        ([0.3, 0.1 + 0.2], [0.1 + 0.2, 0.3], True),
        ([1.0, 2.0], [2.0, 2.0], False),
        ([1.0], [1.0, 1.0], False),
        ([], [], True),
    ],
)
def test_floats_may_differ_in_their_last_digits(one: list[float], other: list[float], same: bool) -> None:
    assert (difference(rows(one), rows(other), floats=FLOATS) is None) == same
    assert one != other or NAN in one or difference(rows(one), rows(other)) is None


def test_exactly_is_exactly() -> None:
    assert difference(rows([0.1 + 0.2]), rows([0.3])) is not None
    assert difference(rows([0.0]), rows([-0.0])) is not None
    assert difference(rows([1], "Int64"), rows([1], "UInt64")) is not None
    assert difference(rows([[0.1 + 0.2]], "Array(Float64)"), rows([[0.3]], "Array(Float64)")) is not None
    assert (
        difference(rows([[0.1 + 0.2]], "Array(Float64)"), rows([[0.3]], "Array(Float64)"), floats=FLOATS)
        is None
    )


def test_order_counts_where_there_is_one() -> None:
    one, other = rows([1, 2], "Int64"), rows([2, 1], "Int64")
    assert difference(one, other, floats=FLOATS) is not None
    assert difference(one, other, ordered=False) is None


def test_nanoseconds_count() -> None:
    late, later = rows([10**18 + 1], "DateTime64(9)"), rows([10**18 + 2], "DateTime64(9)")
    assert difference(late, later) is not None


def test_columns_left_out_and_rows_that_follow() -> None:
    one, other = rows([1, 2], "Int64", w=[5, 6]), rows([1, 2], "Int64", w=[7, 8])
    assert difference(one, other) is not None
    assert difference(one, other, without={1}) is None
    assert difference(rows([], has_more=True), rows([])) == "has_more is True"
