"""The cut above plain rows: the rows of a SELECT's FROM and WHERE as a subquery of their own.

`SELECT items FROM t WHERE w …` is `SELECT items FROM (SELECT * FROM t WHERE w) AS t …` where WHERE names
columns only. Everything that cannot be put together from parts can be answered from the rows themselves.
"""

from __future__ import annotations

from endpoints.query.plan.select import Source, Unreadable, parse_select
from endpoints.query.structure import Clause, Select, top_level

_ROWS = frozenset({"FROM", "PREWHERE", "WHERE"})


def rows_beneath(sql: str, select: Select) -> str | None:
    """The same query over a subquery of its rows; None where that is not sure to be the same."""
    from_ = select.clause("FROM")
    columns = select.clause("SELECT")
    if from_ is None or columns is None or columns.start > from_.start:
        return None
    if [token.text for token in columns.tokens] == ["*"] and select.clauses[-1].keyword in _ROWS:
        return None  # it is such a subquery
    where = [clause for clause in select.clauses if clause.keyword in ("PREWHERE", "WHERE")]
    names = {token.name for clause in where for token in clause.tokens} - {""}
    name = _name(from_)
    if name is None or not names.isdisjoint(_aliases(sql, select)):
        return None
    end = max(clause.end for clause in (from_, *where))
    below = sql[from_.start : end]
    alias = f" AS {name}" if name else ""
    return f"{sql[: from_.start]}FROM (SELECT * {below}\n){alias}{sql[end:]}"


def _name(from_: Clause) -> str | None:
    """What the one table or subquery of FROM is called, or ""; None where there is more than one."""
    tops = [token for _, token in top_level(from_.tokens) if token.text != ")"]
    if not tops or any(token.word in ("JOIN", "ARRAY") or token.text == "," for token in tops):
        return None
    name = "" if tops[0].text == "(" else tops[0].text
    for token in tops[1:]:
        if token.word in ("FINAL", "SAMPLE"):
            break
        if token.text == "(":
            return None  # a table function
        if token.name and token.word != "AS":
            name = token.text
    return name


def _aliases(sql: str, select: Select) -> set[str]:
    """The names that the SELECT makes outside of FROM and WHERE."""
    made = {
        name.name
        for clause in select.clauses
        if clause.keyword not in _ROWS
        for token, name in zip(clause.tokens, clause.tokens[1:], strict=False)
        if token.word == "AS"
    }
    try:
        made |= {item.alias for item in parse_select(Source(sql)).items if item.alias}
    except Unreadable:
        return made | {token.name for clause in select.clauses for token in clause.tokens}
    return made - {""}
