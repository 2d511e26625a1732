"""Every family's rows come back from the finish as they went in: types, names and values."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest

from endpoints.types import Column, parse_type, storage_schema, storage_type
from endpoints.warehouse.finish import ROWS_TABLE, Finisher
from endpoints.warehouse.protocol import Caps, Statement

NAME = "it's `odd`"


@pytest.fixture(scope="module")
def finisher() -> Iterator[Finisher]:
    finisher = Finisher(1)
    yield finisher
    finisher.close()


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("UInt64", [2**64 - 1, 0]),
        ("Int256", [b"\xff" * 32]),
        ("Decimal(76, 2)", [-5]),
        ("Nullable(String)", [b"\xff", None]),
        ("FixedString(300)", [b"a" * 300]),
        ("LowCardinality(Nullable(String))", [b"a", None]),
        ("LowCardinality(Date)", [5]),
        ("LowCardinality(UInt64)", [5]),
        ("Enum8('it\\'s' = 1)", ["it's"]),
        ("UUID", [b"0123456789abcdef"]),
        ("IPv4", [16909060]),
        ("IPv6", [b"0123456789abcdef"]),
        ("DateTime('Europe/Berlin')", [0, 4294967295000]),
        ("DateTime64(9, 'Asia/Tokyo')", [123456789]),
        ("Array(Array(Nullable(Date)))", [[[5, None], []], []]),
        ("Nullable(Tuple(a UInt8))", [{"a": 1}, None]),
        ("Map(LowCardinality(String), Array(UInt8))", [[(b"a", [1])], []]),
        ("Point", [{"1": 1.0, "2": 2.0}]),
        ("SimpleAggregateFunction(sum, UInt64)", [1]),
    ],
)
def test_rows_come_back_as_they_went_in(finisher: Finisher, text: str, values: list[Any]) -> None:
    columns = [Column(NAME, parse_type(text))]
    rows = pa.table([pa.array(values, storage_type(columns[0].type))], schema=storage_schema(columns))
    back = finisher.run(
        Statement(f"SELECT * FROM {ROWS_TABLE}"),
        columns,
        rows,
        timezone="UTC",
        caps=Caps(timedelta(seconds=30), None, None),
    )
    assert back[0] == tuple(columns)
    assert back[1].equals(rows)
