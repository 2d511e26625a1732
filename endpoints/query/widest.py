"""A version without its conditions: the widest answers that it can give."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from endpoints.definition.model import Version
from endpoints.query.conjuncts import conjunct_of
from endpoints.query.splice import Edit, splice
from endpoints.query.variables import placeholders


def widest(version: Version, keep: Collection[str]) -> Version:
    """The version with every condition left out that holds a variable not in `keep`.

    Variables outside conditions (LIMIT) stay. It is for checks, not for callers: its rows are the answer to
    the rest of the query, and nothing more is said of them.
    """
    sql = version.sql
    spans = {
        (conjunct.start, conjunct.end)
        for placeholder in placeholders(sql)
        if placeholder.name not in keep and (conjunct := conjunct_of(sql, placeholder))
    }
    sql = splice(sql, (Edit(start, end, "1") for start, end in _outermost(spans)))
    left = {placeholder.name for placeholder in placeholders(sql)}
    variables = {name: variable for name, variable in version.variables.items() if name in left}
    return replace(version, sql=sql, variables=variables)


def _outermost(spans: Collection[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those that are in no other: a subquery's condition goes with the one that the subquery is in."""
    return [
        (start, end)
        for start, end in spans
        if not any((a, b) != (start, end) and a <= start and end <= b for a, b in spans)
    ]
