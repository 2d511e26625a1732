"""Subqueries of WITH written where they are read: to ClickHouse the same query, to a plan one scope less."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from endpoints.query.lexer import Kind, Token, significant, tokenize
from endpoints.query.splice import Edit, splice
from endpoints.query.structure import Clause, Select, closing, selects
from endpoints.query.tables import table_spans

_MOST_CHARACTERS: Final = 100_000
# What may follow a table's name in FROM and is no alias of it.
AFTER_TABLE: Final = frozenset(
    {
        *(
            "ALL",
            "ANTI",
            "ANY",
            "ARRAY",
            "ASOF",
            "CROSS",
            "EXCEPT",
            "FINAL",
            "FORMAT",
            "FULL",
            "GLOBAL",
            "GROUP",
        ),
        *(
            "HAVING",
            "INNER",
            "INTERSECT",
            "INTO",
            "JOIN",
            "LEFT",
            "LIMIT",
            "NATURAL",
            "OFFSET",
            "ON",
            "ORDER",
        ),
        *("OUTER", "PASTE", "PREWHERE", "QUALIFY", "RIGHT", "SAMPLE", "SEMI", "SETTINGS", "UNION", "USING"),
        *("WHERE", "WINDOW", "SELECT"),
    }
)


@dataclass(frozen=True, slots=True)
class _Named:
    """`name AS (query)` in a WITH: what it stands for, where it may be named, and the text to take away."""

    name: str
    query: str
    scope: tuple[int, int]
    removed: tuple[int, int]


def inlined(sql: str) -> str | None:
    """The query without subqueries in WITH; None where one reads itself or shares its name with another."""
    while (named := next(_named(sql), None)) is not None:
        written = _written(sql, named)
        if written is None or len(written) > _MOST_CHARACTERS:
            return None
        sql = written
    return sql


def alias_follows(tokens: Sequence[Token], index: int) -> bool:
    """Whether the table or subquery that ends before `index` has a name of its own."""
    if index >= len(tokens):
        return False
    token = tokens[index]
    return token.kind is Kind.QUOTED or (token.kind is Kind.WORD and token.word not in AFTER_TABLE)


def _named(sql: str) -> Iterator[_Named]:
    for select in selects(sql):
        clause = select.clause("WITH")
        if clause is not None and clause.tokens:
            yield from _of_clause(sql, select, clause)


def _of_clause(sql: str, select: Select, clause: Clause) -> Iterator[_Named]:
    tokens = clause.tokens
    scope = (select.start, select.end) if select.depth else (0, len(sql))
    for index, token in enumerate(tokens[:-3]):
        opens = tokens[index + 1].word == "AS" and tokens[index + 2].text == "("
        starts = index == 0 or tokens[index - 1].text == ","
        if not (token.name and opens and starts and tokens[index + 3].word in ("SELECT", "WITH", "FROM", "")):
            continue
        close = closing(tokens, index + 2)
        query = sql[tokens[index + 2].end : tokens[close].start]
        if not selects(query) or not selects(query)[0].clause("SELECT"):
            continue  # WITH x AS (a + b): a name for an expression
        yield _Named(token.name, query, scope, _removed(clause, index, close))
        return


def _removed(clause: Clause, index: int, close: int) -> tuple[int, int]:
    """The item with its comma; all of WITH where it is the only one."""
    tokens = clause.tokens
    if close + 1 < len(tokens):
        return tokens[index].start, tokens[close + 1].end
    return (tokens[index - 1].start if index else clause.start), clause.end


def _written(sql: str, named: _Named) -> str | None:
    start, end = named.removed
    tokens = significant(tokenize(sql))
    edits = [Edit(start, end, "")]
    if sum(one.name == named.name for one in _all_named(sql)) > 1:
        return None
    for first, last in table_spans(tokens):
        if last - first != 1 or tokens[first].name != named.name:
            continue
        if not named.scope[0] <= tokens[first].start < named.scope[1] or start <= tokens[first].start < end:
            return None  # recursive, or a table of that name elsewhere
        own = (
            ""
            if alias_follows(tokens, last) or tokens[first - 1].word == "IN"
            else f" AS {tokens[first].text}"
        )
        edits.append(Edit(tokens[first].start, tokens[first].end, f"({named.query}\n){own}"))
    return splice(sql, edits)


def _all_named(sql: str) -> Iterator[_Named]:
    """The first of each WITH is enough: what comes after it gets its turn when that is gone."""
    yield from _named(sql)
