"""From a version to its plan, by its text alone.

The path: read the SELECT → refuse what stands in the way → sort the conjuncts that hold variables into
one-value dimensions and conditions → carry the dimensions through every clause (`docs/plan.md`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from endpoints.definition.model import Version
from endpoints.query.ordering import ordered
from endpoints.query.plan.carry import carry
from endpoints.query.plan.cut import cut
from endpoints.query.plan.model import Described, Plan, Refusal, Refused
from endpoints.query.plan.nested import nested
from endpoints.query.plan.reasons import refusal
from endpoints.query.plan.select import Source, Unreadable, parse_select, statement
from endpoints.query.plan.several import several
from endpoints.query.plan.shape import (
    hidden_names,
    not_reproducible,
    under_variables,
    without_harmless_settings,
)
from endpoints.query.plan.slices import plan_sliced, sliced_by
from endpoints.query.plan.united import united
from endpoints.query.structure import parse
from endpoints.query.variables import placeholders


def make_plan(version: Version, described: Described | None = None) -> Plan | Refused:
    """The plan of a version, or every reason found why there is none. Pure.

    `described` completes what only a DESCRIBE can tell: how many columns `SELECT *` has, the types of states.
    """
    if sliced_by(version) is not None:
        return plan_sliced(version, lambda sliced: _make(sliced, described))
    return _make(version, described)


def _make(version: Version, described: Described | None) -> Plan | Refused:
    """The plan of a query; of one with a slice as if its bounds were variables."""
    try:
        source = Source(version.sql)
        moment = _has_one_moment(version)
        if reasons := (*not_reproducible(source, moment), *_hidden(version, source)):
            return Refused(reasons)
        if not version.variables:
            return _whole(version, source, described)
        plan = _one_select(version, source, described)
        made = plan if isinstance(plan, Plan) else _around_stored(version, described) or plan
        return (
            Refused(reasons) if isinstance(made, Plan) and (reasons := _unbucketed(version, made)) else made
        )
    except Unreadable as error:
        return Refused((refusal(error.code, error.line, error.detail),))


def _one_select(version: Version, source: Source, described: Described | None) -> Plan | Refused:
    """Dimensions are carried where they can be, since rows are then the answer; else the plan is cut.

    SELECTs joined by set operators are carried or refused.
    """
    try:
        if len(parse(source.sql).branches) > 1:
            return united(version, source, described)
        select = parse_select(source)
    except Unreadable as error:
        return Refused((refusal(error.code, error.line, error.detail),))
    if reasons := tuple(under_variables(select)):
        return Refused(reasons)
    carried = carry(version, select, described.names if described else None)
    return cut(version, select, described) if carried is None else carried


def _around_stored(version: Version, described: Described | None) -> Plan | None:
    """The query's own text run over one SELECT that is stored below the top, or over several."""
    plain = replace(version, sql=without_harmless_settings(version.sql))
    plan = nested(plain, described)
    if plan is None and not _is_partitioned(version):
        plan = several(plain, Source(plain.sql), described)
    return plan


def _hidden(version: Version, source: Source) -> tuple[Refusal, ...]:
    return tuple(hidden_names(source)) if version.variables else ()


def _has_one_moment(version: Version) -> bool:
    """All rows of the asset are of one moment, which the clock can be bound to; partitions have their own."""
    return version.clock is not None and not _is_partitioned(version)


def _is_partitioned(version: Version) -> bool:
    return version.materialize is not None and version.materialize.partitions is not None


def _unbucketed(version: Version, plan: Plan) -> tuple[Refusal, ...]:
    """Variables with `bucket` that stand anywhere but in a condition that buckets answer."""
    conditions = [c for one in (plan, *plan.parts) for c in one.conditions]
    answered = Counter(name for c in conditions if c.bucket is not None for name in c.variables)
    used = Counter(place.name for place in placeholders(version.sql))
    return tuple(
        refusal("bucket", variable.line, variable.name)
        for variable in version.variables.values()
        if variable.bucket is not None and answered[variable.name] != used[variable.name]
    )


def _whole(version: Version, source: Source, described: Described | None) -> Plan:
    """A query without variables is stored as it answers, in the total order that pages have."""
    sql = source.text(statement(source))
    if described is None:
        return Plan(version.key, sql, ())
    width = len(described.names)
    return Plan(version.key, ordered(sql, width).sql, (), width=width)
