"""The ClickHouse statements that reading an asset runs over its rows, in hand as a table `__rows`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

import pyarrow as pa

from endpoints.query.bind import without
from endpoints.query.lexer import significant, tokenize
from endpoints.query.plan.edits import quoted, renamed
from endpoints.query.plan.model import Condition, Plan, State, stored_name
from endpoints.query.splice import Edit, splice
from endpoints.query.variables import placeholders
from endpoints.types import ClickHouseType, Column, Value, parse_type, storage_schema
from endpoints.warehouse.protocol import Caps, Statement

ROW_NUMBER = Column("__row", parse_type("UInt64"))
_NAMED = re.compile(r"__(asset|stored)(\d*)")
Parameters = Mapping[str, tuple[ClickHouseType, Value]]


class Run(Protocol):
    """Runs a statement over rows in hand: `warehouse.finish.Finisher.run`."""

    def __call__(
        self, statement: Statement, columns: Sequence[Column], rows: pa.Table, *, timezone: str, caps: Caps
    ) -> tuple[tuple[Column, ...], pa.Table]: ...


Tables = Mapping[str, tuple[Sequence[Column], pa.Table]]


class RunOver(Protocol):
    """The same over several tables of rows: `warehouse.finish.Finisher.run_over`."""

    def __call__(
        self, statement: Statement, tables: Tables, *, timezone: str, caps: Caps
    ) -> tuple[tuple[Column, ...], pa.Table]: ...


class _Finisher(Protocol):
    @property
    def run(self) -> Run: ...

    @property
    def run_over(self) -> RunOver: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """One stored SELECT as a request reads it: its rows in `table`, and what Arrow has not filtered by."""

    plan: Plan
    table: str
    columns: tuple[Column, ...]
    state_types: Mapping[str, str]
    conditions: tuple[Condition, ...]


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


def stored_parts(plan: Plan, stored: Sequence[Column]) -> tuple[tuple[Plan, tuple[Column, ...]], ...]:
    """The SELECTs that an asset holds, each with its own columns under the names that it gave them."""
    if not plan.parts:
        return ((plan, tuple(stored)),)
    found = []
    for number, part in enumerate(plan.parts):
        prefix = stored_name(number, "")
        own = (column for column in stored if column.name.startswith(prefix))
        found.append((part, tuple(replace(column, name=column.name.removeprefix(prefix)) for column in own)))
    return tuple(found)


def asked_of(
    plan: Plan, stored: Sequence[Column], number: int | None, conditions: Sequence[Condition]
) -> Asked:
    """One stored SELECT, the `number`th of several, as it is read where these conditions hold."""
    columns, types = rows_columns(plan, stored)
    return Asked(plan, "__rows" if number is None else f"__rows{number}", columns, types, tuple(conditions))


def finishing(sql: str, asked: Sequence[Asked], absent: frozenset[str] = frozenset()) -> str:
    """The text above what is stored, over the rows that a request selects.

    `__asset` becomes the rows of the one stored SELECT; `__asset1` the answer of one of several, `__stored1`
    its rows. Conditions on absent variables are left out.
    """
    return _expanded(without(sql, absent), asked, absent)


def _expanded(sql: str, asked: Sequence[Asked], absent: frozenset[str]) -> str:
    edits = []
    for token in significant(tokenize(sql)):
        if found := _NAMED.fullmatch(token.name):
            number = int(found[2] or 0)
            answers = found[1] == "asset" and found[2]
            text = _answer(number, asked, absent) if answers else _rows(asked[number], asked, absent)
            edits.append(Edit(token.start, token.end, f"({text}) AS {token.name}"))
    return splice(sql, edits)


def _answer(number: int, asked: Sequence[Asked], absent: frozenset[str]) -> str:
    finish = asked[number].plan.finish
    assert finish is not None
    return finishing(renamed(finish.sql, "__asset", f"__stored{number}"), asked, absent)


def _rows(one: Asked, asked: Sequence[Asked], absent: frozenset[str]) -> str:
    """The rows that pass the conditions, states as states."""
    assert one.plan.finish is not None
    states = {state.raw: state for state in one.plan.finish.states}
    columns = [
        _state(states[column.name], one.state_types) if column.name in states else quoted(column.name)
        for column in one.columns
    ]
    held = " AND ".join(f"({_expanded(c.sql, asked, absent)})" for c in one.conditions) or "1"
    return f"SELECT {', '.join(columns)} FROM {one.table} WHERE {held}"  # noqa: S608  (the version's own text)


def _state(state: State, types: Mapping[str, str]) -> str:
    if not state.kept_as_state:
        return state.column
    return f"CAST({state.raw} AS {types[state.column]}) AS {state.column}"


def parameters(names: Sequence[str], all_values: Parameters) -> Parameters:
    """Of all values those that a statement uses; absent variables have none."""
    return {name: all_values[name] for name in names if name in all_values}


def variables_of(plan: Plan, asked: Sequence[Asked]) -> tuple[str, ...]:
    """The variables that the conditions and the finishes hold."""
    finishes = [plan.finish, *(one.plan.finish for one in asked)]
    above = [name for finish in finishes if finish for name in finish.variables]
    texts = [place.name for one in asked for c in one.conditions for place in placeholders(c.sql)]
    return tuple(dict.fromkeys((*texts, *above)))


def try_finish(
    plan: Plan, example: Statement, stored: Sequence[Column], finisher: _Finisher
) -> tuple[Column, ...]:
    """What reading runs, over no rows: the columns that it gives. Raises BadQuery where it cannot run."""
    caps = Caps(timeout=timedelta(seconds=30))
    if plan.finish is None:
        names = {name for condition in plan.conditions for name in condition.columns}
        columns = (*(column for column in stored if column.name in names), ROW_NUMBER)
        used = parameters([name for c in plan.conditions for name in c.variables], example.parameters)
        statement = Statement(holding(plan.conditions), used)
        none = storage_schema(columns).empty_table()
        return finisher.run(statement, columns, none, timezone="UTC", caps=caps)[0]
    asked = [
        asked_of(part, own, number if plan.parts else None, part.conditions)
        for number, (part, own) in enumerate(stored_parts(plan, stored))
    ]
    used = parameters(variables_of(plan, asked), example.parameters)
    tables = {one.table: (one.columns, storage_schema(one.columns).empty_table()) for one in asked}
    statement = Statement(finishing(plan.finish.sql, asked), used)
    return finisher.run_over(statement, tables, timezone="UTC", caps=caps)[0]
