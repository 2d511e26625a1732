"""Which columns a query's columns come from: what can be told, and what is left out rather than guessed."""

from __future__ import annotations

import pytest

from endpoints.query.lineage import column_lineage
from endpoints.query.tables import Table

TABLES = {
    "events": ("ts", "day", "user", "event", "amount", "tags", "props", "date"),
    "users": ("user", "name", "country"),
    "shop.orders": ("id", "user", "total"),
    "daily": ("day", "people"),
    "blind": ("a", "b"),
}
VIEWS = {
    "daily": "SELECT day, uniq(user) AS people FROM events GROUP BY day",
    "blind": "SELECT * FROM url('x')",
}


def read(sql: str, *names: str) -> dict[str, str]:
    """Column → its upstream columns, sorted, `table.column`."""
    found = column_lineage(sql, names, lambda t: TABLES.get(str(t)), lambda t: VIEWS.get(str(t)))
    return {name: " ".join(sorted(f"{table}.{column}" for table, column in of)) for name, of in found.items()}


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT day, event FROM events", {"day": "events.day", "event": "events.event"}),
        ("SELECT count() AS n, sum(amount) AS s FROM events", {"n": "", "s": "events.amount"}),
        ("SELECT day AS d, amount * 2 twice FROM events WHERE user = {u:String}",
         {"d": "events.day", "twice": "events.amount"}),
        ("SELECT e.day, u.name FROM events AS e JOIN users u ON e.user = u.user",
         {"day": "events.day", "name": "users.name"}),
        ("SELECT name, amount, user FROM events JOIN users USING (user)",
         {"name": "users.name", "amount": "events.amount"}),
        ("WITH big AS (SELECT user, sum(amount) total FROM events GROUP BY user) SELECT user, total FROM big",
         {"user": "events.user", "total": "events.amount"}),
        ("WITH amount / 100 AS euros SELECT euros FROM events", {"euros": "events.amount"}),
        ("SELECT x, x + 1 AS y FROM (SELECT amount AS x FROM events)",
         {"x": "events.amount", "y": "events.amount"}),
        ("SELECT day FROM events UNION ALL SELECT name FROM users", {"day": "events.day users.name"}),
        ("SELECT toStartOfMonth(day) AS day FROM events", {"day": "events.day"}),
        ("SELECT toStartOfMonth(day) AS day, day AS again FROM events", {"day": "events.day"}),
        ("SELECT amount AS a, a + 1 AS b FROM events", {"a": "events.amount", "b": "events.amount"}),
        ("SELECT * FROM users", {"user": "users.user", "name": "users.name", "country": "users.country"}),
        ("SELECT u.*, 1 AS one FROM users AS u",
         {"user": "users.user", "name": "users.name", "country": "users.country", "one": ""}),
        ("SELECT total FROM shop.orders", {"total": "shop.orders.total"}),
        ("SELECT orders.total, shop.orders.id FROM shop.orders",
         {"total": "shop.orders.total", "id": "shop.orders.id"}),
        ("SELECT CAST(amount AS String) AS a, day::String AS b, CASE WHEN user = 'x' THEN event END AS c"
         " FROM events",
         {"a": "events.amount", "b": "events.day", "c": "events.event events.user"}),
        ("SELECT arrayMap(x -> x || event, tags) AS t FROM events", {"t": "events.event events.tags"}),
        ("SELECT tag FROM events ARRAY JOIN tags AS tag", {"tag": "events.tags"}),
        ("SELECT row_number() OVER (PARTITION BY user ORDER BY ts DESC) AS n FROM events",
         {"n": "events.ts events.user"}),
        ("SELECT ts + INTERVAL 1 DAY AS later FROM events", {"later": "events.ts"}),
        ("SELECT props.1 AS first, tupleElement(props, 'a') AS second FROM events",
         {"first": "events.props", "second": "events.props"}),
        ("SELECT (SELECT max(total) FROM shop.orders) AS most, day FROM events",
         {"most": "shop.orders.total", "day": "events.day"}),
        ("SELECT day, people FROM daily", {"day": "events.day", "people": "events.user"}),
        ("SELECT a FROM blind", {"a": "blind.a"}),
        ("SELECT `day` FROM events FINAL SAMPLE 0.1", {"day": "events.day"}),
    ],
)  # fmt: skip
def test_what_can_be_told(sql: str, expected: dict[str, str]) -> None:
    names = {
        "SELECT name, amount, user FROM events JOIN users USING (user)": ["name", "amount", "user"],
        "SELECT toStartOfMonth(day) AS day, day AS again FROM events": ["day", "again"],
    }.get(sql, list(expected))
    assert read(sql, *names) == expected


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT user AS c FROM events, users",  # both have it
        "SELECT nothing AS c FROM events",
        "SELECT x AS c FROM numbers(10) AS n(x)",
        "SELECT amount AS c FROM events, url('http://x')",
        "SELECT day AS c FROM unknown_table",
        "SELECT event + c2 AS c, day AS event, 1 AS c2 FROM events",  # an alias and a column
        "SELECT arrayMap(day -> day + 1, tags) AS c FROM events",
        "SELECT date AS c FROM events",  # DATE is a word as well
        "SELECT sum(b * 2) AS c FROM (SELECT (amount AS b) + 1 AS d FROM events)",
        "WITH RECURSIVE r AS (SELECT 1 AS c UNION ALL SELECT c + 1 FROM r) SELECT c FROM r",
    ],
)
def test_what_cannot_be_told_is_left_out(sql: str) -> None:
    names = ["c", *(["event", "c2"] if "c2" in sql else [])]
    assert "c" not in read(sql, *names)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM events JOIN users USING (user)",
        "SELECT * EXCEPT (day) FROM events",
        "SELECT COLUMNS('a') FROM events",
        "SELECT DISTINCT ON (user) day FROM events",
        "SELECT",
        "SELECT ((((",
        "",
    ],
)
def test_what_is_not_understood_tells_nothing(sql: str) -> None:
    assert read(sql, "a", "b") == {}


def test_another_number_or_name_of_columns_than_described_tells_nothing() -> None:
    assert read("SELECT day, event FROM events", "day") == {}
    assert read("SELECT day, event FROM events", "day", "other") == {"day": "events.day"}


def test_views_of_views_end() -> None:
    views = {"a": "SELECT x FROM b", "b": "SELECT x FROM a"}
    found = column_lineage("SELECT x FROM a", ["x"], lambda t: ("x",), lambda t: views[str(t)])
    assert all(isinstance(table, Table) for of in found.values() for table, _ in of)
