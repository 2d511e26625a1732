"""Which partitions a request can touch: interval arithmetic on instants over what it compares.

A condition counts where its dimension is the sliced column, or a function of it that never falls (toDate, the
start of an hour, …), and is compared with a value of its own type: only then is it known what ClickHouse
takes for less and greater. The zone is the one that the function names, else the column's, else the server's.
Whatever is not understood excludes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from endpoints.definition.model import Partitions
from endpoints.lake.manifest import Manifest
from endpoints.partitions import timeline, window
from endpoints.query.bind import Bound
from endpoints.query.plan import Plan
from endpoints.query.plan.conditions import compares_in_arrow
from endpoints.query.plan.model import Grain
from endpoints.query.plan.slices import compared
from endpoints.types import ClickHouseType, Value, parse_type

_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class _Asked:
    """`grain operator value`: one comparison that every row of the answer has passed."""

    grain: Grain
    operator: str
    value: Any


def touched(plan: Plan, bound: Bound, manifest: Manifest | None, now: datetime) -> tuple[str, ...] | None:
    """The keys of the partitions, of those that have begun, in which the request can find rows; None: all.

    A key may be among them for nothing, but none is left out that has rows for the answer.
    """
    materialize = bound.version.materialize
    partitions = materialize.partitions if materialize else None
    if plan.slicing is None or partitions is None or manifest is None or not manifest.server.sliced:
        return None
    asked = list(_asked(plan, bound, manifest))
    if partitions.start is None:
        return _listed(partitions, asked)
    sliced, low, high = parse_type(manifest.server.sliced), None, None
    for one in asked:
        first, behind = _interval(one, ZoneInfo(_zone(one.grain, sliced, partitions, manifest)))
        low = first if low is None or (first is not None and first > low) else low
        high = behind if high is None or (behind is not None and behind < high) else high
    if low is None and high is None:
        return None
    if low is not None and high is not None and low >= high:
        return ()
    return tuple(found.key for found in timeline(partitions).between(low, high, now))


def _asked(plan: Plan, bound: Bound, manifest: Manifest) -> Iterator[_Asked]:
    """What every row of the answer is known to have passed."""
    slicing, variables = plan.slicing, bound.version.variables
    assert slicing is not None
    grains = dict(slicing.grains)
    types = _types(manifest, bound)
    for dimension in plan.seek:
        if dimension.column in grains and dimension.variable is not None:
            yield _Asked(grains[dimension.column], "=", bound.values[dimension.variable])
    for condition in plan.conditions:
        if not bound.absent.isdisjoint(condition.variables) or len(condition.columns) != 1:
            continue
        (column,) = condition.columns
        if column not in grains or column not in types:
            continue
        for operator, name in compared(condition):
            type_ = variables[name].type
            if compares_in_arrow(types[column], type_.inner if operator == "IN" else type_):
                yield _Asked(grains[column], operator, bound.values[name])


def _types(manifest: Manifest, bound: Bound) -> Mapping[str, ClickHouseType]:
    """The types of the stored columns, which are the same in all partitions of this definition."""
    fingerprint = bound.version.fingerprint
    entries = (entry for entry in manifest.partitions.values() if entry.fingerprint == fingerprint)
    entry = next(entries, None)
    return {column.name: column.type for column in entry.columns} if entry else {}


def _listed(partitions: Partitions, asked: list[_Asked]) -> tuple[str, ...] | None:
    """Of partitions by value those that are equal to what is asked for."""
    keys: tuple[str, ...] | None = None
    for one in asked:
        values = {"=": [one.value], "IN": one.value}.get(one.operator)
        if one.grain.name == "" and values is not None:
            keys = tuple(key for key in keys or partitions.values if key in values)
            if not keys:
                return ()
    return keys


def _zone(grain: Grain, sliced: ClickHouseType, partitions: Partitions, manifest: Manifest) -> str:
    if sliced.base.name == "Date":
        return partitions.timezone  # its days are those of the partitions
    return grain.zone or sliced.timezone or manifest.server.timezone


def _interval(asked: _Asked, zone: ZoneInfo) -> tuple[datetime | None, datetime | None]:
    """The instants of the column, from the first to before the second, that can pass; None: no bound."""
    values = asked.value if asked.operator == "IN" else [asked.value]
    found = [_piece(asked.grain, value, zone) for value in values]
    pieces = [piece for piece in found if piece is not None]
    if not pieces or len(pieces) < len(found):
        return None, None
    first = pieces[0]
    match asked.operator:
        case "=" | "IN":
            return min(piece.start for piece in pieces), max(piece.end for piece in pieces)
        case ">=":
            return (first.start if first.exact else first.end), None
        case ">":
            return (first.start if asked.grain.name == "" else first.end), None
        case "<":
            return None, (first.start if first.exact else first.end)
        case _:
            return None, first.end


@dataclass(frozen=True, slots=True)
class _Piece:
    """The piece of time that a function makes one value of, such as a day for toDate: `start` up to `end`.

    `exact`: the value is its start.
    """

    start: datetime
    end: datetime
    exact: bool


def _piece(grain: Grain, value: Value, zone: ZoneInfo) -> _Piece | None:
    """The piece that the value lies in; None where it is none of time."""
    try:
        if isinstance(value, int):
            return _piece(grain, _day(value, grain), zone)
        if isinstance(value, datetime):
            if grain.name == "":
                return _Piece(value, value + _TICK, True)
            if grain.name == "minute":  # of up to fifteen
                return None
            found = window(Partitions("", grain.name, timezone=zone.key), value)
            return _Piece(found.start, found.end, found.start == value)
        if not isinstance(value, date):
            return None
        unit = grain.name if grain.name in ("week", "month") else "day"
        found = window(Partitions("", unit, timezone=zone.key), datetime.combine(value, time(), zone))
        starts = {"week": value.weekday() == 0, "month": value.day == 1}
        return _Piece(found.start, found.end, starts.get(unit, True))
    except (ValueError, OverflowError):
        return None


def _day(number: int, grain: Grain) -> date:
    """The day of toYYYYMMDD, or the first of toYYYYMM's month. ValueError for other numbers."""
    text = f"{number}01" if grain.name == "month" else str(number)
    if len(text) != len("20260131") or grain.name not in ("day", "month"):
        raise ValueError(f"{number} is no day")
    return datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC).date()
