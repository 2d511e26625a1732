"""A total order for a query's rows, so that the pages of `limit` and `offset` neither overlap nor skip."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from endpoints.query.splice import Edit, splice
from endpoints.query.structure import Clause, Query, Select, parse, top_level

_AFTER_ORDER: Final = frozenset({"LIMIT BY", "LIMIT", "OFFSET", "FETCH", "SETTINGS", "INTO", "FORMAT"})


@dataclass(frozen=True, slots=True)
class Ordered:
    """`sql` in its order, made total; or as it was, and `unordered` says in one sentence why."""

    sql: str
    unordered: str | None = None


@lru_cache(maxsize=1024)
def ordered(sql: str, columns: int, at_most: int | None = None) -> Ordered:
    """The query with all its result columns, by position, appended to its order.

    The user's own order comes first. SELECTs joined by UNION and the like have none as a whole (a last
    ORDER BY belongs to the last of them), so they are wrapped. `sql` has no `;` at its end. Where only the
    first `at_most` rows are wanted and the query has no limit of its own it gets that one: ClickHouse then
    keeps the best rows instead of sorting all.
    """
    limit = "" if at_most is None else f" LIMIT {at_most}"
    positions = ", ".join(str(number) for number in range(1, columns + 1))
    query = parse(sql)
    while len(query.branches) == 1 and isinstance(query.branches[0], Query):
        query = query.branches[0]
    if len(query.branches) != 1:
        wrapped = [
            Edit(query.start, query.start, "SELECT * FROM ("),
            Edit(query.end, query.end, f") ORDER BY {positions}{limit}"),
        ]
        return Ordered(splice(sql, wrapped))
    select = query.branches[0]
    assert isinstance(select, Select)
    reason = _left_alone(select)
    if reason:
        return Ordered(sql, reason)
    return Ordered(_extended(sql, select, positions, "" if _limits_itself(select) else limit))


def _extended(sql: str, select: Select, positions: str, limit: str) -> str:
    """The text with the positions at the end of its order, and the limit after it and any LIMIT BY."""
    order = select.clause("ORDER BY")
    if order is None:
        at = end = _insertion(select)
        more = f" ORDER BY {positions}"
    else:
        at, end = _end_of_list(order), order.end
        more = "" if order.tokens and order.tokens[0].word == "ALL" else f", {positions}"
    limit_by = select.clause("LIMIT BY")
    end = limit_by.end if limit_by is not None else end
    edits = [Edit(at, at, more + limit)] if at == end else [Edit(at, at, more), Edit(end, end, limit)]
    return splice(sql, edits)


def _left_alone(select: Select) -> str | None:
    """Why more order would change which rows come, if it would."""
    for clause in select.clauses:
        words = [token.word for _, token in top_level(clause.tokens)]
        if clause.keyword in ("LIMIT", "FETCH", "OFFSET") and "TIES" in words:
            return "WITH TIES keeps the rows that are equal in the query's own order."
    return None


def _limits_itself(select: Select) -> bool:
    """Whether the query says how many rows it gives."""
    if any(clause.keyword in ("LIMIT", "OFFSET", "FETCH") for clause in select.clauses):
        return True
    columns = select.clause("SELECT")
    return columns is not None and any(token.word == "TOP" for _, token in top_level(columns.tokens))


def _insertion(select: Select) -> int:
    """Where ORDER BY goes in a SELECT that has none: after the clause before it."""
    later = next((i for i, c in enumerate(select.clauses) if c.keyword in _AFTER_ORDER), len(select.clauses))
    return select.clauses[later - 1].end


def _end_of_list(order: Clause) -> int:
    """The end of ORDER BY's expressions, before INTERPOLATE."""
    tokens = order.tokens
    cut = next((i for i, t in top_level(tokens) if t.word == "INTERPOLATE" and i), len(tokens))
    return tokens[cut - 1].end
