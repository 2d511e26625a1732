"""What a statement's text needs before it can be sent: by tokens, so that strings and comments stay whole."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from endpoints.query.lexer import Token, significant, tokenize
from endpoints.query.variables import placeholders
from endpoints.warehouse.protocol import Statement


@lru_cache(maxsize=1024)
def without_semicolon(sql: str) -> str:
    """The statement without the semicolon that files end with."""
    tokens = significant(tokenize(sql))
    return sql[: tokens[-1].start] if tokens and tokens[-1].text == ";" else sql


@lru_cache(maxsize=1024)
def own_settings(sql: str) -> tuple[tuple[str, str], ...]:
    """Names and values, as written, of the SETTINGS at the statement's end.

    They are set for the session too: under `readonly` ClickHouse refuses a query's SETTINGS unless they
    change nothing.
    """
    tokens = significant(tokenize(without_semicolon(sql)))
    start = _last_at_top(tokens, "SETTINGS")
    return tuple(_assignments(sql, tokens[start + 1 :])) if start is not None else ()


def describe_sql(sql: str) -> str:
    """DESCRIBE of the statement. In parentheses only a SELECT parses: no INSERT, OUTFILE, FORMAT or second one."""
    return f"DESCRIBE (\n{without_semicolon(sql)}\n)"


def spliced(statement: Statement, literal: Callable[[str], str]) -> str:
    """The text with each placeholder replaced by `literal(name)`, for servers that bind no parameters."""
    sql = statement.sql
    for placeholder in reversed(placeholders(sql)):
        sql = sql[: placeholder.start] + literal(placeholder.name) + sql[placeholder.end :]
    return sql


def _last_at_top(tokens: tuple[Token, ...], word: str) -> int | None:
    depth, found = 0, None
    for index, token in enumerate(tokens):
        depth += (token.text in ("(", "[", "{")) - (token.text in (")", "]", "}"))
        if depth == 0 and token.word == word:
            found = index
    return found


def _assignments(sql: str, tokens: tuple[Token, ...]) -> list[tuple[str, str]]:
    """`a = 1, b = 'x'` as pairs; nothing if it does not read so: ClickHouse then says what is wrong."""
    pairs: list[tuple[str, str]] = []
    rest = list(tokens)
    while rest:
        if len(rest) < 3 or not rest[0].word or rest[1].text != "=":
            return []
        end = next((i for i, token in enumerate(rest) if token.text == ","), len(rest))
        pairs.append((rest[0].text, sql[rest[2].start : rest[end - 1].end]))
        rest = rest[end + 1 :]
    return pairs
