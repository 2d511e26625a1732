"""Plans as text: what is spliced where, what waits for the request, what is said where there is no plan."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.query.lexer import Kind, tokenize
from endpoints.query.plan import Plan, Refused, make_plan
from endpoints.query.plan.reasons import REASONS, refusal
from tests.parity.harness import version_of


def planned(sql: str, *optional: str) -> Plan:
    plan = make_plan(version_of(sql, frozenset(optional)))
    assert isinstance(plan, Plan), plan
    return plan


def refused(sql: str, *optional: str) -> list[str]:
    plan = make_plan(version_of(sql, frozenset(optional)))
    assert isinstance(plan, Refused), plan
    return [reason.code for reason in plan.reasons]


def squeezed(sql: str) -> str:
    return re.sub(r"\s+", " ", sql).strip()


def test_equality_becomes_a_column_of_the_same_select() -> None:
    plan = planned(
        "SELECT toDate(ts) AS day, count() FROM t WHERE k = {k:String} AND x > 1 GROUP BY day ORDER BY day"
    )
    assert squeezed(plan.materialize_sql) == (
        "SELECT toDate(ts) AS day, count(), (k) AS __d0 FROM t WHERE 1 AND x > 1 GROUP BY day, __d0"
        " ORDER BY __d0, day, 1, 2"
    )
    assert [(d.variable, d.expression, d.operator) for d in plan.dimensions] == [("k", "k", "=")]
    assert plan.seek == plan.dimensions
    assert plan.finish is None


def test_comments_swallow_nothing() -> None:
    plan = planned("SELECT a -- the first\nFROM t -- all of it\nWHERE k = {k:String} -- one\n;")
    assert plan.materialize_sql.splitlines() == [
        "SELECT a, (k) AS __d0 -- the first",
        "FROM t -- all of it",
        "WHERE 1",
        "ORDER BY __d0, 1",
    ]


def test_the_text_between_is_untouched() -> None:
    odd = "sum(x)  /* two  spaces */ , 'it''s -- no comment', `a ``b`"
    plan = planned(f"SELECT {odd} FROM t WHERE k = {{k:String}} GROUP BY `a ``b`")
    assert odd in plan.materialize_sql


def test_limit_counts_per_value() -> None:
    assert (
        "LIMIT 4, 3 BY __d0"
        in planned("SELECT a FROM t WHERE k = {k:String} ORDER BY a LIMIT 3 OFFSET 4").materialize_sql
    )


def test_limit_waits_where_a_condition_does() -> None:
    plan = planned("SELECT a FROM t WHERE a > {a:Int8} ORDER BY a LIMIT 3 OFFSET 4")
    assert "LIMIT" not in plan.materialize_sql
    assert (plan.cut.limit, plan.cut.offset) == (3, 4)


def test_conditions_hold_the_authors_words_over_columns() -> None:
    plan = planned("SELECT a FROM t WHERE lower(k) LIKE concat('%', {p:String}) OR b.c[1] > {n:Int8} * x")
    (condition,) = plan.conditions
    assert condition.sql == "__d0 LIKE concat('%', {p:String}) OR __d1 > {n:Int8} * __d2"
    assert [d.expression for d in plan.dimensions] == ["lower(k)", "b.c[1]", "x"]
    assert condition.variables == ("p", "n")


def test_constants_stay_constants() -> None:
    (condition,) = planned("SELECT a FROM t WHERE d >= toDate('2026-01-01') + {n:Int8}").conditions
    assert condition.sql == "__d0 >= toDate('2026-01-01') + {n:Int8}"


def test_units_are_no_columns_but_columns_may_be_called_so() -> None:
    (condition,) = planned("SELECT a FROM t WHERE day >= {d:Date} - INTERVAL 1 DAY").conditions
    assert condition.sql == "__d0 >= {d:Date} - INTERVAL 1 DAY"


def test_an_optional_variable_never_names_one_value() -> None:
    plan = planned("SELECT a FROM t WHERE k = {k:String}", "k")
    assert plan.seek == ()
    assert plan.conditions[0].comparison == ("__d0", "=", "k")


def test_a_float_never_names_one_value() -> None:
    assert planned("SELECT a FROM t WHERE f = {f:Float64}").seek == ()


def test_the_cut_stores_states_and_finishes_in_the_authors_words() -> None:
    plan = planned(
        "SELECT g, round(avg(x) / 2, 1) AS half FROM t WHERE k != {k:String}"
        " GROUP BY g HAVING count() > 2 ORDER BY half"
    )
    assert plan.finish is not None
    assert squeezed(plan.finish.inner_sql) == (
        "SELECT round(avg(x) / 2, 1) AS half, (g) AS __k0, (k) AS __d0, avgState(x) AS __s0, count() AS __s1"
        " FROM t WHERE 1 GROUP BY __k0, __d0"
    )
    assert squeezed(plan.finish.sql) == (
        "SELECT __k0 AS `g`, round(avgMerge(__s0) / 2, 1) AS half FROM __asset GROUP BY __k0"
        " HAVING sum(__s1) > 2 ORDER BY half, 1, 2"
    )
    assert plan.hidden == ("__k0", "__d0", "__s0", "__s1")


@pytest.mark.parametrize(
    ("call", "merged"),
    [
        ("count()", "sum(__s0)"),
        ("sumIf(x, y)", "sum(__s0)"),
        ("min(x)", "min(__s0)"),
        ("minIf(x, y)", "minIfMerge(__s0)"),
        ("uniqIf(x, y)", "uniqIfMerge(__s0)"),
        ("quantileExact(0.9)(x)", "quantileExactMerge(0.9)(__s0)"),
        ("count(DISTINCT x)", "uniqExactMerge(__s0)"),
        ("sum(DISTINCT x)", "sumDistinctMerge(__s0)"),
        ("avg(x) FILTER (WHERE y)", "avgIfMerge(__s0)"),
        ("count() FILTER (WHERE y)", "sum(__s0)"),
        ("uniqMerge(x)", "uniqMerge(__s0)"),
        ("groupConcat(x, ',')", "groupConcatMerge(',')(__s0)"),
    ],
)
def test_merging(call: str, merged: str) -> None:
    finish = planned(f"SELECT {call} AS a FROM t WHERE k = {{k:String}}").finish
    assert finish is not None
    assert finish.sql.startswith(f"SELECT {merged} AS a")


@pytest.mark.parametrize(
    "call",
    [
        "deltaSum(x)",
        "uniqState(x)",
        "uniqMergeIf(x, y)",
        "first_value(x) RESPECT NULLS",
        "countIf(DISTINCT x, y)",
        "sum(DISTINCT x) FILTER (WHERE y)",
    ],
)
def test_what_does_not_merge_is_refused(call: str) -> None:
    sql = f"SELECT g, {call} AS a FROM t JOIN u USING k WHERE x > {{x:Int64}} GROUP BY g"
    assert refused(sql) == ["aggregate"]


def test_refusals_say_where_and_what_instead() -> None:
    plan = make_plan(version_of("SELECT a\nFROM t\nWHERE k = {k:String}\n  AND ts < now()"))
    assert isinstance(plan, Refused)
    (reason,) = plan.reasons
    assert (reason.code, reason.line) == ("clock", 4)
    assert "variable" in reason.fix


def test_every_reason_reads_well() -> None:
    for code in REASONS:
        said = refusal(code, 1, "x")
        assert said.detail
        assert said.fix.endswith(".")
        assert "{" not in said.detail


def test_columns_called_like_functions_are_columns() -> None:
    assert planned("SELECT now, t.today FROM t WHERE rand = {k:String}").seek


def test_selects_of_a_union_carry_their_dimensions_in_one_order() -> None:
    sql = """SELECT a FROM t WHERE k = {k:String} AND x = {x:Int8}
    UNION ALL -- more
    (SELECT b FROM u WHERE {x:Int8} = y AND lower(k) = {k:String})"""
    plan = planned(sql)
    assert [dimension.variable for dimension in plan.seek] == ["k", "x"]
    assert plan.hidden == ("__d0", "__d1")
    assert "SELECT a, (k) AS __d0, (x) AS __d1 FROM t" in plan.materialize_sql
    assert "SELECT b, (lower(k)) AS __d0, (y) AS __d1 FROM u" in plan.materialize_sql
    assert plan.materialize_sql.endswith("ORDER BY __d0, __d1, 1")
    assert not plan.distinct


def test_a_select_of_a_union_that_cannot_be_stored_is_named_by_its_line() -> None:
    sql = "SELECT a FROM t WHERE k = {k:String}\nUNION ALL\nSELECT count() FROM t JOIN u USING {k:String}"
    refused = make_plan(version_of(sql))
    assert isinstance(refused, Refused)
    assert [(reason.code, reason.line) for reason in refused.reasons] == [("union_branch", 3)]


def test_planning_is_pure() -> None:
    version = version_of("SELECT a FROM t WHERE k = {k:String}")
    assert make_plan(version) == make_plan(version)


QUERIES = (
    "SELECT a, count() AS c FROM t WHERE k = {k:String} AND a >= {n:Int8} GROUP BY a HAVING c > 1 LIMIT 3",
    "SELECT g, sum(x) AS s FROM t WHERE (y = {y:Int8} OR z LIKE {z:String}) GROUP BY g ORDER BY s DESC",
    "SELECT DISTINCT a FROM t WHERE b > {b:Int8} ORDER BY a",
    "SELECT a FROM t WHERE k = {k:String} UNION ALL (SELECT b FROM u WHERE k = {k:String} LIMIT 2)",
)
BETWEEN = st.sampled_from([" ", "\n", "\t ", " -- AND k = 1\n", " /* WHERE ; */ "])


def _texts(sql: str) -> list[str]:
    return [t.text for t in tokenize(sql) if t.kind not in (Kind.SPACE, Kind.COMMENT)]


@given(sql=st.sampled_from(QUERIES), data=st.data())
def test_spaces_and_comments_change_no_plan(sql: str, data: st.DataObject) -> None:
    spaced = "".join(t.text if t.kind is not Kind.SPACE else data.draw(BETWEEN) for t in tokenize(sql))
    plain, other = planned(sql), planned(spaced)
    assert _texts(plain.materialize_sql) == _texts(other.materialize_sql)
    assert [_texts(c.sql) for c in plain.conditions] == [_texts(c.sql) for c in other.conditions]
    assert _texts(plain.finish_sql or "") == _texts(other.finish_sql or "")


def test_every_reason_is_documented() -> None:
    documented = (Path(__file__).parents[2] / "docs" / "plan.md").read_text()
    assert [code for code in REASONS if f"`{code}`" not in documented] == []
