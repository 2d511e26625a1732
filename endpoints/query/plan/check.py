"""What text cannot tell: whether the plan has the query's columns, and dimensions their variables' types."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from endpoints.definition.model import Variable, Version
from endpoints.errors import BadQuery
from endpoints.query.plan.build import make_plan
from endpoints.query.plan.conditions import ARROW_ORDER, has_exact_equality
from endpoints.query.plan.model import Plan, Refusal, Refused
from endpoints.query.plan.reasons import refusal
from endpoints.types import ClickHouseType, Column, Value, example_value
from endpoints.warehouse.protocol import Statement, Warehouse


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
    wrong = tuple(_type_gaps(plan, version, stored[len(live) :]))
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
    for condition in plan.conditions:
        if condition.comparison is not None:
            column, _, name = condition.comparison
            variable, found = version.variables[name].type, types[column]
            if found.base.name not in ARROW_ORDER or equality_type(variable) != equality_type(found):
                yield refusal("type", condition.line, _gap(condition.written, found, variable))


def _gap(what: str, found: ClickHouseType, variable: ClickHouseType) -> str:
    return f"{what} compares {found} with {variable}, which is not exact outside of ClickHouse"


def equality_type(type_: ClickHouseType) -> str:
    """The type but for Nullable, LowCardinality and the time zone, which moves no instant."""
    base = type_.base
    if base.name == "DateTime":
        return "DateTime"
    return f"DateTime64({base.numbers[0]})" if base.name == "DateTime64" else base.text
