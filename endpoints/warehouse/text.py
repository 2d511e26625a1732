"""What a statement's text needs before it can be sent: by tokens, so that strings and comments stay whole."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from endpoints.query.bans import query_settings
from endpoints.query.lexer import significant, tokenize
from endpoints.query.splice import Edit, splice
from endpoints.query.structure import Clause, Select, parse, strip_semicolons
from endpoints.query.variables import placeholders


@lru_cache(maxsize=1024)
def without_semicolon(sql: str) -> str:
    """The statement without the semicolons that files end with."""
    tokens = strip_semicolons(significant(tokenize(sql)))
    return sql[: tokens[-1].end] if tokens else ""


@lru_cache(maxsize=1024)
def own_settings(sql: str) -> tuple[tuple[str, str], ...]:
    """Names and values, as written, of the SETTINGS at the statement's end.

    They are sent beside the text too: under `readonly` ClickHouse refuses SETTINGS that change anything.
    """
    clause = next((c for c in _last_clauses(sql) if c.keyword == "SETTINGS"), None)
    if clause is None:
        return ()
    tokens = [t for t in significant(tokenize(sql)) if clause.start <= t.start < clause.end]
    return tuple((name.text, sql[value[0].start : value[-1].end]) for name, value in query_settings(tokens))


def describe_sql(sql: str) -> str:
    """DESCRIBE of the statement. In parentheses only a SELECT parses: no INSERT, OUTFILE or FORMAT."""
    return f"DESCRIBE (\n{without_semicolon(sql)}\n)"


def with_literals(sql: str, literal: Callable[[str], str]) -> str:
    """The text with `literal(name)` for each placeholder, for servers that bind no parameters."""
    return splice(sql, [Edit(p.start, p.end, literal(p.name)) for p in placeholders(sql)])


def _last_clauses(sql: str) -> tuple[Clause, ...]:
    query = parse(sql)
    last = query.branches[-1] if query.branches else None
    return query.trailing or (last.clauses if isinstance(last, Select) else ())
