"""A plan as data: what to materialize, what to filter on, and how to answer a request from the rows.

A plan *carries* a one-value dimension (`expr = {v:T}`) through the user's own SELECT as a hidden column, so
that
reading is a seek. Conditions of any other kind read hidden columns too, but are evaluated at read time, by
ClickHouse, in the user's own words. The rules behind it: `docs/plan.md`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

HIDDEN = "__"
"""Every column a plan adds begins so; a query that uses such names itself is refused."""

PART = "__part"
"""The first column of an asset that several SELECTs are stored in: the number of a row's SELECT."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One reason why a query is not materialized: a stable `code`, the place, and what to write instead."""

    code: str
    detail: str
    line: int
    fix: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.detail} [{self.code}] {self.fix}".rstrip()


@dataclass(frozen=True, slots=True)
class Refused:
    """The query cannot be answered from an asset with proof, so it runs live."""

    reasons: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True)
class Dimension:
    """A hidden column of the asset, and the text of the query that it holds.

    `variable` is set for a one-value dimension, whose rows are found by `column = value`; None for a column
    that only conditions read. `type_text` is the variable's declared type. `stored` is what the column holds:
    the expression, or the start of its bucket.
    """

    column: str
    expression: str
    operator: str
    variable: str | None
    type_text: str | None
    line: int
    stored: str


@dataclass(frozen=True, slots=True)
class Condition:
    """A conjunct evaluated at read time: `sql` over hidden columns, with the query's own placeholders.

    It is left out of a request in which one of its variables is absent (optional). `bucket` is set where its
    column holds buckets: then only a value on an edge has an answer here.
    """

    sql: str
    written: str
    variables: tuple[str, ...]
    columns: tuple[str, ...]
    comparison: tuple[str, str, str] | None
    """(column, operator, variable) where the condition is `column operator {variable}`."""
    line: int
    bucket: str | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """LIMIT and OFFSET of the query, applied to the filtered rows: numbers, or the variables that hold
    them.
    """

    limit: int | str | None = None
    offset: int | str = 0


@dataclass(frozen=True, slots=True)
class State:
    """An aggregate below the cut: its call of `function` as `written`, how it is `stored`, and the call that
    `merges` it.

    `type_text` is the state's ClickHouse type as the source's DESCRIBE gave it; None for values that merge as
    they are (counts, sums, minima, maxima), and before there was a DESCRIBE.
    """

    column: str
    function: str
    written: str
    stored: str
    merges: str
    kept_as_state: bool
    type_text: str | None = None

    @property
    def raw(self) -> str:
        """What `__rows` calls the column: the state's bytes, or the value as it is."""
        return f"{self.column}_bytes" if self.kept_as_state else self.column

    @property
    def name(self) -> str:
        """The asset's column: a state's type travels in its name, since only the source knows it."""
        return self.column if self.type_text is None else f"{self.column} {self.type_text}"


@dataclass(frozen=True, slots=True)
class Finish:
    """What runs when rows are read: `sql` is the query's own text above the cut, over a table `__asset`.

    `__asset` has the columns `keys`, of the dimensions and of the states, filtered by the conditions.
    `inner_sql` is what lies below the cut, states not yet in a form that files can hold. `width` is None
    where only ClickHouse knows how many columns the answer has (`SELECT *`): `sql` has no total order yet.
    """

    sql: str
    keys: tuple[str, ...]
    states: tuple[State, ...]
    inner_sql: str
    variables: tuple[str, ...]
    width: int | None


@dataclass(frozen=True, slots=True)
class OrderKey:
    """A column of the result that rows are ordered by: its place, or its name where places are not known."""

    column: int | str
    descending: bool
    nulls_first: bool


@dataclass(frozen=True, slots=True)
class Grain:
    """What an expression keeps of the sliced column: `name` is "" for the column itself, else a unit of time.

    `zone` is the one it names, None where it takes the column's.
    """

    name: str
    zone: str | None


@dataclass(frozen=True, slots=True)
class Slicing:
    """How a plan's rows are sliced, and how the slices' rows make one answer.

    `read` is the sliced table with its alias, `column` the column as the materializing text names it. Where
    the rows are the answer, they are in the `order` of the query, then by all columns; `along`: in the order
    of the slices, or against it. `zoned`: this holds only if the column's time zone is that of the
    partitions. `grains` are dimensions by whose values slices can be told, by their columns.
    """

    read: str = ""
    column: str = ""
    line: int = 1
    order: tuple[OrderKey, ...] = ()
    along: Literal["", "asc", "desc"] = ""
    zoned: bool = False
    grains: tuple[tuple[str, Grain], ...] = ()


@dataclass(frozen=True, slots=True)
class Described:
    """What ClickHouse's DESCRIBE told of a query: its columns' names, the types of a plan's states."""

    names: tuple[str, ...]
    state_types: tuple[str, ...] = ()


def stored_name(part: int, column: str) -> str:
    """The name of a part's column beside those of other parts."""
    return f"{HIDDEN}p{part}_{column}"


@dataclass(frozen=True, slots=True)
class Plan:
    """How one version is materialized and read.

    `materialize_sql` gives the result's columns in the query's order, then the hidden ones, rows ordered by
    (seek dimensions, the query's ORDER BY, all result columns): what remains after the filter is in live's
    order. `width` counts the result's columns; None until a DESCRIBE has told (`SELECT *`).
    `finish_sql` is the query's own text above the cut, over the hidden columns of a table `__asset`; None
    where the filtered rows are the answer.
    `branches` are the plans of the SELECTs that set operators join, each with the same variables' columns.
    `floats` are aggregates, as written, whose last bits depend on the order in which stored parts are added.
    `parts` are the plans of SELECTs stored side by side, which the finish reads as `__asset0`, `__asset1`, ….
    `slicing` is set for a version with partitions, whose `materialize_sql` has placeholders for the slice.
    """

    key: str
    materialize_sql: str
    dimensions: tuple[Dimension, ...]
    conditions: tuple[Condition, ...] = ()
    cut: Cut = field(default_factory=Cut)
    finish: Finish | None = None
    width: int | None = None
    distinct: bool = False
    branches: tuple[Plan, ...] = ()
    floats: tuple[str, ...] = ()
    parts: tuple[Plan, ...] = ()
    slicing: Slicing | None = None

    @property
    def seek(self) -> tuple[Dimension, ...]:
        """The one-value dimensions, in the order in which the rows are sorted."""
        return tuple(dimension for dimension in self.dimensions if dimension.variable is not None)

    @property
    def hidden(self) -> tuple[str, ...]:
        """The names of the columns that callers never see, last in the files."""
        if self.parts:
            return (PART,)
        dimensions = tuple(dimension.column for dimension in self.dimensions)
        if self.finish is None:
            return dimensions
        return (*self.finish.keys, *dimensions, *(state.column for state in self.finish.states))

    @property
    def finish_sql(self) -> str | None:
        """The query's text above the cut, for people to read."""
        return None if self.finish is None else self.finish.sql
