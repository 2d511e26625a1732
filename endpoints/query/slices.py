"""The slice of a version with partitions: a condition on the one table read that is sliced.

It is spliced into the WHERE of the SELECT that reads the table, with placeholders for its bounds. Live runs
bind those of all partitions that have begun (`start` and `end` belong to the version), a partition's run its
own. The bounds are instants, written as seconds since 1970 in the zone of the partitions, whose days a Date
column is compared by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from typing import Final

from endpoints.definition.model import Partitions, Version
from endpoints.partitions import Window, window, window_of
from endpoints.query.lexer import significant, tokenize
from endpoints.query.splice import Edit, splice
from endpoints.query.structure import Clause, Select, select_at, top_level
from endpoints.query.tables import Read, reads
from endpoints.query.variables import placeholders
from endpoints.types import ClickHouseType, Value, parse_type, parse_value, render_literal
from endpoints.types.grammar import identifier

FROM, UNTIL, VALUES = "__from", "__until", "__values"
_TYPES: Final = {
    FROM: parse_type("UInt32"),
    UNTIL: parse_type("UInt32"),
    VALUES: parse_type("Array(String)"),
}
_BEFORE_WHERE: Final = ("WITH", "SELECT", "FROM", "PREWHERE")

Bounds = Mapping[str, tuple[ClickHouseType, Value]]


@dataclass(frozen=True, slots=True)
class Sliced:
    """A query with its slice: the whole text, the slice's conjuncts as they stand in it, and what it slices.

    `read` is the table with its alias, `column` the column as the slice names it; `line` is the read's.
    """

    sql: str
    conjuncts: tuple[str, ...]
    read: str
    column: str
    line: int

    @property
    def placeholders(self) -> tuple[str, ...]:
        """The placeholders of the slice, as they stand in the text."""
        return tuple(f"{{{name}:{type_.text}}}" for name, type_ in _TYPES.items())


@dataclass(frozen=True, slots=True)
class Unsliced:
    """There is no one place for the slice: a code of the plan's reasons, a line, and what is there."""

    code: str
    line: int
    what: str


def slices_of(version: Version) -> Sliced | Unsliced | None:
    """The version's query with its slice; None for a version without partitions."""
    partitions = version.materialize.partitions if version.materialize else None
    return None if partitions is None else slice_query(version.sql, partitions)


def bounded_sql(version: Version) -> str:
    """The version's query as it runs live: with the slice, if it has one."""
    sliced = slices_of(version)
    return sliced.sql if isinstance(sliced, Sliced) else version.sql


def all_bounds(version: Version, now: datetime) -> Bounds:
    """The bounds of a live run: of all slices that have begun by `now`. Empty where nothing is sliced."""
    if not isinstance(slices_of(version), Sliced):
        return {}
    assert version.materialize is not None
    partitions = version.materialize.partitions
    assert partitions is not None
    if partitions.start is None:
        return _values(partitions.values)
    until = window(partitions, now).end if now >= partitions.start else partitions.start
    return _times(partitions.start, until if partitions.end is None else min(until, partitions.end))


def partition_bounds(partitions: Partitions, key: str, now: datetime) -> Bounds | None:
    """The bounds of one partition's run; None where no partition has that key, or not yet."""
    if partitions.start is None:
        return _values((key,)) if key in partitions.values else None
    found = window_of(partitions, key, now)
    return None if found is None else window_bounds(found)


def window_bounds(of: Window) -> Bounds:
    """The bounds of a window of time."""
    return _times(of.start, of.end)


def only_slice(version: Version, bounds: Bounds) -> Version:
    """The version as one without partitions, over the rows of one slice alone."""
    if version.materialize is None or not bounds:
        return version
    sql = bounded_sql(version)
    edits = [
        Edit(place.start, place.end, render_literal(*bounds[place.name]))
        for place in placeholders(sql)
        if place.name in bounds
    ]
    return replace(version, sql=splice(sql, edits), materialize=replace(version.materialize, partitions=None))


def _times(start: datetime, until: datetime) -> Bounds:
    return {
        FROM: (_TYPES[FROM], int(start.timestamp())),
        UNTIL: (_TYPES[UNTIL], int(until.timestamp())),
    }


def _values(values: Sequence[str]) -> Bounds:
    return {VALUES: (_TYPES[VALUES], parse_value(_TYPES[VALUES], list(values)))}


@lru_cache(maxsize=1024)
def slice_query(sql: str, partitions: Partitions) -> Sliced | Unsliced:
    """The query with a condition on its slice, in the SELECT that reads the sliced table."""
    found = _sliced_read(sql, partitions)
    if isinstance(found, Unsliced):
        return found
    select = select_at(sql, found.start)
    from_ = select.clause("FROM") if select else None
    if select is None or from_ is None or not from_.start <= found.start < from_.end:
        return Unsliced("partition_table", found.line, f"{found.table} is read where nothing can be sliced")
    if (why := _in_the_way(sql, select, from_, found, partitions)) is not None:
        return why
    column = _column(from_, found, partitions)
    conjuncts = _conjuncts(column, partitions)
    return Sliced(
        splice(sql, _edits(select, " AND ".join(conjuncts))),
        conjuncts,
        sql[found.start : found.end],
        column,
        found.line,
    )


def _sliced_read(sql: str, partitions: Partitions) -> Read | Unsliced:
    """The read that `table` names, or the only one."""
    everywhere = reads(sql)
    named = [r for r in everywhere if partitions.table is None or r.is_called(partitions.table)]
    if len(named) == 1 and named[0].in_from:
        return named[0]
    line = named[1].line if len(named) > 1 else 1
    if partitions.table is not None:
        times = f"{len(named)} times" if named else "nowhere"
        return Unsliced("partition_table", line, f"{partitions.table} is read {times}")
    places = ", ".join(r.alias or str(r.table) for r in everywhere) or "no table"
    return Unsliced("partition_table", line, f"the query reads {places}")


def _in_the_way(
    sql: str, select: Select, from_: Clause, read: Read, partitions: Partitions
) -> Unsliced | None:
    """What would make a slice of this read something else than a part of the rows."""
    if read.following == "FINAL":
        return Unsliced("partition_final", read.line, str(read.table))
    words = [token.word for _, token in top_level(from_.tokens)]
    first = from_.tokens[0].start == read.start
    outer = {"RIGHT", "FULL"} if first else {"LEFT", "RIGHT", "FULL", "ASOF", "SEMI", "ANTI", "PASTE"}
    if not outer.isdisjoint(words) or ("ANY" in words and "LEFT" not in words):
        return Unsliced("partition_join", read.line, str(read.table))
    name = partitions.column.rpartition(".")[2]
    tokens = [t for t in significant(tokenize(sql)) if select.start <= t.start < select.end]
    for before, token in pairwise(tokens):
        if before.word == "AS" and token.name == name:
            return Unsliced("partition_column", token.line, f"something else is named {name} here")
    return None


def _column(from_: Clause, read: Read, partitions: Partitions) -> str:
    """The column; with its table where several are joined, and another may have one of that name."""
    parts = [identifier(part) for part in partitions.column.split(".")]
    several = any(t.word == "JOIN" or t.text == "," for _, t in top_level(from_.tokens))
    if several and len(parts) == 1:
        parts.insert(0, identifier(read.alias or read.table.name))
    return ".".join(parts)


def _conjuncts(column: str, partitions: Partitions) -> tuple[str, ...]:
    if partitions.start is None:
        return (f"{column} IN {{{VALUES}:Array(String)}}",)
    zone = partitions.timezone
    return (
        f"{column} >= toDateTime({{{FROM}:UInt32}}, '{zone}')",
        f"{column} < toDateTime({{{UNTIL}:UInt32}}, '{zone}')",
    )


def _edits(select: Select, condition: str) -> list[Edit]:
    """The condition into the SELECT's WHERE, or a WHERE of its own in its place."""
    where = select.clause("WHERE")
    if where is not None and where.tokens:
        start, end = where.tokens[0].start, where.tokens[-1].end
        return [Edit(start, start, "("), Edit(end, end, f") AND {condition}")]
    end = max(clause.end for clause in select.clauses if clause.keyword in _BEFORE_WHERE)
    return [Edit(end, end, f" WHERE {condition}")]
