"""A total order changes no rows, keeps the query's own order first, and makes runs give the same rows."""

import pytest

from endpoints.query.ordering import ordered

T = "(SELECT number % 3 AS a, number % 2 AS b, toString(number) AS c FROM numbers(12))"

# Query, number of result columns, columns (by index) of the query's own order, descending ones negative - 1.
SHAPES = [
    (f"SELECT a, b, c FROM {T}", 3, []),
    (f"SELECT a, b, c FROM {T} -- the end", 3, []),
    (f"SELECT a, b, c FROM {T} /* the end */ ORDER BY b DESC -- , a", 3, [-2]),
    (f"SELECT * FROM {T}", 3, []),
    (f"SELECT *, 7 AS k FROM {T} ORDER BY b", 4, [1]),
    (f"SELECT 2 AS a, b FROM {T}", 2, []),
    (f"SELECT -1 AS x, NULL AS y, nan AS z, b FROM {T}", 4, []),
    (f"SELECT a, count() FROM {T} GROUP BY a HAVING count() > 1", 2, []),
    (f"SELECT a, sum(b) AS s FROM {T} GROUP BY a WITH ROLLUP ORDER BY s", 2, [1]),
    (f"SELECT a, b FROM {T} GROUP BY ALL", 2, []),
    (f"SELECT DISTINCT a FROM {T}", 1, []),
    (f"SELECT count(), max(a) FROM {T}", 2, []),
    (f"SELECT c, row_number() OVER (ORDER BY c DESC) AS r FROM {T}", 2, []),
    (f"SELECT c, sum(a) OVER w AS r FROM {T} WINDOW w AS (PARTITION BY a) QUALIFY r > 0", 2, []),
    (f"SELECT arrayJoin([2, 1]) AS x, b FROM {T} WHERE a", 2, []),
    (f"SELECT [b, a] AS x, (b, c) AS y, map('k', a) AS z FROM {T}", 3, []),
    (f"SELECT a AS limit, b FROM {T} ORDER BY limit", 2, [0]),
    (f"SELECT a, b FROM {T} ORDER BY a SETTINGS join_use_nulls = 1", 2, [0]),
    (f"SELECT a, b FROM {T} SETTINGS join_use_nulls = 1", 2, []),
    (f"(SELECT a, b FROM {T} ORDER BY b DESC)", 2, [-2]),
    (f"((SELECT a, b FROM {T}))", 2, []),
    (f"SELECT a, b FROM {T} UNION ALL SELECT 5, 5 ORDER BY 1", 2, []),
    (f"(SELECT a, b FROM {T} ORDER BY a) UNION DISTINCT (SELECT 5, 5) -- done", 2, []),
    (f"SELECT a FROM {T} INTERSECT SELECT 1", 1, []),
    (f"SELECT a FROM {T} EXCEPT SELECT 1 SETTINGS join_use_nulls = 1", 1, []),
    (f"WITH x AS (SELECT a FROM {T} ORDER BY a) SELECT a FROM x", 1, []),
    (f"SELECT a, b FROM {T} ORDER BY ALL DESC", 2, [-1, -2]),
    (f"SELECT COLUMNS('a|b') FROM {T}", 2, []),
    (f"SELECT * EXCEPT (c) REPLACE (b + 1 AS b) FROM {T}", 2, []),
    (f"SELECT untuple((a, b)) FROM {T}", 2, []),
    ("SELECT number AS n, 1 AS x FROM numbers(3) ORDER BY n WITH FILL FROM 0 TO 5", 2, [0]),
    ("SELECT number AS n, 1 AS x FROM numbers(3) ORDER BY n WITH FILL FROM 0 TO 5 INTERPOLATE (x)", 2, [0]),
]
# Those that cut: which rows they give is only fixed by the order.
CUTTING = [
    (f"SELECT a, b FROM {T} LIMIT 1 BY a", 2),
    (f"SELECT a, b FROM {T} ORDER BY a DESC LIMIT 2 BY a LIMIT 3 OFFSET 1", 2),
    (f"SELECT a, b, c FROM {T} ORDER BY a LIMIT 1, 5", 3),
    (f"SELECT a, b, c FROM {T} LIMIT 5", 3),
    (f"SELECT TOP 5 a, b, c FROM {T}", 3),
    (f"SELECT a, b, c FROM {T} ORDER BY a OFFSET 3 ROWS FETCH FIRST 2 ROWS ONLY", 3),
    (f"SELECT DISTINCT ON (a) a, c FROM {T}", 2),
]


def key(rows: list[list[object]]) -> list[str]:
    return sorted(map(repr, rows))


@pytest.mark.parametrize(("sql", "columns", "own"), SHAPES)
def test_same_rows_in_the_querys_own_order(clickhouse, sql: str, columns: int, own: list[int]) -> None:
    result = ordered(sql, columns)
    assert result.unordered is None
    rows = clickhouse.rows(result.sql)
    assert key(rows) == key(clickhouse.rows(sql))
    for index in reversed(own):
        column = -index - 1 if index < 0 else index
        kept = sorted(rows, key=lambda row, c=column: row[c], reverse=index < 0)
        if index == own[0]:
            assert [row[column] for row in rows] == [row[column] for row in kept]


@pytest.mark.parametrize(("sql", "columns"), [(sql, n) for sql, n, _ in SHAPES] + CUTTING)
def test_the_order_does_not_depend_on_how_rows_arrive(clickhouse, sql: str, columns: int) -> None:
    shuffled = sql.replace(
        "FROM numbers(12)", "FROM (SELECT number FROM numbers(12) ORDER BY cityHash64(number))"
    )
    assert clickhouse.rows(ordered(sql, columns).sql) == clickhouse.rows(ordered(shuffled, columns).sql)


@pytest.mark.parametrize(("sql", "columns"), [(sql, n) for sql, n, _ in SHAPES])
def test_at_most_gives_the_first_of_them(clickhouse, sql: str, columns: int) -> None:
    everything = clickhouse.rows(ordered(sql, columns).sql)
    assert clickhouse.rows(ordered(sql, columns, 2).sql)[:2] == everything[:2]


def test_with_ties_keeps_its_own_order() -> None:
    sql = "SELECT a FROM t ORDER BY a LIMIT 2 WITH TIES"
    result = ordered(sql, 1)
    assert result.sql == sql
    assert result.unordered is not None
    assert "WITH TIES" in result.unordered


def test_nothing_else_of_the_text_changes() -> None:
    sql = "SELECT a ,b -- x\nFROM t\n\tORDER  BY a  /* y */ LIMIT 5 -- z"
    assert ordered(sql, 2).sql == "SELECT a ,b -- x\nFROM t\n\tORDER  BY a, 1, 2  /* y */ LIMIT 5 -- z"
