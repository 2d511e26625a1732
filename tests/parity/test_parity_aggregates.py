"""Every aggregate that plans know, stored in parts and merged: beside live's answer, and named or refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from endpoints.parity import rows_of
from endpoints.query.bind import bind
from endpoints.query.plan import Plan, Refused
from endpoints.query.plan.describe import changing
from endpoints.query.plan.functions import MERGING, Merging, aggregate
from endpoints.query.plan.select import Source, Span
from endpoints.query.plan.terms import calls
from tests.parity.aggregates import EXACT, FLOATS, ORDER, TIES
from tests.parity.data import write_tables
from tests.parity.harness import NOW, Bench, Case, version_of

TABLE = {Merging.EXACT: EXACT, Merging.FLOATS: FLOATS, Merging.TIES: TIES, Merging.ORDER: ORDER}
AT_ONCE = 40
UNTRIED = {
    *("nothing", "nothingnull", "nothinguint64"),  # of NULL literals only
    *("distinctjsonpaths", "distinctjsonpathsandtypes"),  # of a type that files cannot hold
    "hierarchicalkmeans",
}
# Five values of `i` are the parts; with 99 nothing matches.
GIVEN = ({"i": -2}, {"i": 99})
GROUPS = "SELECT g, {items} FROM t WHERE i > {{i:Int32}} GROUP BY g ORDER BY g"
TOTALS = "SELECT {items} FROM t WHERE i > {{i:Int32}}"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    data: Path = tmp_path_factory.mktemp("data")
    write_tables(data, seed=7)
    bench = Bench.over(data, tmp_path_factory.mktemp("lake"))
    yield bench
    bench.close()


def several(*tables: dict[str, tuple[str, ...]]) -> list[str]:
    """Items of SELECT, some calls at a time."""
    every = [call for table in tables for written in table.values() for call in written]
    chunks = (every[at : at + AT_ONCE] for at in range(0, len(every), AT_ONCE))
    return [", ".join(f"{call} AS a{at}" for at, call in enumerate(chunk)) for chunk in chunks]


@pytest.mark.parametrize("shape", [GROUPS, TOTALS], ids=["groups", "totals"])
@pytest.mark.parametrize("items", several(EXACT, TIES, ORDER))
def test_states_merge_to_live_answers(bench: Bench, items: str, shape: str) -> None:
    outcome = bench.run(Case(shape.format(items=items), GIVEN))
    assert outcome.refused is None, outcome.refused
    assert not outcome.differences, "\n".join(outcome.differences)


@pytest.mark.parametrize("shape", [GROUPS, TOTALS], ids=["groups", "totals"])
@pytest.mark.parametrize("items", several(FLOATS))
def test_floats_merge_but_for_their_last_bits(bench: Bench, items: str, shape: str) -> None:
    version = version_of(shape.format(items=items))
    plan = bench.plan(version)
    assert isinstance(plan, Plan), plan
    manifest = bench.materialize(version, plan)
    assert plan.width is not None
    for given in GIVEN:
        bound = bind(version, given, now=NOW)
        asset = bench.reader.read(manifest, plan, bound, limit=None, offset=0, max_rows=1000)
        live = bench.live(bound, plan.width)
        assert [column.type for column in asset.columns] == [column.type for column in live.columns]
        assert close(rows_of(asset.table), rows_of(live.table)), (given, asset.table, live.table)


def close(one: Any, other: Any) -> bool:
    """The same but for last bits: of ratios near 1, and of sums some thousands large."""
    if isinstance(one, float) and isinstance(other, float):
        both_nan = math.isnan(one) and math.isnan(other)
        return both_nan or math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(close(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict):
        return close(list(one.values()), list(other.values()))
    return bool(one == other)


@pytest.mark.parametrize("merging", TABLE)
def test_the_whole_table_is_tried(merging: Merging) -> None:
    tried = {name for written in TABLE[merging].values() for call in written for name in bases(call)}
    assert MERGING[merging] - tried - UNTRIED == set()


def bases(call: str) -> Iterator[str]:
    source = Source(call)
    for term in calls(source, Span(0, len(source.tokens))):
        if found := aggregate(term.function or ""):
            yield found[0]


@pytest.mark.parametrize("call", ["any(x)", "topK(3)(k)", "argMax(k, x)", "quantile(0.9)(x)"])
def test_what_rows_in_another_order_change_is_named(bench: Bench, call: str) -> None:
    version = version_of(f"SELECT g, {call} AS a FROM t WHERE i > {{i:Int32}} GROUP BY g")
    plan = bench.plan(version)
    assert isinstance(plan, Plan), plan
    [note] = changing(version.sql, plan.floats).notes
    assert note.startswith(call.split("(")[0])


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT g, sum(f) AS a FROM t WHERE {i} GROUP BY g", "ClickHouse itself"),
        ("SELECT g, var_pop(i) AS a FROM t WHERE {i} GROUP BY g", "ClickHouse itself"),
        ("SELECT g, round(avg(f), 2) AS a FROM t WHERE {i} GROUP BY g", "rounded or compared"),
        ("SELECT g, sum(f) > 0.6 AS a FROM t WHERE {i} GROUP BY g", "rounded or compared"),
        ("SELECT g FROM t WHERE {i} GROUP BY g HAVING sum(f) > 0.6", "which rows there are"),
        ("SELECT g, sum(f) AS a FROM t WHERE {i} GROUP BY g ORDER BY a LIMIT 1", "which rows there are"),
        ("SELECT a FROM (SELECT g, sum(f) AS a FROM t WHERE {i} GROUP BY g) GROUP BY a", "which rows there"),
        ("SELECT DISTINCT a > 1 AS b FROM (SELECT g, sum(f) AS a FROM t WHERE {i} GROUP BY g)", "which rows"),
    ],
)
def test_floats_are_named_with_what_they_decide(bench: Bench, sql: str, said: str) -> None:
    version = version_of(sql.replace("{i}", "i > {i:Int32}"))
    plan = bench.plan(version)
    assert isinstance(plan, Plan), plan
    [note] = changing(version.sql, plan.floats).notes
    assert said in note


@pytest.mark.parametrize("call", ["sum(x)", "avg(price)", "uniq(f)", "quantileExact(x)", "max(n)"])
def test_what_is_exact_has_no_note(bench: Bench, call: str) -> None:
    plan = bench.plan(version_of(f"SELECT g, {call} AS a FROM t WHERE i > {{i:Int32}} GROUP BY g"))
    assert isinstance(plan, Plan), plan
    assert plan.floats == ()


@pytest.mark.parametrize("name", sorted(MERGING[Merging.WRONG] | MERGING[Merging.STATELESS]))
def test_what_does_not_merge_is_refused(bench: Bench, name: str) -> None:
    """Case is of no matter: the text alone tells."""
    plan = bench.plan(version_of(f"SELECT g, {name}(x) AS a FROM t WHERE i > {{i:Int32}} GROUP BY g"))
    assert isinstance(plan, Refused)
    assert [reason.code for reason in plan.reasons] == ["aggregate"]


@pytest.mark.parametrize("call", ["groupArray(x)", "any(x)", "argMax(x, i)"])
def test_rows_in_an_order_are_not_taken_apart(bench: Bench, call: str) -> None:
    """Live, groupArray over an ordered subquery gives that order, in practice."""
    below = "(SELECT * FROM t ORDER BY x DESC)"
    plan = bench.plan(version_of(f"SELECT g, {call} AS a FROM {below} WHERE i > {{i:Int32}} GROUP BY g"))
    assert isinstance(plan, Refused)
    assert [reason.code for reason in plan.reasons] == ["aggregate"]


def test_states_of_a_table_are_merged_further(bench: Bench) -> None:
    states = "(SELECT g, i, uniqState(x) AS u, quantilesExactState(0.1, 0.9)(x) AS q FROM t GROUP BY g, i)"
    merged = "uniqMerge(u) AS people, quantilesExactMerge(0.1, 0.9)(q) AS ends"
    sql = f"SELECT g, {merged} FROM {states} WHERE i > {{i:Int32}} GROUP BY g ORDER BY g"
    outcome = bench.run(Case(sql, GIVEN))
    assert outcome.refused is None, outcome.refused
    assert not outcome.differences
