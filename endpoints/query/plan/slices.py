"""Partitions in a plan: a slice is a many-value dimension that no column needs to hold.

Its condition stays in the materializing text, with placeholders for the bounds. To the rest of the planner it
is a condition on rows like that of any variable, so that what mixes the rows of several slices is cut or
refused as it is for those. It may be carried where every step above the read that puts rows together does so
by a key that decides the slice: `toDate(ts)` decides days, weeks and months.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

from endpoints.definition.model import Partitions, Variable, Version
from endpoints.query.lexer import Kind, significant, tokenize
from endpoints.query.plan.buckets import has_steady, has_whole_hours
from endpoints.query.plan.conditions import Conjunct
from endpoints.query.plan.keys import Keys, shadows
from endpoints.query.plan.model import Condition, Grain, OrderKey, Plan, Refusal, Refused, Slicing
from endpoints.query.plan.order import known_width
from endpoints.query.plan.reasons import refusal
from endpoints.query.plan.select import ORDER_WORDS, Select, Source, Span, read_select
from endpoints.query.slices import FROM, UNTIL, VALUES, Bounds, Sliced, Unsliced, all_bounds, slices_of
from endpoints.query.structure import select_at
from endpoints.query.variables import placeholders, read_placeholder
from endpoints.types import ClickHouseType, parse_type
from endpoints.warehouse.protocol import ServerInfo, Statement

Texts = tuple[str, ...]
Make = Callable[[Version], Plan | Refused]

# Functions of a time, by how much of it they keep. Each gives later values for later slices that it decides.
_GRAINS = {
    **dict.fromkeys(
        ("todatetime", "tostartofsecond", "tostartofminute", "tostartoffiveminutes", "tostartoftenminutes"),
        "minute",
    ),
    **dict.fromkeys(("tostartoffifteenminutes", "toyyyymmddhhmmss", "tounixtimestamp"), "minute"),
    "tostartofhour": "hour",
    **dict.fromkeys(("todate", "todate32", "date", "tostartofday", "toyyyymmdd"), "day"),
    "tomonday": "week",
    **dict.fromkeys(("tostartofmonth", "toyyyymm"), "month"),
}
_DECIDE = {
    "hour": ("minute", "hour"),
    "day": ("minute", "hour", "day"),
    "week": ("minute", "hour", "day", "week"),
    "month": ("minute", "hour", "day", "month"),
}
_ZONELESS = frozenset({"minute", ""})  # what these keep depends on no zone
_UTC = frozenset({"UTC", "Etc/UTC", "Etc/UCT", "UCT", "Zulu", "Etc/Zulu", "Universal", "GMT", "Etc/GMT"})
NAMES = frozenset({FROM, UNTIL, VALUES})


def plan_sliced(version: Version, make: Make) -> Plan | Refused:
    """The plan of a version with partitions, `make` being the planner of one without."""
    found = slices_of(version)
    if isinstance(found, Unsliced):
        return Refused((refusal(found.code, found.line, found.what),))
    assert found is not None, "the version has partitions"
    named = {place.name: parse_type(place.type_text) for place in placeholders(found.sql)}
    bounds = {name: Variable(name, type_) for name, type_ in named.items() if name in NAMES}
    assert version.materialize is not None
    assert version.materialize.partitions is not None
    partitions = replace(version.materialize.partitions, column=found.column)
    made = make(
        replace(
            version,
            sql=found.sql,
            variables={**version.variables, **bounds},
            materialize=replace(version.materialize, partitions=partitions),
        )
    )
    if isinstance(made, Refused):
        return _blamed(version, found, make, made)
    if made.parts:  # the others would be whole in every slice
        return Refused((refusal("partitions", found.line, "several SELECTs are stored side by side"),))
    return _finished(made, found, partitions)


def _blamed(version: Version, sliced: Sliced, make: Make, refused: Refused) -> Refused:
    """Why there is no plan: the query's own reasons, or else its slices."""
    assert version.materialize is not None
    whole = make(replace(version, materialize=replace(version.materialize, partitions=None)))
    if isinstance(whole, Refused):
        return whole
    first = refused.reasons[0]
    return Refused((refusal("partitions", first.line, f"{first.detail} [{first.code}]"),))


def _finished(plan: Plan, sliced: Sliced, partitions: Partitions) -> Plan:
    """The plan without the slice among its conditions: a run's own bounds see to that."""
    conditions = tuple(c for c in plan.conditions if not NAMES.intersection(c.variables))
    finish = plan.finish
    if finish is not None:
        finish = replace(finish, variables=tuple(name for name in finish.variables if name not in NAMES))
    slicing = replace(
        plan.slicing or Slicing(),
        read=sliced.read,
        column=sliced.column,
        line=sliced.line,
        grains=tuple(_grains(plan, sliced, partitions)),
    )
    return replace(plan, conditions=conditions, finish=finish, slicing=slicing)


def _grains(plan: Plan, sliced: Sliced, partitions: Partitions) -> Iterator[tuple[str, Grain]]:
    """The dimensions that are a function of the sliced column."""
    source = Source(sliced.sql)
    inside = next(token.start for token in source.tokens if token.text in sliced.placeholders)
    part = select_at(sliced.sql, inside)
    assert part is not None, "the slice stands in a SELECT"
    select = read_select(source, part, source.at(part.start, part.end))
    named = {
        item.alias: source.same(source.unwrap(item.expression))
        for item in select.items
        if item.alias is not None and not shadows(select, item)
    }
    for dimension in plan.dimensions:
        text = _tokens(dimension.expression)
        found = grain(named.get(text[0], text) if len(text) == 1 else text, partitions)
        if found is not None:
            yield dimension.column, found


def bounds_of(version: Version) -> Bounds:
    """Some bounds, for a DESCRIBE of the version's plan."""
    partitions = version.materialize.partitions if version.materialize else None
    if partitions is None:
        return {}
    return all_bounds(version, partitions.start or datetime.now(UTC))


# -- for `check_plan` ---------------------------------------------------------------------------------------


def sliced_column(slicing: Slicing) -> Statement:
    """The sliced column alone, to be described."""
    return Statement(f"SELECT {slicing.column} FROM {slicing.read}")  # noqa: S608  (the version's own names)


def slice_gaps(
    slicing: Slicing, version: Version, type_: ClickHouseType, server: ServerInfo, *, tested: bool
) -> Iterator[Refusal]:
    """What is wrong with slices of a column of that type; older servers compare a Date as a number."""
    partitions = sliced_by(version)
    assert partitions is not None
    base, line = type_.base.name, slicing.line
    if partitions.start is None:
        if base not in ("String", "Enum8", "Enum16"):
            yield refusal("partition_column", line, f"{slicing.column} is {type_}, and values are texts")
        return
    if type_.nullable or base not in ("Date", "DateTime", "DateTime64"):
        yield refusal("partition_column", line, f"{slicing.column} is {type_}")
    elif base == "Date" and partitions.by == "hour":
        yield refusal("partition_column", line, f"{slicing.column} is {type_}, which has no hours")
    elif base == "Date" and not tested:
        what = f"{slicing.column} is {type_}, which ClickHouse {server.version} does not compare with times"
        yield refusal("partition_column", line, what)
    elif base != "Date" and slicing.zoned:
        zone = type_.timezone or server.timezone
        if not _same_slices(zone, partitions):
            what = f"{slicing.column} has the days of {zone}, the partitions those of {partitions.timezone}"
            yield refusal("partition_zone", line, what)


def edges_statement(version: Version, key: str, bounds: Bounds) -> Statement | None:
    """Asks whether the server's days begin where the partition does: its rules of the zone may be of another
    edition than ours. None where no rule about moving clocks decides.
    """
    partitions = sliced_by(version)
    if partitions is None or partitions.start is None or partitions.by == "hour":
        return None
    if has_steady("day", partitions.timezone):
        return None

    def day(edge: str) -> str:
        return f"toDate(toDateTime({edge}, '{partitions.timezone}'))"

    first, until = f"{{{FROM}:UInt32}}", f"{{{UNTIL}:UInt32}}"
    sql = f"SELECT toString({day(first)}) = '{key}'"
    sql += "".join(f" AND {day(f'{edge} - 1')} < {day(edge)}" for edge in (first, until))
    return Statement(sql, bounds)


def _same_slices(zone: str, partitions: Partitions) -> bool:
    """Whether hours, days, weeks and months of `zone` are those of the partitions."""
    if zone == partitions.timezone or {zone, partitions.timezone} <= _UTC:
        return True
    return partitions.by == "hour" and has_whole_hours(zone) and has_whole_hours(partitions.timezone)


# -- for `carry` and `cut` ----------------------------------------------------------------------------------


def sliced_by(version: Version) -> Partitions | None:
    """The partitions of a version in planning."""
    return version.materialize.partitions if version.materialize else None


def is_slice(select: Select, conjunct: Conjunct) -> bool:
    """The conjunct is the slice itself, which stays in the text that materializes; not one around it."""
    names = set(conjunct.variables)
    return names <= NAMES and not select.source.has_word(conjunct.span, "SELECT")


def slice_condition(select: Select, conjunct: Conjunct) -> Condition:
    """What the planner takes the slice for: a condition that some request may ask, on no column."""
    source = select.source
    line = source.line(conjunct.span)
    return Condition("1", source.text(conjunct.span), conjunct.variables, (), None, line)


def slicing(select: Select, keys: Keys, sought: frozenset[Texts], partitions: Partitions) -> Slicing | None:
    """How the slices of a carried SELECT are put together; None where some clause mixes their rows.

    `sought` are the texts that are equal to a variable.
    """
    groups = [keys.group] if keys.aggregated else []
    groups += [keys.distinct] if select.distinct else []
    groups += [keys.limit_by] if select.limit_by else []
    deciding = [_deciding(sought, partitions)]
    if not deciding[0]:
        if keys.windows:
            return None
        deciding = [_deciding(decided.texts, partitions) for decided in groups]
    order = _order(select)
    if order is None or not all(deciding):
        return None
    zoned = any(all(_takes_zone(grain) for grain in grains) for grains in deciding)
    along = _along(select, order, partitions)
    return Slicing(order=order, along=along[0], zoned=zoned or along[1])


def _deciding(texts: frozenset[Texts], partitions: Partitions) -> list[Grain]:
    """Of some keys those whose values tell slices apart."""
    found = (grain(text, partitions) for text in texts)
    return [one for one in found if one is not None and _decides(one, partitions)]


def _decides(found: Grain, partitions: Partitions) -> bool:
    if found.name == "":
        return True
    if partitions.start is None or found.name not in _DECIDE[partitions.by]:
        return False
    return found.name in _ZONELESS or found.zone in (None, partitions.timezone)


def _takes_zone(found: Grain) -> bool:
    return found.name not in _ZONELESS and found.zone is None


def grain(text: Texts, partitions: Partitions) -> Grain | None:
    """What an expression keeps of the sliced column; None for any other expression."""
    if _is_column(text, partitions):
        return Grain("", None)
    if len(text) > 2 and text[-2:] == ("::", "Date") and _is_column(text[:-2], partitions):
        return Grain("day", None)
    if len(text) < 4 or text[1] != "(" or text[-1] != ")":
        return None
    name, arguments = text[0].lower(), _arguments(text[2:-1])
    zone = None
    if len(arguments) > 1 and len(arguments[-1]) == 1 and _is_zone(name, arguments):
        zone = arguments.pop()[0].strip("'")
    kept = _kept(name, arguments, partitions)
    return None if kept is None else Grain(kept, zone)


def _kept(name: str, arguments: list[Texts], partitions: Partitions) -> str | None:
    if name in ("datetrunc", "date_trunc") and len(arguments) == 2 and _is_column(arguments[1], partitions):
        unit = arguments[0][0].strip("'").lower()
        return {"second": "minute"}.get(unit, unit) if unit in (*_DECIDE, "minute", "second") else None
    if not arguments or not _is_column(arguments[0], partitions):
        return None
    if name == "tostartofweek":
        return "week" if arguments[1:] == [("1",)] else None
    if name == "tostartofinterval" and len(arguments) == 2 and len(arguments[1]) == 3:
        _, number, unit = (token.lower() for token in arguments[1])
        return unit if number == "1" and unit in (*_DECIDE, "minute") else None
    return _GRAINS.get(name) if len(arguments) == 1 else None


def _is_zone(name: str, arguments: list[Texts]) -> bool:
    most = 2 if name in ("datetrunc", "date_trunc", "tostartofinterval", "tostartofweek") else 1
    return len(arguments) > most and arguments[-1][0].startswith("'")


def _arguments(tokens: Texts) -> list[Texts]:
    """Split at commas: nothing that matters here has brackets in its arguments."""
    found: list[list[str]] = [[]]
    for text in tokens:
        if text == ",":
            found.append([])
        else:
            found[-1].append(text)
    return [tuple(argument) for argument in found]


def _is_column(text: Texts, partitions: Partitions) -> bool:
    """The column as the slice names it; where that is a bare name, qualified in whichever way."""
    own = _tokens(partitions.column)
    return text == own or (len(own) == 1 and len(text) > 2 and text[-2:] == (".", *own) and "(" not in text)


@lru_cache(maxsize=256)
def _tokens(text: str) -> Texts:
    return tuple(token.text for token in significant(tokenize(text)))


@lru_cache(maxsize=1024)
def compared(condition: Condition) -> tuple[tuple[str, str], ...]:
    """(operator, variable) of each comparison with the condition's column that all rows pass, as far as it is
    made of such: `=`, `<` and the like, BETWEEN, IN of an array.
    """
    if condition.comparison is not None:
        return (condition.comparison[1:],)
    source = Source(condition.sql)
    span = source.unwrap(Span(0, len(source.tokens)))
    words = [source.word(index) for index in span if source.tokens[index].kind is not Kind.PLACEHOLDER]
    names = tuple(read_placeholder(source.tokens[index]).name for index in source.placeholders(span))
    if source.text(Span(span.first, span.first + 1)) not in condition.columns:
        return ()
    if words[1:] == ["BETWEEN", "AND"] and len(names) == 2:
        return ((">=", names[0]), ("<=", names[1]))
    arrays = words[1:] == ["IN"] and len(names) == 1 and span.last - span.first == 3
    return (("IN", names[0]),) if arrays else ()


# -- the order in which slices are put together -------------------------------------------------------------


def _order(select: Select) -> tuple[OrderKey, ...] | None:
    """The query's own order by columns of its result; None where it orders by something else."""
    source, body = select.source, select.body("ORDER BY")
    if body is None or source.word(body.first) == "ALL":
        return ()
    found = []
    for element in source.split(body):
        last = next((i for i in source.shallow(element) if source.word(i) in ORDER_WORDS), element.last)
        words = [source.word(index) for index in range(last, element.last)]
        column = _ordered_column(select, source.unwrap(Span(element.first, last)))
        if column is None or "COLLATE" in words:
            return None
        found.append(OrderKey(column, bool({"DESC", "DESCENDING"} & set(words)), "FIRST" in words))
    return tuple(found)


def _ordered_column(select: Select, span: Span) -> int | str | None:
    """The result's column, by place or, where places are not known, by name."""
    source, items = select.source, select.items
    text = source.same(span)
    for place, item in enumerate(items):
        if item.alias is not None and text == (item.alias,):
            return _placed(select, place, item.alias)
    if len(text) == 1 and text[0].isdecimal():
        return int(text[0]) - 1 if 1 <= int(text[0]) <= len(items) and _places_known(select) else None
    for place, item in enumerate(items):
        if source.same(source.unwrap(item.expression)) == text:
            return _placed(select, place, item.alias)
    return text[0] if not _places_known(select) and len(text) == 1 and _is_name(source, span) else None


def _placed(select: Select, place: int, name: str | None) -> int | str | None:
    return place if _places_known(select) else name


def _places_known(select: Select) -> bool:
    return known_width(select) is not None


def _is_name(source: Source, span: Span) -> bool:
    return bool(source.tokens[span.first].name)


def _along(
    select: Select, order: tuple[OrderKey, ...], partitions: Partitions
) -> tuple[Literal["", "asc", "desc"], bool]:
    """Whether all rows of one slice come before those of the next, or behind, and if the column's zone
    decides that.
    """
    if partitions.start is None or not _places_known(select):
        return "", False
    first = order[0] if order else OrderKey(0, False, False)
    if not isinstance(first.column, int):
        return "", False
    item = select.items[first.column]
    found = grain(select.source.same(select.source.unwrap(item.expression)), partitions)
    if found is None or not _decides(found, partitions):
        return "", False
    return "desc" if first.descending else "asc", _takes_zone(found)
