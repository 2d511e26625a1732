"""The order of an asset's rows: (seek dimensions, the query's ORDER BY, all result columns).

Within one key that is the query's own order, made total by its columns as pages on the live path make it.
"""

from __future__ import annotations

from collections.abc import Sequence

from endpoints.query.plan.edits import Edits
from endpoints.query.plan.functions import Merging, merging, reproducible
from endpoints.query.plan.select import Item, Select, Source, Span
from endpoints.query.plan.terms import terms


def known_width(select: Select) -> int | None:
    """The number of result columns, unless an item stands for several (`*`, COLUMNS)."""
    return None if any(_expands(select, item) for item in select.items) else len(select.items)


def _expands(select: Select, item: Item) -> bool:
    source = select.source
    first = item.expression.first
    if source.is_op(first, "*"):
        return True
    star = any(source.is_op(i, "*") and source.is_op(i - 1, ".") for i in source.shallow(item.expression))
    functions = {(term.function or "").lower() for term in terms(source, item.expression)}
    return star or not functions.isdisjoint({"columns", "untuple"})


def total_order(edits: Edits, select: Select, seek: Sequence[str], width: int | None) -> None:
    """Put the SELECT into the asset's order; without its last part while the width is unknown.

    Comes last among a plan's edits: the clause it may add belongs behind what they append to others.
    """
    width = known_width(select) if width is None else width
    tail = [str(position + 1) for position in range(width or 0)]
    body = select.body("ORDER BY")
    if body is None:
        if seek or tail:
            edits.insert_after(_before_limit(select), "\nORDER BY " + ", ".join((*seek, *tail)))
    elif not orders_by_all(select):
        edits.insert_before(body, "".join(f"{column}, " for column in seek))
        edits.insert_after(body, "".join(f", {position}" for position in tail))
    elif body.last - body.first == 1 and (seek or tail):
        # ALL is every column, ascending: what the tail says, and it does not stand beside other items.
        edits.replace(body, ", ".join((*seek, *tail)))


def orders_by_all(select: Select) -> bool:
    body = select.body("ORDER BY")
    return body is not None and select.source.word(body.first) == "ALL"


def _before_limit(select: Select) -> Span:
    """All of the SELECT that stands before LIMIT, OFFSET and SETTINGS."""
    ends = [select.whole.last]
    if select.limit:
        ends.append(select.limit.whole.first)
    if select.limit_by:
        ends.append(select.limit_by.whole.first)
    if settings := select.body("SETTINGS"):
        ends.append(settings.first - 1)
    return Span(select.whole.first, min(ends))


def reads_in_order(select: Select) -> bool:
    """Rows come from a subquery in an order, which rows that are stored no longer have."""
    read = (select.body(name) for name in ("WITH", "FROM"))
    return any(select.source.has_word(body, "ORDER") for body in read if body)


def misses_order(source: Source, in_order: bool) -> bool:
    """Some aggregate's answer hangs on an order that stored rows no longer have: `any` and the like over rows
    that a subquery orders (`in_order`), or of a window that has no order itself. Over rows in no order they
    are live's own: `endpoints plan` names them. Not so `deltaSum` and others that cannot be merged, some of
    which go from row to row.
    """
    for index, token in enumerate(source.tokens):
        apart = merging(token.name) in (Merging.WRONG, Merging.STATELESS)
        called = source.is_op(index + 1, "(") and not source.is_op(index - 1, ".")
        if not called or (reproducible(token.name) and not apart):
            continue
        after = source.pair[index + 1] + 1
        while source.word(after) in ("RESPECT", "IGNORE", "NULLS", "FILTER") or source.is_op(after, "("):
            after = source.pair[after] + 1 if source.is_op(after, "(") else after + 1
        if source.word(after) != "OVER":
            if in_order or apart:
                return True
        elif not source.is_op(after + 1, "("):
            return True  # a window by name
        elif not source.has_word(Span(after + 1, source.pair[after + 1]), "ORDER"):
            return True
    return False
