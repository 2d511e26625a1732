"""What a plan's predicates are called, and which aggregates ClickHouse itself does not reproduce."""

from __future__ import annotations

import pytest

from endpoints.query.plan import Plan, make_plan
from endpoints.query.plan.describe import Changing, changing, predicates
from tests.parity.harness import version_of


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("k = {a:String}", ["a: k ="]),
        ("k == {a:String} AND {a:String} = k", ["a: k ="]),
        (
            "k = {a:String} AND ts >= {since:DateTime} AND ts < {until:DateTime}",
            ["a: k =", "since: ts >=", "until: ts <"],
        ),
        ("{a:Int64} <= x", ["a: x >="]),
        (
            "x BETWEEN {lo:Int64} AND {hi:Int64} AND y != {n:Int64}",
            ["lo: x BETWEEN", "hi: x BETWEEN", "n: y !="],
        ),
        ("x NOT BETWEEN {lo:Int64} AND 9", ["lo: x NOT BETWEEN"]),
        ("k IN {ks:Array(String)}", ["ks: k IN"]),
        ("k NOT IN ({i:String}, {j:String})", ["i: k NOT IN", "j: k NOT IN"]),
        ("(k, x) IN (({a:String}, {b:Int64}))", ["a: (k, x) IN", "b: (k, x) IN"]),
        ("lower(k) LIKE {p:String} OR k ILIKE {q:String}", ["p: lower(k) LIKE", "q: k ILIKE"]),
        ("(k = {a:String} OR (u = {b:String} AND x > {n:Int64}))", ["a: k =", "b: u =", "n: x >"]),
        ("NOT (x < {n:Int64} AND k = {a:String})", ["n: x NOT <", "a: k !="]),
        ("NOT k NOT LIKE {p:String}", ["p: k LIKE"]),
        ("has(tags, {t:String})", ["t: tags has"]),
        ("startsWith(k, {p:String})", ["p: k startsWith"]),
        ("k LIKE concat('%', {p:String}, '%')", ["p: k LIKE"]),
        ("toDate(ts) = toDate({d:String})", ["d: toDate(ts) ="]),
        ("d >= {x:Date} - INTERVAL 1 DAY", ["x: d >="]),
        ("({c:String} = '' OR k = {c:String})", ["c: k ="]),
    ],
)
def test_each_comparison_names_its_variable_and_operator(where: str, expected: list[str]) -> None:
    plan = make_plan(version_of(f"SELECT count() AS n FROM t WHERE {where}"))
    assert isinstance(plan, Plan), plan
    assert [f"{p.variable}: {p.expression} {p.operator}" for p in predicates(plan)] == expected


@pytest.mark.parametrize(
    ("sql", "functions", "columns"),
    [
        ("SELECT k, count() AS n FROM t GROUP BY k", (), frozenset()),
        ("SELECT k, any(x) AS a FROM t GROUP BY k ORDER BY k", ("any",), {1}),
        ("SELECT k, topK(3)(x), uniq(x) FROM t GROUP BY k", ("topK",), {1}),
        ("SELECT k, any(x) AS a FROM t GROUP BY k ORDER BY a", ("any",), None),
        ("SELECT k, any(x) FROM t GROUP BY k ORDER BY 2", ("any",), None),
        ("SELECT k FROM t GROUP BY k HAVING any(x) > 1", ("any",), None),
        (
            "SELECT count() FROM (SELECT groupArray(x) AS g FROM t GROUP BY k) WHERE length(g) > 1",
            ("groupArray",),
            None,
        ),
        ("SELECT any(x) AS a FROM t UNION ALL SELECT 1", ("any",), None),
        ("SELECT *, any(x) AS a FROM t GROUP BY ALL", ("any",), None),
        ("SELECT first_value(x) OVER (ORDER BY y) AS f FROM t", (), frozenset()),
    ],
)
def test_what_may_change_though_no_row_has(
    sql: str, functions: tuple[str, ...], columns: set[int] | None
) -> None:
    assert changing(sql) == Changing(functions, None if columns is None else frozenset(columns))
