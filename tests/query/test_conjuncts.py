"""Where conditions are split, and which of them an optional variable may take away."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from endpoints.query.conjuncts import Conjunct, conjunct_of, conjuncts, optional_conjunct, select_conjuncts
from endpoints.query.structure import parse, select_at, selects
from endpoints.query.variables import Placeholder, placeholders


def split(condition: str) -> list[str]:
    sql = f"SELECT 1 FROM t WHERE {condition} GROUP BY a"
    clause = selects(sql)[0].clause("WHERE")
    assert clause is not None
    return [sql[c.start : c.end] for c in conjuncts(clause)]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("a = 1", ["a = 1"]),
        ("a = 1 AND b = 2 and c", ["a = 1", "b = 2", "c"]),
        ("a BETWEEN 1 AND 2 AND b", ["a BETWEEN 1 AND 2", "b"]),
        ("a NOT BETWEEN 1 AND 2 AND b BETWEEN 3 AND 4", ["a NOT BETWEEN 1 AND 2", "b BETWEEN 3 AND 4"]),
        ("a OR b AND c", ["a OR b AND c"]),
        ("a AND (b OR c)", ["a", "b OR c"]),
        ("(a AND b) AND ((c))", ["a", "b", "c"]),
        ("(a, b) IN (SELECT 1, 2) AND c", ["(a, b) IN (SELECT 1, 2)", "c"]),
        ("(SELECT 1 AND 2) AND c", ["(SELECT 1 AND 2)", "c"]),
        ("NOT a AND b", ["NOT a", "b"]),
        ("CASE WHEN a AND b THEN c ELSE d END AND e", ["CASE WHEN a AND b THEN c ELSE d END", "e"]),
        ("a ? b AND c : d", ["a ? b AND c : d"]),
        ("a AND t.and = 1", ["a", "t.and = 1"]),
        ("a -- AND x\n AND /* AND */ 'AND' = b", ["a", "'AND' = b"]),
        ("arrayExists(x -> x AND y, z) AND b", ["arrayExists(x -> x AND y, z)", "b"]),
        ("a = 1 AND b IN (1, 2)", ["a = 1", "b IN (1, 2)"]),
    ],
)
def test_split(condition: str, expected: list[str]) -> None:
    assert split(condition) == expected


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_the_conjuncts_together_are_the_condition(clickhouse, data: st.DataObject) -> None:
    """ClickHouse agrees that splitting and joining by AND changes no answer."""
    atoms = st.sampled_from(
        ["a", "b", "NOT a", "c BETWEEN 1 AND 2", "c NOT BETWEEN 1 AND b", "c IN (0, 1)", "(c = 2)"]
    )
    condition = st.recursive(
        atoms,
        lambda inner: (
            st.tuples(inner, st.sampled_from([" AND ", " OR ", " AND NOT "]), inner).map("".join)
            | inner.map(lambda text: f"({text})")
        ),
        max_leaves=6,
    )
    text = data.draw(condition)
    joined = " AND ".join(f"({part})" for part in split(text))
    table = (
        "(SELECT number % 2 AS a, intDiv(number, 2) % 2 AS b, intDiv(number, 4) % 4 AS c FROM numbers(16))"
    )
    rows = clickhouse.rows(f"SELECT countIf(({text}) != ({joined})) FROM {table}")
    assert rows in ([["0"]], [[0]])


def first(sql: str, name: str = "v") -> Placeholder:
    return next(p for p in placeholders(sql) if p.name == name)


@pytest.mark.parametrize(
    ("sql", "dropped"),
    [
        ("SELECT a FROM t WHERE b = {v:String}", "b = {v:String}"),
        ("SELECT a FROM t WHERE b AND (c = {v:String}) AND d = {w:String}", "c = {v:String}"),
        ("SELECT a FROM t PREWHERE c LIKE concat({v:String}, '%') WHERE b", "c LIKE concat({v:String}, '%')"),
        ("SELECT a, count() FROM t GROUP BY a HAVING count() > {v:UInt8} ORDER BY a", "count() > {v:UInt8}"),
        ("SELECT a FROM t WHERE NOT b = {v:String}", "NOT b = {v:String}"),
        (
            "SELECT a FROM t WHERE b BETWEEN {v:UInt8} AND {v:UInt8} + 1",
            "b BETWEEN {v:UInt8} AND {v:UInt8} + 1",
        ),
        ("SELECT a FROM (SELECT * FROM t WHERE b = {v:String}) WHERE c = {w:String}", "b = {v:String}"),
        ("SELECT a FROM t WHERE (b, {v:String}) IN (SELECT c, d FROM u WHERE e OR f)", None),
        (
            "WITH x AS (SELECT 1 FROM t WHERE b = CAST({v:String} AS UInt8)) SELECT 1 FROM x",
            "b = CAST({v:String} AS UInt8)",
        ),
    ],
)
def test_an_optional_variable_takes_its_conjunct(sql: str, dropped: str | None) -> None:
    found = optional_conjunct(sql, first(sql))
    assert isinstance(found, Conjunct)
    assert sql[found.start : found.end] == (dropped or sql[sql.index("(b,") :])


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT {v:String} FROM t", "no condition"),
        ("SELECT a FROM t LIMIT {v:UInt8}", "no condition"),
        ("SELECT a FROM t JOIN u ON t.a = u.a AND u.b = {v:String}", "no condition"),
        ("SELECT countIf(a = {v:String}) FROM t", "no condition"),
        ("SELECT a FROM t WHERE (b = {w:String} OR c = {v:String})", "shares its condition with w"),
        ("SELECT a FROM t WHERE b BETWEEN {v:UInt8} AND {w:UInt8}", "shares its condition with w"),
        ("SELECT a FROM t WHERE b = 1 OR c = {v:String}", "under OR"),
        ("SELECT a FROM t WHERE NOT (b = 1 AND c = {v:String})", "under OR"),
        ("SELECT a FROM t WHERE or(b = 1, c = {v:String})", "under OR"),
        ("SELECT a FROM t WHERE if(b, c = {v:String}, d)", "under OR"),
        ("SELECT a FROM t WHERE b ? c = {v:String} : 1", "under OR"),
        ("SELECT a FROM t WHERE CASE WHEN b THEN c = {v:String} END", "under OR"),
        ("SELECT a, x FROM t WHERE (b = {v:String} AS x)", "AS"),
    ],
)
def test_an_optional_variable_must_have_a_conjunct_of_its_own(sql: str, reason: str) -> None:
    refusal = optional_conjunct(sql, first(sql))
    assert isinstance(refusal, str)
    assert reason in refusal


def test_conjuncts_know_their_clause_and_variables() -> None:
    where = "SELECT a FROM t WHERE b = {v:String} AND c GROUP BY a"
    sql = f"{where} HAVING max(d) IN (SELECT e FROM u WHERE f = {{w:UInt8}})"
    select = parse(sql).branches[0]
    assert select == select_at(sql, 0)
    found = [(c.clause, sorted(c.variables)) for c in select_conjuncts(select)]
    assert found == [("WHERE", ["v"]), ("WHERE", []), ("HAVING", ["w"])]
    # The innermost SELECT's own condition holds it.
    inner = conjunct_of(sql, first(sql, "w"))
    assert inner is not None
    assert sql[inner.start : inner.end] == "f = {w:UInt8}"
