"""Clauses found on tokens, held against ClickHouse's own formatter, which begins a line with each clause."""

import re

import pytest

from endpoints.query.structure import Query, Select, parse, select_at, selects

ONE_SELECT = [
    "SELECT 1",
    "SELECT a, b FROM t WHERE a = 1 GROUP BY a, b HAVING count() > 1 ORDER BY a LIMIT 10",
    "SELECT limit FROM t LIMIT 1",
    "SELECT offset, format, settings, window FROM t WHERE offset = 1 ORDER BY offset LIMIT 5 OFFSET 1",
    "SELECT a AS limit FROM t ORDER BY limit LIMIT 2",
    "SELECT a AS from, t.where FROM t WHERE t.limit = 1",
    "SELECT a, FROM t",
    "SELECT * EXCEPT (a, b) FROM t",
    "SELECT * EXCEPT a FROM t WHERE 1",
    "SELECT t.* EXCEPT (a) REPLACE (b + 1 AS b) FROM t",
    "SELECT count() * limit FROM t WHERE a * b > 1",
    "SELECT extract(day FROM d), trim(BOTH ' ' FROM s), substring(s FROM 1 FOR 2) FROM t",
    "SELECT a FROM t WHERE a IS NOT DISTINCT FROM b AND c IS DISTINCT FROM d",
    "SELECT a FROM t WHERE a NOT IN (SELECT b FROM u WHERE c) AND d NOT BETWEEN 1 AND 2 ORDER BY a",
    "SELECT CASE WHEN a THEN 1 ELSE 2 END AS x FROM t WHERE CASE a WHEN 1 THEN b ELSE c END",
    "SELECT a FROM t FINAL SAMPLE 1 / 10 ARRAY JOIN b AS c PREWHERE a WHERE b",
    "SELECT a FROM t SAMPLE 1 / 10 OFFSET 1 / 2 WHERE b LIMIT 3 OFFSET 1",
    "SELECT a FROM t AS x LEFT JOIN u AS y ON x.a = y.a AND x.b > 1 INNER JOIN v USING (a) WHERE z",
    "SELECT a, sum(b) FROM t GROUP BY a WITH TOTALS HAVING sum(b) > 1 ORDER BY a DESC NULLS FIRST",
    "SELECT a FROM t ORDER BY a WITH FILL FROM 1 TO 10 STEP 2 LIMIT 3",
    "SELECT a FROM t ORDER BY a LIMIT 1 BY b LIMIT 2",
    "SELECT a FROM t ORDER BY a LIMIT 2 OFFSET 1 BY a, b LIMIT 10 OFFSET 3",
    "SELECT a FROM t ORDER BY a LIMIT 2 WITH TIES",
    "SELECT a FROM t LIMIT 1, 2 SETTINGS join_use_nulls = 1",
    "SELECT sum(x) OVER w, sum(y) FILTER (WHERE z) FROM t WINDOW w AS (ORDER BY b) QUALIFY x > 1",
    "WITH 1 AS x, y AS (SELECT a FROM t WHERE b LIMIT 1) SELECT x FROM y WHERE x",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT n FROM r",
    "SELECT (SELECT max(a) FROM u WHERE b) AS m, arrayMap(x -> x + 1, [1]) FROM t WHERE a > (SELECT 1)",
    "SELECT a ? b : c FROM t WHERE d",
    "SELECT a FROM t GROUP BY GROUPING SETS ((a), ()) ORDER BY ALL",
    "SELECT 'FROM x WHERE', \"where\", `limit` FROM t -- ORDER BY\nWHERE /* GROUP BY */ 1",
    "SELECT INTERVAL 1 DAY + d FROM t WHERE d > now() - INTERVAL 3 HOUR LIMIT 1",
    "SELECT {limit:UInt8} FROM t WHERE a = {where:String} LIMIT {n:UInt32}",
    "SELECT a FROM t WHERE NOT a AND b LIKE '%x' OR c ILIKE 'y' GROUP BY ALL",
]
# What the formatter writes anew.
OTHERS = ["SELECT DISTINCT ON (a) b FROM t", "FROM t SELECT a WHERE b", "SELECT TOP 3 a FROM t"]
JOINED = [
    "SELECT a FROM t UNION ALL SELECT b FROM u WHERE c",
    "SELECT a FROM t EXCEPT SELECT * EXCEPT (b) FROM u INTERSECT DISTINCT SELECT 1 LIMIT 3",
    "(SELECT a FROM t LIMIT 1) UNION DISTINCT (SELECT b FROM u ORDER BY b)",
    "SELECT a FROM (SELECT b FROM t UNION ALL SELECT c FROM u) WHERE a",
]
LINES = re.compile(
    r"(WITH|SELECT|FROM|PREWHERE|WHERE|GROUP BY|HAVING|WINDOW|QUALIFY|ORDER BY|LIMIT|OFFSET|SETTINGS)\b"
)


def clickhouse_clauses(clickhouse, sql: str) -> list[str]:
    """The clauses of all SELECTs by ClickHouse's formatter, outermost ones only."""
    quoted = sql.replace("\\", "\\\\").replace("'", "\\'")
    [[text]] = clickhouse.rows(f"SELECT formatQuery('{quoted}')")
    found = []
    for line in str(text).splitlines():
        match = LINES.match(line)
        if match and not line.startswith("WITH TOTALS"):
            found.append(match[1])
    return found


def our_clauses(query: Query) -> list[str]:
    own = [branch for branch in query.branches if isinstance(branch, Select)]
    return [clause.keyword for select in own for clause in select.clauses]


@pytest.mark.parametrize("sql", ONE_SELECT)
def test_clauses_are_those_of_clickhouse(clickhouse, sql: str) -> None:
    theirs = clickhouse_clauses(clickhouse, sql)
    # The formatter writes OFFSET into the line of LIMIT.
    ours = [word.replace("LIMIT BY", "LIMIT") for word in our_clauses(parse(sql)) if word != "OFFSET"]
    assert ours == theirs


@pytest.mark.parametrize("sql", [*ONE_SELECT, *OTHERS, *JOINED])
def test_clauses_cover_the_text_without_gaps(sql: str) -> None:
    for select in selects(sql):
        assert select.clauses[0].start == select.start
        assert select.clauses[-1].end == select.end
        for clause, later in zip(select.clauses, select.clauses[1:], strict=False):
            assert clause.end <= later.start
            between = sql[clause.end : later.start]
            assert not between.strip() or "--" in between or "/*" in between


def outline(query: Query | Select) -> object:
    if isinstance(query, Query):
        return [outline(branch) for branch in query.branches]
    return (query.operator, "".join(word[0] for word in our_clauses(Query((query,), 0, 0, 0))))


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (JOINED[0], [("", "SF"), ("UNION ALL", "SFW")]),
        (JOINED[1], [("", "SF"), ("EXCEPT", "SF"), ("INTERSECT DISTINCT", "SL")]),
        (JOINED[2], [[("", "SFL")], [("", "SFO")]]),
        (JOINED[3], [("", "SFW")]),
        ("((SELECT 1))", [[[("", "S")]]]),
        ("FROM t SELECT a WHERE b", [("", "FSW")]),
        ("SELECT a EXCEPT ALL (SELECT 2) SETTINGS x = 1", [("", "S"), [("", "S")]]),
        ("", []),
    ],
)
def test_set_operators_and_brackets(sql: str, expected: object) -> None:
    assert outline(parse(sql)) == expected


def test_clauses_after_a_closing_bracket_are_kept() -> None:
    trailing = parse("(SELECT 1) SETTINGS a = 1 FORMAT CSV").trailing
    assert [clause.keyword for clause in trailing] == ["SETTINGS", "FORMAT"]


def test_limit_by_is_one_clause_with_its_offset() -> None:
    sql = "SELECT a FROM t LIMIT 2 OFFSET 1 BY a, b LIMIT 10 OFFSET 3"
    clauses = selects(sql)[0].clauses
    assert [sql[c.start : c.end] for c in clauses[2:]] == ["LIMIT 2 OFFSET 1 BY a, b", "LIMIT 10", "OFFSET 3"]
    assert [t.text for t in clauses[2].tokens] == ["2", "OFFSET", "1", "BY", "a", ",", "b"]


def test_the_innermost_select_holds_an_offset() -> None:
    outer = "SELECT a FROM x WHERE a IN (SELECT c FROM u WHERE d = 2) AND e = 3"
    sql = f"WITH x AS (SELECT a FROM t WHERE b = 1) {outer}"
    held = {mark: select_at(sql, sql.index(mark)) for mark in ("b = 1", "d = 2", "e = 3")}
    texts = {mark: sql[select.start : select.end] for mark, select in held.items() if select}
    assert texts == {
        "b = 1": "SELECT a FROM t WHERE b = 1",
        "d = 2": "SELECT c FROM u WHERE d = 2",
        "e = 3": sql,
    }
    assert [select.depth for select in selects(sql)] == [0, 1, 1]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT",
        "SELECT (",
        ")",
        "UNION ALL",
        "SELECT 1 UNION ALL",
        "LIMIT BY",
        "a b c",
        "SELECT [1) FROM",
        "(",
        "(((",
    ],
)
def test_what_clickhouse_refuses_breaks_nothing_here(sql: str) -> None:
    assert parse(sql) is not None
    assert isinstance(selects(sql), tuple)
