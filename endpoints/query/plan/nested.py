"""Variables in a subquery or CTE that holds every table the query reads.

The plan is made of that SELECT alone. What is around it, joins of it with itself and unions included, is the
query's own text, run when rows are read over what a request selects.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from endpoints.definition.model import Version
from endpoints.query.lexer import Token
from endpoints.query.ordering import ordered
from endpoints.query.plan.carry import carry
from endpoints.query.plan.cut import cut
from endpoints.query.plan.edits import quoted
from endpoints.query.plan.model import Cut, Described, Finish, Plan
from endpoints.query.plan.order import known_width, misses_order, reads_in_order
from endpoints.query.plan.select import Item, Select, Source, Unreadable, parse_select
from endpoints.query.plan.shape import under_variables
from endpoints.query.splice import Edit, splice
from endpoints.query.structure import Query, parse, selects
from endpoints.query.structure import Select as Part
from endpoints.query.tables import tables
from endpoints.query.variables import placeholders

_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def nested(version: Version, described: Described | None) -> Plan | None:
    """The plan around the innermost SELECT below the top that all tables and some variable stand in, if
    any.
    """
    width = width_of(version.sql)
    if width is None:
        return None
    for part in sorted(selects(version.sql), key=lambda select: -select.depth):
        inside = version.sql[part.start : part.end]
        if part.depth and placeholders(inside) and not tables(_around(version.sql, part, "SELECT 1")):
            plan = _planned(version, part, width, described)
            if plan is not None:
                return plan
    return None


def _planned(version: Version, part: Part, width: int, described: Described | None) -> Plan | None:
    inside, around = version.sql[part.start : part.end], _around(version.sql, part, "SELECT 1")
    above = tuple(dict.fromkeys(place.name for place in placeholders(around)))
    outer = Source(around)
    words = {token.word for token in outer.tokens}
    if words & {"SETTINGS", "TOTALS"}:
        return None
    names = {place.name for place in placeholders(inside)}
    own = replace(version, sql=inside, variables={n: v for n, v in version.variables.items() if n in names})
    try:
        select = parse_select(Source(inside))
    except Unreadable:
        return None
    if any(under_variables(select)) or _borrows(version.sql, part, select.source):
        return None
    if misses_order(outer, reads_in_order(select)):
        return None
    below = _carried(own, select) or cut(own, select, described)
    if not isinstance(below, Plan) or below.finish is None:
        return None
    sql = _around(version.sql, part, below.finish.sql).rstrip("; \n")
    variables = tuple(dict.fromkeys((*above, *below.finish.variables)))
    finish = replace(below.finish, sql=ordered(sql, width).sql, variables=variables, width=width)
    return replace(below, finish=finish, width=width, distinct="DISTINCT" in words or below.distinct)


def _carried(version: Version, select: Select) -> Plan | None:
    """The part with its dimensions carried to its result, whose columns the text around it then reads."""
    plan = carry(version, select, None)
    names = [_item_name(select, item) for item in select.items]
    if (
        plan is None
        or "ORDER BY" in select.clauses
        or plan.cut != Cut()
        or plan.width is None
        or len(set(names)) < len(names)
    ):
        return None
    if not all(_PLAIN_NAME.fullmatch(name) for name in names):
        return None
    sql = f"SELECT {', '.join(map(quoted, names))}\nFROM __asset"
    return replace(plan, finish=Finish(sql, tuple(names), (), plan.materialize_sql, (), None))


def _item_name(select: Select, item: Item) -> str:
    tokens = select.source.tokens[item.expression.first : item.expression.last]
    if item.alias is not None:
        return item.alias
    return tokens[-1].name if all(token.name or token.text == "." for token in tokens) else ""


def _around(sql: str, part: Part, instead: str) -> str:
    """The query with another text in place of the part."""
    return splice(sql, [Edit(part.start, part.end, instead)])


def width_of(sql: str) -> int | None:
    """The number of result columns, which the first of UNIONed SELECTs has as well."""
    first: Query | Part = parse(sql)
    while isinstance(first, Query):
        if not first.branches:
            return None
        first = first.branches[0]
    try:
        return known_width(parse_select(Source(sql[first.start : first.end])))
    except Unreadable:
        return None


def _borrows(sql: str, part: Part, inside: Source) -> bool:
    """The part uses a name that a WITH around it makes: alone it would mean something else, or nothing."""
    used = {token.name for token in inside.tokens} - {""}
    for select in selects(sql):
        clause = select.clause("WITH")
        if clause is not None and not part.start <= select.start < part.end:
            around = [token for token in clause.tokens if not part.start <= token.start < part.end]
            if not used.isdisjoint(made_names(around)):
                return True
    return False


def made_names(tokens: Sequence[Token]) -> Iterator[str]:
    """The names on both sides of AS: which of the two is new depends on what is named."""
    for before, token, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if token.word == "AS":
            yield from (before.name, after.name)
