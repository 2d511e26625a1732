"""A total order with a limit gives the first rows of the same order without one."""

from __future__ import annotations

import pytest

from endpoints.query.ordering import ordered

QUERIES = [
    "SELECT number % 3 AS a, number AS b FROM numbers(9)",
    "SELECT number % 3 AS a, number AS b FROM numbers(9) ORDER BY a DESC",
    "SELECT number % 3 AS a, number AS b FROM numbers(9) ORDER BY a DESC SETTINGS max_threads = 1",
    "SELECT number % 3 AS a, number AS b FROM numbers(9) ORDER BY a LIMIT 2 BY a",
    "SELECT number % 3 AS a, number AS b FROM numbers(9) LIMIT 1 BY a -- the end",
    "SELECT number % 3 AS a, number AS b FROM numbers(9) ORDER BY a DESC LIMIT 2, 5",
    "SELECT number % 3 AS a, number AS b FROM numbers(9) ORDER BY a DESC OFFSET 2 ROWS",
    "SELECT TOP 5 number % 3 AS a, number AS b FROM numbers(9)",
    "SELECT number % 3 AS a, number AS b FROM numbers(9) ORDER BY a LIMIT 2 WITH TIES",
    "SELECT 1 AS a, number AS b FROM numbers(5) UNION ALL SELECT 0, number FROM numbers(5)",
    "(SELECT number % 3 AS a, number AS b FROM numbers(9))",
    "SELECT number * 2 AS a, 1 AS b FROM numbers(3) ORDER BY a WITH FILL INTERPOLATE (b AS b + 1)",
    "SELECT number % 3 AS a, number AS b FROM numbers(9) ORDER BY ALL DESC",
]


@pytest.mark.parametrize("sql", QUERIES)
def test_the_first_rows_are_the_same(clickhouse, sql: str) -> None:
    whole = clickhouse.rows(ordered(sql, 2).sql)
    for most in (1, 4, 100):
        assert clickhouse.rows(ordered(sql, 2, most).sql)[:most] == whole[:most]


def test_a_limit_stands_only_where_the_query_has_none() -> None:
    limited = [sql for sql in QUERIES if ordered(sql, 2, 77).sql.count("LIMIT 77")]
    assert [sql for sql in QUERIES if sql not in limited] == QUERIES[5:9]
