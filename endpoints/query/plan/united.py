"""SELECTs joined by UNION, INTERSECT or EXCEPT: each carries the same one-value dimensions.

The hidden columns are among those that the operators compare, so each value's rows are joined with that
value's rows alone: what the operators give for it is what they give live. The text between the SELECTs stays.
"""

from __future__ import annotations

from collections.abc import Iterator

from endpoints.definition.model import Version
from endpoints.query.plan.carry import carry
from endpoints.query.plan.edits import Edits
from endpoints.query.plan.model import Cut, Described, Plan, Refusal, Refused
from endpoints.query.plan.order import known_width
from endpoints.query.plan.reasons import refusal
from endpoints.query.plan.select import Select, Source, Span, Unreadable, read_select, statement
from endpoints.query.plan.shape import under_variables
from endpoints.query.structure import Query, parse
from endpoints.query.structure import Select as Part


def united(version: Version, source: Source, described: Described | None) -> Plan | Refused:
    """The plan of a statement of several SELECTs, if each can be carried. Raises Unreadable."""
    selects = tuple(_selects(source))
    _check_between(source, selects)
    if reasons := tuple(reason for select in selects for reason in _in_the_way(select)):
        return Refused(reasons)
    plans: list[Plan] = []
    for select in selects:
        first = tuple(d.variable or "" for d in plans[0].dimensions) if plans else ()
        names = described.names if described and not plans else None
        plan = carry(version, select, names, first)
        if plan is None or _waits(plan) or (plans and _variables(plan) != _variables(plans[0])):
            line = source.line(select.whole)
            return Refused((refusal("union_branch", line),))
        plans.append(plan)
    return _joined(version, source, selects, tuple(plans))


def _joined(version: Version, source: Source, selects: tuple[Select, ...], plans: tuple[Plan, ...]) -> Plan:
    edits = Edits(source)
    for select, plan in zip(selects, plans, strict=True):
        edits.replace(select.whole, plan.materialize_sql)
    width = known_width(selects[0])
    assert width is not None
    order = ", ".join((*(d.column for d in plans[0].seek), *(str(n + 1) for n in range(width))))
    return Plan(
        key=version.key,
        materialize_sql=f"SELECT * FROM (\n{edits.apply(statement(source))}\n)\nORDER BY {order}",  # noqa: S608
        dimensions=plans[0].dimensions,
        width=width,
        distinct=_compares(source, selects) or any(plan.distinct for plan in plans),
        branches=plans,
    )


def _selects(source: Source) -> Iterator[Select]:
    for part in _parts(parse(source.sql)):
        yield read_select(source, part, source.at(part.start, part.end))


def _parts(query: Query) -> Iterator[Part]:
    """The SELECTs that the operators join, in brackets or not; not those within them."""
    for branch in query.branches:
        if isinstance(branch, Query):
            yield from _parts(branch)
        else:
            yield branch


def _between(source: Source, selects: tuple[Select, ...]) -> Iterator[Span]:
    """The tokens before, between and behind the SELECTs."""
    whole = statement(source)
    starts = (whole.first, *(select.whole.last for select in selects))
    ends = (*(select.whole.first for select in selects), whole.last)
    yield from (Span(start, end) for start, end in zip(starts, ends, strict=True))


def _check_between(source: Source, selects: tuple[Select, ...]) -> None:
    """Nothing but operators and brackets: no ORDER BY, LIMIT or SETTINGS of a whole in brackets."""
    for span in _between(source, selects):
        for index in span:
            word = source.word(index)
            if word not in ("UNION", "INTERSECT", "EXCEPT", "ALL", "DISTINCT") and not source.is_op(
                index, "(", ")"
            ):
                raise Unreadable("set_operator", "", source.tokens[index].line)


def _compares(source: Source, selects: tuple[Select, ...]) -> bool:
    """Some operator tells equal rows: any but UNION ALL."""
    words = [[source.word(i) for i in span if source.word(i)] for span in _between(source, selects)]
    return any(between not in ([], ["UNION", "ALL"]) for between in words)


def _in_the_way(select: Select) -> Iterator[Refusal]:
    source = select.source
    yield from under_variables(select)
    if head := select.body("WITH"):
        yield refusal("set_operator", source.line(head))  # the first SELECT's names hold in the others too
    if known_width(select) is None:
        yield refusal("star", source.line(select.item_list))


def _waits(plan: Plan) -> bool:
    """Something is left for a request to do but to find one value's rows."""
    return not plan.dimensions or bool(plan.conditions) or plan.cut != Cut()


def _variables(plan: Plan) -> tuple[str | None, ...]:
    return tuple(dimension.variable for dimension in plan.dimensions)
