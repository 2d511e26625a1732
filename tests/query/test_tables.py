"""Tables found in a query's text."""

from __future__ import annotations

import pytest

from endpoints.query.tables import bounding_tables, tables

CASES = {
    "SELECT a FROM t": ["t"],
    "SELECT 1": [],
    "FROM t SELECT x": ["t"],
    "SELECT a FROM db.t AS x, `u v` y FINAL WHERE b IN (1, 2)": ["db.t", "u v"],
    "SELECT a FROM t WHERE a IN z AND b IN {b:Array(String)} AND c GLOBAL IN w": ["t", "w", "z"],
    "WITH c AS (SELECT 1 FROM t1), 5 AS n SELECT * FROM c JOIN t2 USING a, b": ["t1", "t2"],
    "SELECT q FROM t LEFT ARRAY JOIN arr AS q, other": ["t"],
    "SELECT extract(DAY FROM ts), trim(BOTH ' ' FROM s), t.from FROM t": ["t"],
    "SELECT a IS NOT DISTINCT FROM b FROM t": ["t"],
    "SELECT * FROM (SELECT * FROM a UNION ALL SELECT * FROM b) s, numbers(10) n, c ORDER BY x, y": [
        "a",
        "b",
        "c",
    ],
    "SELECT * FROM a JOIN b ON a.x = b.x, c": ["a", "b", "c"],
    "SELECT x FROM t LIMIT 1 BY a, b": ["t"],
    "SELECT (SELECT max(x) FROM u) FROM t -- FROM nowhere\n/* JOIN nothing */": ["t", "u"],
    "SELECT 'FROM nowhere' FROM t": ["t"],
    "SELECT * FROM t WHERE x IN (SELECT y FROM u WHERE z IN (SELECT w FROM v))": ["t", "u", "v"],
    "WITH RECURSIVE r AS (SELECT 1) SELECT * FROM db.r": ["db.r"],
    "WITH t AS (SELECT a FROM t) SELECT * FROM t": ["t"],
    "WITH big AS (SELECT a FROM big) SELECT a FROM big WHERE a IN (SELECT a FROM small)": ["big", "small"],
    "SELECT a FROM b WHERE a IN (WITH b AS (SELECT 1) SELECT a FROM b)": ["b"],
    "SELECT a FROM b UNION ALL WITH b AS (SELECT 1) SELECT a FROM b": ["b"],
    "WITH c AS (SELECT a FROM d), d AS (SELECT 1 AS a) SELECT a FROM c": [],
    "WITH RECURSIVE r AS (SELECT 1 UNION ALL SELECT * FROM r) SELECT * FROM r": [],
    "SELECT * FROM": [],
    "SELECT * FROM t)": ["t"],
}


@pytest.mark.parametrize(("sql", "expected"), CASES.items())
def test_tables(sql: str, expected: list[str]) -> None:
    assert [str(table) for table in tables(sql)] == expected


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT a FROM t FINAL WHERE b IN (1, 2) LIMIT 5", ["t"]),
        ("SELECT a, count() FROM db.t AS x WHERE b IN z GROUP BY ALL", ["db.t", "z"]),
        ("WITH c AS (SELECT a FROM t) SELECT * FROM (SELECT DISTINCT a FROM c)", ["t"]),
        ("WITH big AS (SELECT a FROM big) SELECT a FROM big WHERE a IN (SELECT a FROM u)", ["big", "u"]),
        ("SELECT a FROM t JOIN u USING a", []),
        ("SELECT a FROM t, u", []),
        ("SELECT q FROM t ARRAY JOIN arr AS q", []),
        ("SELECT arrayJoin(arr) FROM t", []),
        ("SELECT a FROM t UNION ALL SELECT a FROM t", []),
        ("SELECT a FROM t ORDER BY a WITH FILL", []),
        ("SELECT a, count() FROM t GROUP BY ROLLUP(a)", []),
        ("SELECT a, count() FROM t GROUP BY GROUPING SETS ((a), ())", []),
        ("SELECT a, count() FROM t GROUP BY a WITH CUBE", []),
        ("SELECT number FROM numbers(10) WHERE number IN t", []),
        ("SELECT number FROM system.numbers LIMIT 10", []),
        ("SELECT 1", []),
    ],
)
def test_tables_that_bound_the_rows_of_a_result(sql: str, expected: list[str]) -> None:
    assert [str(table) for table in bounding_tables(sql)] == expected
