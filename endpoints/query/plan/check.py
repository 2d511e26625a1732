"""What text cannot tell: whether the plan has the query's columns, and dimensions their variables' types."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from endpoints.definition.model import Version
from endpoints.errors import BadQuery, UnsupportedType
from endpoints.query.clock import at_moment
from endpoints.query.examples import example_values
from endpoints.query.plan.buckets import has_steady, is_bucketed
from endpoints.query.plan.build import make_plan
from endpoints.query.plan.conditions import compares_in_arrow, equality_type, has_exact_equality
from endpoints.query.plan.functions import adds_floats
from endpoints.query.plan.model import Condition, Described, Plan, Refusal, Refused
from endpoints.query.plan.moment import plan_at
from endpoints.query.plan.reading import stored_parts, try_finish
from endpoints.query.plan.reasons import refusal
from endpoints.query.plan.several import read_columns, side_by_side
from endpoints.query.plan.slices import bounds_of, slice_gaps, sliced_column
from endpoints.query.slices import bounded_sql
from endpoints.types import ClickHouseType, Column, check_storable
from endpoints.warehouse.finish import Finisher
from endpoints.warehouse.protocol import Caps, Statement, Warehouse

FINISH_FROM = (26, 9)
"""The oldest server beside which conditions and finishes have been tested: functions change between
versions.
"""

MOST_UNSOUGHT = 2_000_000
"""Rows of one of several stored SELECTs that each request may have to read."""

PLAN_SETTINGS = frozenset(
    {
        *("prefer_column_name_to_alias", "limit", "offset", "additional_result_filter"),
        "enable_positional_arguments",
    }
)
"""Server settings that change what a plan's text means, or cut its rows."""

FINISH_SETTINGS = frozenset(
    {
        *("aggregate_functions_null_for_empty", "cast_keep_nullable", "compatibility", "group_by_use_nulls"),
        *("count_distinct_implementation", "decimal_check_overflow", "transform_null_in"),
        "empty_result_for_aggregation_by_empty_set",
    }
)
"""Server settings that change answers, and that the reading side does not have."""

_ONE, _OTHER = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
"""Moments for the query and for its plan to be described at: no name may depend on which."""

BUCKET_SETTINGS = frozenset({"enable_extended_results_for_datetime_functions", "session_timezone"})
"""Server settings that change where a bucket starts."""


def check_plan(
    plan: Plan, version: Version, warehouse: Warehouse, finisher: Finisher | None = None
) -> Plan | Refused:
    """The plan, complete, if ClickHouse sees in it what it sees in the query; else why not.

    `finisher` tries what the plan leaves to read time; a new one is started if it is needed and not given.
    Raises WarehouseUnavailable.
    """
    try:
        live = warehouse.describe(live_example(version))
    except BadQuery as error:
        return Refused((refusal("query", 1, str(error)),))
    if wrong := [*_mixed(plan, live)] or [*_unstorable(live)]:
        return Refused(tuple(wrong))
    try:
        planned, stored = _described(version, warehouse, tuple(column.name for column in live))
    except BadQuery as error:
        return Refused((*_apart(plan, warehouse),) or (refusal("unplannable", 1, str(error)),))
    if isinstance(planned, Refused):
        return planned
    kept = live if planned.finish is None else ()
    named = tuple(column.name.partition(" ")[0] for column in stored[len(kept) :])
    if not planned.parts and (not _same(kept, stored[: len(kept)]) or named != planned.hidden):
        return Refused((refusal("columns", 1),))
    if wrong := [*_unstorable_dimensions(planned, stored)]:
        return Refused(tuple(wrong))
    wrong = []
    for part, own in stored_parts(planned, stored):
        wrong += [*_type_gaps(part, version, own), *_bucket_gaps(part, version, warehouse, own)]
        wrong += [*_float_rows(part, version, own if planned.parts else live, own)]
    if planned.parts:
        wrong += [*_float_rows(planned, version, live, stored)]
    wrong += [*_slice_gaps(planned, version, warehouse)]
    for branch in planned.branches:  # what they give together may have a wider type than each alone
        own = warehouse.describe(Statement(branch.materialize_sql, bounds_of(version)))
        wrong += [*_type_gaps(branch, version, own), *_float_rows(branch, version, own, own)]
    if planned.parts and not wrong:
        wrong += _unsought(planned, warehouse)
    if version.variables and not wrong:
        wrong += _profile(warehouse, _decisive(planned, version, stored))
    if not wrong and _needs_clickhouse(planned, version, stored):
        wrong += _unfinished(planned, version, warehouse, live, stored, finisher)
    if wrong:
        return Refused(tuple(wrong))
    floats = (written for part, own in stored_parts(planned, stored) for written in _floats(part, own))
    return replace(planned, width=len(live), floats=tuple(dict.fromkeys(floats)))


def _described(
    version: Version, warehouse: Warehouse, names: tuple[str, ...]
) -> tuple[Plan | Refused, tuple[Column, ...]]:
    """The plan with what DESCRIBE adds, and the columns that it stores."""
    planned = make_plan(version, Described(names))
    if isinstance(planned, Refused):
        return planned, ()
    if planned.parts:
        return _described_parts(planned, version, warehouse)
    if planned.finish is not None and planned.finish.states:
        inner = Statement(planned.finish.inner_sql, bounds_of(version))
        found = {c.name: c.type.text for c in warehouse.describe(inner)}
        types = tuple(found[state.column] for state in planned.finish.states)
        planned = make_plan(version, Described(names, types))
        assert isinstance(planned, Plan)
    sql = plan_at(planned, version.clock, _OTHER).materialize_sql
    return planned, warehouse.describe(Statement(sql, bounds_of(version)))


def _described_parts(
    planned: Plan, version: Version, warehouse: Warehouse
) -> tuple[Plan | Refused, tuple[Column, ...]]:
    """The SQL that stores several SELECTs side by side, which takes the types of their columns."""
    parts = tuple(_with_state_types(part, version, warehouse) for part in planned.parts)
    columns = [_read_columns(part, version, _ONE, warehouse) for part in parts]
    if version.clock and columns != [_read_columns(part, version, _OTHER, warehouse) for part in parts]:
        return Refused((refusal("columns", 1),)), ()
    if any(len({column.name for column in own}) < len(own) for own in columns):
        return Refused((refusal("columns", 1),)), ()
    if wrong := [reason for own in columns for reason in _unstorable(own)]:
        return Refused(tuple(wrong)), ()
    planned = replace(planned, parts=parts, materialize_sql=side_by_side(parts, columns))
    return planned, warehouse.describe(Statement(plan_at(planned, version.clock, _OTHER).materialize_sql))


def _read_columns(part: Plan, version: Version, moment: datetime, warehouse: Warehouse) -> tuple[Column, ...]:
    sql = plan_at(part, version.clock, moment).materialize_sql
    return read_columns(part, warehouse.describe(Statement(sql)))


def _with_state_types(part: Plan, version: Version, warehouse: Warehouse) -> Plan:
    finish = plan_at(part, version.clock, _ONE).finish
    assert part.finish is not None
    assert finish is not None
    if not finish.states:
        return part
    types = {c.name: c.type.text for c in warehouse.describe(Statement(finish.inner_sql))}
    states = (replace(s, type_text=types[s.column]) if s.kept_as_state else s for s in part.finish.states)
    return replace(part, finish=replace(part.finish, states=tuple(states)))


def live_example(version: Version) -> Statement:
    """The query with some value for each variable: enough to be described."""
    values = {name: (version.variables[name].type, value) for name, value in example_values(version).items()}
    sql = bounded_sql(version)
    sql = sql if version.clock is None else at_moment(sql, _ONE)
    return Statement(sql, {**values, **bounds_of(version)})


def _same(one: tuple[Column, ...], other: tuple[Column, ...]) -> bool:
    return [(c.name, c.type) for c in one] == [(c.name, c.type) for c in other]


def _unstorable(columns: tuple[Column, ...]) -> Iterator[Refusal]:
    """What files cannot hold; ClickHouse itself would complain of the plan's ORDER BY, naming no column."""
    try:
        check_storable(columns)
    except (UnsupportedType, BadQuery) as error:
        yield refusal("unstorable", 1, str(error))


def _mixed(plan: Plan, live: tuple[Column, ...]) -> Iterator[Refusal]:
    """Columns that are Variants because the SELECTs of a UNION have them in types without a common one."""
    for column in live if plan.branches else ():
        if column.type.base.name == "Variant":
            yield refusal("union_types", 1, f"column {column.name!r} is a {column.type}")


def _apart(plan: Plan, warehouse: Warehouse) -> Iterator[Refusal]:
    """Dimensions that the SELECTs of a UNION have in different types, where these cannot be joined."""
    described = [warehouse.describe(Statement(branch.materialize_sql)) for branch in plan.branches]
    for dimension in plan.dimensions if plan.branches else ():
        held = [c.type.base.text for columns in described for c in columns if c.name == dimension.column]
        if len(set(held)) > 1:
            said = f"{{{dimension.variable}}} is compared with {' and '.join(dict.fromkeys(held))}"
            yield refusal("union_types", dimension.line, said)


def _unstorable_dimensions(plan: Plan, stored: tuple[Column, ...]) -> Iterator[Refusal]:
    types = {column.name: column.type for column in stored}
    for dimension in plan.dimensions:
        for found in _unstorable((Column(dimension.expression, types[dimension.column]),)):
            yield replace(found, line=dimension.line)


def _type_gaps(plan: Plan, version: Version, hidden: tuple[Column, ...]) -> Iterator[Refusal]:
    """Comparisons that are exact between equal types only, and are not between such."""
    types = {column.name: column.type for column in hidden}
    for dimension in plan.seek:
        assert dimension.variable is not None
        variable, found = version.variables[dimension.variable].type, types[dimension.column]
        if not has_exact_equality(found) or equality_type(variable) != equality_type(found):
            yield refusal("type", dimension.line, _gap(dimension.expression, found, variable))


def _unsought(plan: Plan, warehouse: Warehouse) -> Iterator[Refusal]:
    """Stored SELECTs of which each request would read a great many rows."""
    for part in plan.parts:
        if part.seek:
            continue
        rows = f"(SELECT 1 FROM (\n{part.materialize_sql}\n) LIMIT {MOST_UNSOUGHT + 1})"  # noqa: S608
        with warehouse.run(Statement(f"SELECT count() FROM {rows}"), Caps()) as result:  # noqa: S608
            (count,) = [value.as_py() for batch in result for value in batch.column(0)]
        if count > MOST_UNSOUGHT:
            yield refusal("unsought", 1, f"{MOST_UNSOUGHT:,}")


def _bucket_gaps(
    plan: Plan, version: Version, warehouse: Warehouse, stored: tuple[Column, ...]
) -> Iterator[Refusal]:
    """Buckets of another type than their variable's, or of moments that older servers do not keep."""
    types = {column.name: column.type for column in stored}
    for condition in plan.conditions:
        if condition.bucket is None or condition.comparison is None:
            continue
        found, variable = types[condition.columns[0]], version.variables[condition.variables[0]].type
        if not is_bucketed(found) or equality_type(found) != equality_type(variable):
            yield refusal("type", condition.line, _gap(condition.written, found, variable))
            continue
        zone = found.timezone or warehouse.server().timezone
        if found.base.name.startswith("DateTime") and not has_steady(condition.bucket, zone):
            yield refusal("bucket_zone", condition.line, zone)
        if found.base.name == "DateTime64" and not _is_tested(warehouse.server().version):
            yield refusal("version", condition.line, ".".join(map(str, FINISH_FROM)))


def _slice_gaps(plan: Plan, version: Version, warehouse: Warehouse) -> Iterator[Refusal]:
    """A partition column of a type or time zone that does not make the slices that the plan is about."""
    if plan.slicing is None:
        return
    (column,) = warehouse.describe(sliced_column(plan.slicing))
    server = warehouse.server()
    yield from slice_gaps(plan.slicing, version, column.type, server, tested=_is_tested(server.version))


def _floats(plan: Plan, stored: tuple[Column, ...]) -> tuple[str, ...]:
    """The aggregates that are put together from parts, and add floats in their order."""
    types = {column.name: column.type for column in stored}
    # Where every dimension is sought, each answer merges one part only, and that is the part.
    sought = plan.slicing is None and all(dimension.variable is not None for dimension in plan.dimensions)
    if plan.finish is None or sought:
        return ()
    return tuple(
        state.written
        for state in plan.finish.states
        if adds_floats(state.function, f"{state.type_text} {types[state.name]}")
    )


def _float_rows(
    plan: Plan, version: Version, live: tuple[Column, ...], stored: tuple[Column, ...]
) -> Iterator[Refusal]:
    """Floats that decide which rows there are."""
    if not plan.distinct or not (version.variables or plan.slicing):
        return
    states = {state.name for state in plan.finish.states} if plan.finish else set[str]()
    kept = tuple(column for column in stored if column.name not in states) if plan.finish else ()
    for column in (*live, *kept):
        if "Float" in column.type.text:
            yield refusal("float_distinct", 1, column.name)


def _needs_clickhouse(plan: Plan, version: Version, stored: tuple[Column, ...]) -> bool:
    types = {column.name: column.type for column in stored}
    return plan.finish is not None or not all(_compares_in_arrow(c, version, types) for c in plan.conditions)


def _decisive(plan: Plan, version: Version, stored: tuple[Column, ...]) -> frozenset[str]:
    """The settings under which the plan, or its finish, would not answer as the query does."""
    finished = _needs_clickhouse(plan, version, stored)
    conditions = [condition for one in (plan, *plan.parts) for condition in one.conditions]
    bucketed = any(condition.bucket is not None for condition in conditions)
    return (
        PLAN_SETTINGS
        | (FINISH_SETTINGS if finished else frozenset())
        | (BUCKET_SETTINGS if bucketed else frozenset())
    )


def _profile(warehouse: Warehouse, decisive: frozenset[str]) -> Iterator[Refusal]:
    """Those of the settings that the server's profile changes."""
    names = sorted(decisive)
    listed = ", ".join(f"'{name}'" for name in names)
    sql = f"SELECT name FROM system.settings WHERE changed AND name IN ({listed})"  # noqa: S608  (our own names)
    with warehouse.run(Statement(sql), Caps(timeout=timedelta(seconds=30))) as result:
        changed = [name.as_py().decode() for batch in result for name in batch.column(0)]
    for name in changed:
        yield refusal("settings", 1, f"{name} of the server's profile")


def _unfinished(
    plan: Plan,
    version: Version,
    warehouse: Warehouse,
    live: tuple[Column, ...],
    stored: tuple[Column, ...],
    finisher: Finisher | None,
) -> Iterator[Refusal]:
    """What the reading side cannot evaluate, or does to another result than the query's."""
    if not _is_tested(warehouse.server().version):
        yield refusal("version", 1, ".".join(map(str, FINISH_FROM)))
        return
    line = plan.conditions[0].line if plan.conditions else 1
    used = finisher or Finisher(workers=1)
    try:
        answered = try_finish(plan_at(plan, version.clock, _OTHER), live_example(version), stored, used)
    except BadQuery as error:
        yield refusal("condition", line, str(error))
    else:
        if plan.finish is not None and not _same(answered, live):
            yield refusal("columns", line)
    finally:
        if finisher is None:
            used.close()


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
