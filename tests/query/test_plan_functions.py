"""The planner's lists of functions against the engine's own."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from endpoints.query.clock import CLOCK
from endpoints.query.plan.functions import (
    MERGING,
    adds_floats,
    aggregate,
    is_nondeterministic,
)
from endpoints.warehouse.embedded import EmbeddedWarehouse
from endpoints.warehouse.protocol import Caps, Statement

# Not functions of rows alone, but not wrong to keep either: each with the reason.
KEPT = {
    "arrayJoin": "makes rows, the same each time",
    "unnest": "another name of arrayJoin",
    "financialNetPresentValueExtended": "is the same for the same arguments",
    "toColumnTypeName": "a constant of the plan's types",
    "chdb": "a name",
    "__applyFilter": "internal",
}


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, object]]]:
    warehouse = EmbeddedWarehouse(tmp_path_factory.mktemp("none"), workers=1)
    sql = "SELECT name, is_aggregate, deterministic FROM system.functions"
    with warehouse.run(Statement(sql), Caps()) as result:
        rows = pa.Table.from_batches(list(result)).to_pylist()
    yield [row | {"name": row["name"].decode()} for row in rows]
    warehouse.close()


def test_what_the_engine_calls_not_deterministic_is_refused(functions: list[dict[str, object]]) -> None:
    names = [str(f["name"]) for f in functions if not f["is_aggregate"] and f["deterministic"] != 1]
    missed = [n for n in names if not is_nondeterministic(n) and n.lower() not in CLOCK and n not in KEPT]
    assert missed == []


def test_aggregates_are_known(functions: list[dict[str, object]]) -> None:
    windows = {"lagInFrame", "leadInFrame", "lag", "lead", "nth_value", "ntile", "row_number", "cume_dist"}
    windows |= {"rank", "dense_rank", "denseRank", "percent_rank", "percentRank", "nonNegativeDerivative"}
    names = [str(f["name"]) for f in functions if f["is_aggregate"]]
    unknown = [n for n in names if not aggregate(n) and n not in windows and not n.startswith("timeSeries")]
    assert unknown == []
    assert [f["name"] for f in functions if not f["is_aggregate"] and aggregate(str(f["name"]))] == []


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("uniqIf", ("uniq", ("if",))),
        ("argMax", ("argmax", ())),
        ("sumMapIf", ("summap", ("if",))),
        ("quantileExactArrayIf", ("quantileexact", ("array", "if"))),
        ("COUNT", ("count", ())),
        ("toDate", None),
        ("if", None),
    ],
)
def test_combinators(name: str, found: tuple[str, tuple[str, ...]] | None) -> None:
    assert aggregate(name) == found


def test_each_aggregate_has_one_class() -> None:
    names = [name for names in MERGING.values() for name in names]
    assert len(names) == len(set(names))


def test_floats_are_told_from_what_counts_or_compares_them() -> None:
    assert adds_floats("avgIf", "AggregateFunction(avgIf, Float64, UInt8)")
    assert adds_floats("varPop", "AggregateFunction(varPop, Int64)")
    assert adds_floats("max", "Float32")
    assert not adds_floats("avg", "AggregateFunction(avg, Int64)")
    assert not adds_floats("uniq", "AggregateFunction(uniq, Float64)")
    assert not adds_floats("any", "AggregateFunction(any, Float64)")
