"""What text cannot tell: whether the plan has the query's columns, and dimensions their variables' types."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from endpoints.definition.model import Variable, Version
from endpoints.errors import BadQuery
from endpoints.query.plan.build import make_plan
from endpoints.query.plan.conditions import compares_in_arrow, equality_type, has_exact_equality
from endpoints.query.plan.model import Condition, Plan, Refusal, Refused
from endpoints.query.plan.reasons import refusal
from endpoints.types import ClickHouseType, Column, Value, example_value
from endpoints.warehouse.protocol import Statement, Warehouse

FINISH_FROM = (26, 9)
"""The oldest server beside which conditions and finishes have been tested: functions change between
versions.
"""


def check_plan(plan: Plan, version: Version, warehouse: Warehouse) -> Plan | Refused:
    """The plan, complete, if ClickHouse sees in it what it sees in the query; else why not.

    Raises WarehouseUnavailable.
    """
    try:
        live = warehouse.describe(live_example(version))
    except BadQuery as error:
        return Refused((refusal("query", 1, str(error)),))
    planned = make_plan(version, tuple(column.name for column in live))
    if isinstance(planned, Refused):
        return planned
    plan = planned
    try:
        stored = warehouse.describe(Statement(plan.materialize_sql))
    except BadQuery as error:
        return Refused((refusal("unplannable", 1, str(error)),))
    if not _same(live, stored[: len(live)]) or len(stored) != len(live) + len(plan.dimensions):
        return Refused((refusal("columns", 1),))
    hidden = stored[len(live) :]
    wrong = (*_type_gaps(plan, version, hidden), *_refused_conditions(plan, version, hidden, warehouse))
    return Refused(wrong) if wrong else replace(plan, width=len(live))


def live_example(version: Version) -> Statement:
    """The query with some value for each variable, its author's where there is one: enough to be
    described.
    """
    values = {name: (variable.type, _example(variable)) for name, variable in version.variables.items()}
    return Statement(version.sql, values)


def _example(variable: Variable) -> Value:
    if variable.example is not None:
        return variable.example
    return variable.enum[0] if variable.enum else example_value(variable.type)


def _same(one: tuple[Column, ...], other: tuple[Column, ...]) -> bool:
    return [(c.name, c.type) for c in one] == [(c.name, c.type) for c in other]


def _type_gaps(plan: Plan, version: Version, hidden: tuple[Column, ...]) -> Iterator[Refusal]:
    """Comparisons that are exact between equal types only, and are not between such."""
    types = {column.name: column.type for column in hidden}
    for dimension in plan.seek:
        assert dimension.variable is not None
        variable, found = version.variables[dimension.variable].type, types[dimension.column]
        if not has_exact_equality(found) or equality_type(variable) != equality_type(found):
            yield refusal("type", dimension.line, _gap(dimension.expression, found, variable))


def _refused_conditions(
    plan: Plan, version: Version, hidden: tuple[Column, ...], warehouse: Warehouse
) -> Iterator[Refusal]:
    """Conditions that ClickHouse cannot evaluate on the stored columns, or that the server's may judge
    otherwise.
    """
    values = live_example(version).parameters
    types = {column.name: column.type for column in hidden}
    asked = [c for c in plan.conditions if not _compares_in_arrow(c, version, types)]
    if asked and not _is_tested(warehouse.server().version):
        yield refusal("version", asked[0].line, ".".join(map(str, FINISH_FROM)))
    for condition in asked:
        sql = "".join(("SELECT (", condition.sql, ") AS held FROM (\n", plan.materialize_sql, "\n)"))
        used = {name: values[name] for name in condition.variables}
        try:
            warehouse.describe(Statement(sql, used))
        except BadQuery as error:
            yield refusal("condition", condition.line, str(error))


def _compares_in_arrow(condition: Condition, version: Version, types: Mapping[str, ClickHouseType]) -> bool:
    if condition.comparison is None:
        return False
    column, _, name = condition.comparison
    return compares_in_arrow(types[column], version.variables[name].type)


def _is_tested(version: str) -> bool:
    """The server's functions are known to answer as the embedded ClickHouse that reads."""
    numbers = re.findall(r"\d+", version)[:2]
    return tuple(map(int, numbers)) >= FINISH_FROM


def _gap(what: str, found: ClickHouseType, variable: ClickHouseType) -> str:
    return f"{what} compares {found} with {variable}, which is not exact outside of ClickHouse"
