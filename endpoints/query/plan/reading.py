"""The ClickHouse statements that reading an asset runs over its rows, in hand as a table `__rows`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Protocol

import pyarrow as pa

from endpoints.query.plan.edits import quoted
from endpoints.query.plan.model import Condition, Plan, State
from endpoints.types import ClickHouseType, Column, Value, parse_type, storage_schema
from endpoints.warehouse.protocol import Caps, Statement

ROW_NUMBER = Column("__row", parse_type("UInt64"))
Parameters = Mapping[str, tuple[ClickHouseType, Value]]


class Run(Protocol):
    """Runs a statement over rows in hand: `warehouse.finish.Finisher.run`."""

    def __call__(
        self, statement: Statement, columns: Sequence[Column], rows: pa.Table, *, timezone: str, caps: Caps
    ) -> tuple[tuple[Column, ...], pa.Table]: ...


class _Finisher(Protocol):
    @property
    def run(self) -> Run: ...


def rows_columns(plan: Plan, stored: Sequence[Column]) -> tuple[tuple[Column, ...], dict[str, str]]:
    """The asset's columns under the names that `__rows` has, and the states' types by column.

    `__s0 AggregateFunction(uniq, String)` is a column of bytes, `__s0_bytes`, and that type.
    """
    states = plan.finish.states if plan.finish else ()
    kept = {state.column: state for state in states if state.kept_as_state}
    columns, types = [], {}
    for column in stored:
        name, _, type_text = column.name.partition(" ")
        if name in kept and type_text:
            types[name] = type_text
            columns.append(Column(kept[name].raw, column.type))
        else:
            columns.append(column)
    return tuple(columns), types


def holding(conditions: Sequence[Condition]) -> str:
    """The numbers of the rows that pass all conditions."""
    held = " AND ".join(f"({condition.sql})" for condition in conditions) or "1"
    return f"SELECT {ROW_NUMBER.name} FROM __rows WHERE {held}"  # noqa: S608  (the version's own text)


def finishing(plan: Plan, conditions: Sequence[Condition], state_types: Mapping[str, str]) -> str:
    """The answer, made of the rows that pass the conditions by the query's text above the cut."""
    assert plan.finish is not None
    columns = [*map(quoted, plan.finish.keys), *(dimension.column for dimension in plan.dimensions)]
    columns += [_state(state, state_types) for state in plan.finish.states]
    held = " AND ".join(f"({condition.sql})" for condition in conditions) or "1"
    asset = f"FROM (SELECT {', '.join(columns)} FROM __rows WHERE {held}) AS __asset"  # noqa: S608
    return plan.finish.sql.replace("FROM __asset", asset, 1)


def _state(state: State, types: Mapping[str, str]) -> str:
    if not state.kept_as_state:
        return state.column
    return f"CAST({state.raw} AS {types[state.column]}) AS {state.column}"


def parameters(names: Sequence[str], all_values: Parameters) -> Parameters:
    """Of all values those that a statement uses."""
    return {name: all_values[name] for name in names}


def variables_of(plan: Plan, conditions: Sequence[Condition]) -> tuple[str, ...]:
    """The variables that the conditions and the finish hold."""
    above = plan.finish.variables if plan.finish else ()
    return tuple(dict.fromkeys((*(name for c in conditions for name in c.variables), *above)))


def try_finish(
    plan: Plan, example: Statement, stored: Sequence[Column], finisher: _Finisher
) -> tuple[Column, ...]:
    """What reading runs, over no rows: the columns that it gives. Raises BadQuery where it cannot run."""
    columns, types = rows_columns(plan, stored)
    used = parameters(variables_of(plan, plan.conditions), example.parameters)
    if plan.finish is None:
        names = {name for condition in plan.conditions for name in condition.columns}
        columns = (*(column for column in columns if column.name in names), ROW_NUMBER)
        sql = holding(plan.conditions)
    else:
        sql = finishing(plan, plan.conditions, types)
    none = storage_schema(columns).empty_table()
    caps = Caps(timeout=timedelta(seconds=30))
    return finisher.run(Statement(sql, used), columns, none, timezone="UTC", caps=caps)[0]
