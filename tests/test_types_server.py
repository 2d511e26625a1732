"""Values on a server too old for parameters (18.16, on Berlin time): literals, types as they come back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from endpoints.types import json_values, parse_type, render_literal, storage_type, to_scalar
from endpoints.warehouse.native import NativeWarehouse
from endpoints.warehouse.protocol import Caps, Statement

pytestmark = pytest.mark.clickhouse


@pytest.fixture(scope="module")
def server(clickhouse_url: str) -> Iterator[NativeWarehouse]:
    warehouse = NativeWarehouse(clickhouse_url)
    yield warehouse
    warehouse.close()


SECONDS = st.integers(0, 2**32 - 1).map(lambda n: datetime.fromtimestamp(n, UTC))
TEXT = st.text(st.characters(codec="utf-8"), max_size=10) | st.text("\\'\n\t\r\0\b\x1a\"`%${}é", max_size=10)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "UInt8": st.integers(0, 255),
    "Int64": st.integers(-(2**63), 2**63 - 1),
    "UInt64": st.integers(0, 2**64 - 1),
    "Float64": st.floats(allow_nan=False, allow_infinity=False),
    "Float32": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "String": TEXT,
    "FixedString(8)": st.text("ab\\'é", max_size=4),
    "Date": st.dates(date(1970, 1, 1), date(2149, 6, 6)),
    "DateTime": SECONDS,
    "DateTime('Asia/Kolkata')": SECONDS,
    "Decimal(9, 2)": st.integers(-(10**9) + 1, 10**9 - 1).map(lambda n: Decimal(f"{n}E-2")),
    "Decimal(38, 10)": st.integers(-(10**38) + 1, 10**38 - 1).map(lambda n: Decimal(f"{n}E-10")),
    "Enum8('a' = 1, 'it\\'s' = -2, 'b\\\\c' = 3)": st.sampled_from(["a", "it's", "b\\c"]),
    "UUID": st.uuids(),
}


@st.composite
def bound(draw: st.DrawFn) -> tuple[str, Any]:
    text = draw(st.sampled_from(sorted(VALUES)))
    values = VALUES[text]
    if draw(st.booleans()):
        text, values = f"Nullable({text})", st.none() | values
    for _ in range(draw(st.integers(0, 2))):
        text, values = f"Array({text})", st.lists(values, max_size=3)
    return text, draw(values)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=bound())
def test_a_literal_is_the_very_value_and_of_its_type(server: NativeWarehouse, made: tuple[str, Any]) -> None:
    t, value = parse_type(made[0]), made[1]
    with server.run(Statement(f"SELECT {render_literal(t, value)} AS c"), Caps(None, None, None)) as result:
        [batch] = [batch for batch in result if batch.num_rows]
    assert [column.type for column in result.columns] == [t]
    wanted = pa.array([to_scalar(t, value)], storage_type(t))
    shown = [json_values(array, t, timezone="Europe/Berlin") for array in (batch.column(0), wanted)]
    assert shown[0] == shown[1]
