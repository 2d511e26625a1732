"""From a version to its plan, by its text alone.

The path: read the SELECT → refuse what stands in the way → sort the conjuncts that hold variables into
one-value dimensions and conditions → carry the dimensions through every clause (`docs/plan.md`).
"""

from __future__ import annotations

from endpoints.definition.model import Version
from endpoints.query.ordering import ordered
from endpoints.query.plan.carry import carry
from endpoints.query.plan.model import Plan, Refusal, Refused
from endpoints.query.plan.reasons import refusal
from endpoints.query.plan.select import Source, Unreadable, parse_select, statement
from endpoints.query.plan.shape import not_reproducible


def make_plan(version: Version, names: tuple[str, ...] | None = None) -> Plan | Refused:
    """The plan of a version, or every reason found why there is none. Pure.

    `names` are the result's columns where a DESCRIBE has told them: `SELECT *` does not.
    """
    try:
        source = Source(version.sql)
        if reasons := (*_unserved(version), *not_reproducible(source, version.clock)):
            return Refused(reasons)
        if not version.variables:
            return _whole(version, source, names)
        return carry(version, parse_select(source), names)
    except Unreadable as error:
        return Refused((refusal(error.code, error.line, error.detail),))


def _unserved(version: Version) -> tuple[Refusal, ...]:
    partitioned = version.materialize is not None and version.materialize.partitions is not None
    return (refusal("partitions", 1),) if partitioned else ()


def _whole(version: Version, source: Source, names: tuple[str, ...] | None) -> Plan:
    """A query without variables is stored as it answers, in the total order that pages have."""
    sql = source.text(statement(source))
    if names is None:
        return Plan(version.key, sql, ())
    return Plan(version.key, ordered(sql, len(names)).sql, (), width=len(names))
