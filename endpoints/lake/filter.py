"""A request's conditions over an asset's rows: by Arrow where it compares as ClickHouse does, else by
ClickHouse.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from endpoints.errors import Unaligned
from endpoints.lake.rows import Compared, comparable
from endpoints.query.bind import Bound
from endpoints.query.plan import Condition
from endpoints.query.plan.buckets import edge_of, is_edge
from endpoints.query.plan.conditions import compares_in_arrow
from endpoints.query.plan.reading import ROW_NUMBER, Parameters, Run, holding, parameters
from endpoints.types import ClickHouseType, Column, Value, storage_type, stored, to_scalar
from endpoints.warehouse.protocol import Caps, Statement

_COMPARE: dict[str, Callable[[pa.ChunkedArray, pa.Scalar], pa.ChunkedArray]] = {
    "=": pc.equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
_FIRST_ROWS, _MOST_ROWS = 65_536, 1_048_576


@dataclass(frozen=True, slots=True)
class Filter:
    """The conditions that this request asks, split by who evaluates them. Rows keep their order."""

    compared: tuple[Compared, ...]
    evaluated: tuple[Condition, ...]
    types: Mapping[str, ClickHouseType]
    bound: Bound
    timezone: str

    @property
    def passes_all(self) -> bool:
        return not self.compared and not self.evaluated

    def compare(self, rows: pa.Table) -> pa.Table:
        """The rows that pass what Arrow compares; NULL passes nothing."""
        for one in self.compared:
            rows = rows.filter(_COMPARE[one.operator](rows.column(one.column), one.value))
        return rows

    def evaluate(self, pieces: Iterable[pa.Table], run: Run) -> Iterator[pa.Table]:
        """The rows that pass the conditions in ClickHouse's words, some at a time, growing in number."""
        for rows in _gathered(pieces) if self.evaluated else pieces:
            yield self._held(rows, run) if self.evaluated else rows

    def _held(self, rows: pa.Table, run: Run) -> pa.Table:
        names = list(dict.fromkeys(name for c in self.evaluated for name in c.columns))
        columns = (*(Column(name, self.types[name]) for name in names), ROW_NUMBER)
        given = rows.select(names).append_column(ROW_NUMBER.name, pa.array(range(rows.num_rows), pa.uint64()))
        variables = [name for c in self.evaluated for name in c.variables]
        statement = Statement(holding(self.evaluated), parameters(variables, bound_values(self.bound)))
        caps = Caps(timeout=self.bound.version.limits.timeout)
        _, held = run(statement, columns, given, timezone=self.timezone, caps=caps)
        indices = held.column(0).combine_chunks()
        return rows.take(pc.take(indices, pc.sort_indices(indices)))


def bound_values(bound: Bound) -> Parameters:
    """The bound values with their types, as statements take them."""
    variables = bound.version.variables
    return {name: (variables[name].type, value) for name, value in bound.values.items()}


def check_aligned(
    conditions: Iterable[Condition], columns: Iterable[Column], bound: Bound, timezone: str
) -> None:
    """Raises Unaligned where a bound lies within a stored bucket: its rows cannot be told apart."""
    types = {column.name: column.type for column in columns}
    for condition in conditions:
        if condition.bucket is None or condition.comparison is None:
            continue
        column, operator, name = condition.comparison
        zone = types[column].timezone or timezone
        if name not in bound.absent and not is_edge(
            condition.bucket, edge_of(operator, bound.values[name]), zone
        ):
            raise Unaligned(f"{name} is not where a {condition.bucket} begins in {zone}")


def request_filter(
    conditions: Iterable[Condition], types: Mapping[str, ClickHouseType], bound: Bound, timezone: str
) -> Filter:
    """The filter of one request: conditions of absent variables are left out."""
    asked = [c for c in conditions if bound.absent.isdisjoint(c.variables)]
    compared, evaluated = [], []
    for condition in asked:
        comparison = _comparison(condition, types, bound)
        if comparison is None:
            evaluated.append(condition)
        else:
            compared.append(comparison)
    return Filter(tuple(compared), tuple(evaluated), types, bound, timezone)


def _comparison(condition: Condition, types: Mapping[str, ClickHouseType], bound: Bound) -> Compared | None:
    """The condition as Arrow can compare it with the same outcome, if it can."""
    if condition.comparison is None:
        return None
    column, operator, name = condition.comparison
    variable, value = bound.version.variables[name].type, bound.values[name]
    found = types[column]
    if value is None or not compares_in_arrow(found, variable):
        return None
    scalar = scalar_of(found, variable, value)
    return None if scalar is None else Compared(column, operator, scalar)


def sought_key(column: ClickHouseType, variable: ClickHouseType, value: Value) -> Any:
    """A value as `comparable` gives it of a column whose type compares exactly with its own; None if none is
    equal.
    """
    if column.base.text == variable.base.text and _is_itself(storage_type(column)):
        return stored(variable, value)  # making a scalar takes longer than all else in a seek
    scalar = scalar_of(column, variable, value)
    return None if scalar is None else comparable(scalar)


def _is_itself(type_: pa.DataType) -> bool:
    """Whether a scalar of the type gives the very value back that it is made of."""
    return bool(pa.types.is_binary(type_) or pa.types.is_string(type_) or pa.types.is_integer(type_))


def scalar_of(column: ClickHouseType, variable: ClickHouseType, value: Value) -> pa.Scalar | None:
    """A value in the storage form of a column whose type compares exactly with its own; None if none is
    equal.
    """
    try:
        return (
            to_scalar(column, value) if column.base.text != variable.base.text else to_scalar(variable, value)
        )
    except (pa.ArrowInvalid, OverflowError):
        return None


def _gathered(pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Pieces put together: few calls to ClickHouse for many row groups, a small first one for small pages."""
    waiting: list[pa.Table] = []
    size, wanted = 0, _FIRST_ROWS
    for piece in pieces:
        if piece.num_rows:
            waiting.append(piece)
            size += piece.num_rows
        if size >= wanted:
            yield pa.concat_tables(waiting)
            waiting, size, wanted = [], 0, min(wanted * 4, _MOST_ROWS)
    if waiting:
        yield pa.concat_tables(waiting)
