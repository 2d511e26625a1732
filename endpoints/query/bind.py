"""A caller's values → typed values of a version, and those → the statement that runs live.

Every value is parsed here, once, into its type's domain (`types.parse_value`); what goes to ClickHouse, to
an asset's filter and into cache keys is that typed value, never the caller's text. ClickHouse itself would
wrap `UInt8 '300'` to 44: another customer's rows.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from typing import Final

import orjson

from endpoints.definition.model import Variable, Version
from endpoints.definition.rules import RuleBroken, check_rules
from endpoints.errors import EndpointsError, FieldError, InputError
from endpoints.query.clock import at_moment
from endpoints.query.conjuncts import Conjunct, optional_conjunct
from endpoints.query.lexer import significant, tokenize
from endpoints.query.ordering import ordered
from endpoints.query.slices import Bounds, all_bounds, bounded_sql
from endpoints.query.splice import Edit, splice
from endpoints.query.structure import strip_semicolons
from endpoints.query.variables import placeholders
from endpoints.types import Value, parse_value, show_value
from endpoints.warehouse.protocol import Statement

MAX_VALUE_BYTES: Final = 8192
"""The longest value a caller may send, as text in UTF-8 (design §3)."""
_SHOWN_UNKNOWN: Final = 20
_SHOWN_NAME: Final = 128


class PinNotApplicable(EndpointsError):
    """A key pins a variable that this version lacks: it would read what the pin is to keep from it."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names
        super().__init__(f"The key pins {', '.join(sorted(names))}, which this version does not have.")


class PinConflict(EndpointsError):
    """The caller gave a variable another value than the one that its key pins."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"The key pins {name} to another value.")


@dataclass(frozen=True, slots=True)
class Bound:
    """A version with a value for every variable but the optional ones in `absent`.

    `key` is the same for the same values, however they were written: for caches and single-flight. `now` is
    the moment that decides which partitions have begun.
    """

    version: Version
    values: Mapping[str, Value]
    absent: frozenset[str]
    key: str
    now: datetime | None = None
    """What the clock functions of a version with `clock: as_of` say, live, and which partitions
    have begun. No part of `key`."""


def bind(
    version: Version,
    given: Mapping[str, object],
    *,
    pins: Mapping[str, object] | None = None,
    now: datetime,
    timezone: str = "UTC",
) -> Bound:
    """Values for every variable: pinned, then given, then default.

    `given` and `pins` hold text from a query string or JSON values. `now` (aware) resolves relative
    defaults, and is the moment of `clock: as_of`; `timezone` is the warehouse's. Raises InputError naming
    every wrong field at once, PinNotApplicable, PinConflict.
    """
    pins = pins or {}
    foreign = frozenset(pins) - frozenset(version.variables)
    if foreign:
        raise PinNotApplicable(foreign)
    errors = list(_unknown(version, given))
    values: dict[str, Value] = {}
    for variable in version.variables.values():
        try:
            if variable.name in pins:
                values[variable.name] = _pinned(variable, pins[variable.name], given, timezone)
            elif variable.name in given:
                values[variable.name] = _checked(variable, given[variable.name], timezone)
            elif variable.default is not None:
                values[variable.name] = variable.default.resolve(now, timezone, variable.type)
            elif not variable.optional:
                errors.append(FieldError(variable.name, "missing_variable", _missing(variable)))
        except RuleBroken as broken:
            errors.append(FieldError(variable.name, broken.code, str(broken)))
    if errors:
        raise InputError(errors)
    absent = frozenset(version.variables) - frozenset(values)
    return Bound(version, values, absent, _key(version, values), now)


def _unknown(version: Version, given: Mapping[str, object]) -> Iterator[FieldError]:
    """The fields that are no variable. Some are enough, shortened: a body can hold a million long ones."""
    unknown = (name[:_SHOWN_NAME] for name in given if name not in version.variables)
    for name in islice(unknown, _SHOWN_UNKNOWN):
        near = difflib.get_close_matches(name, version.variables, n=1)
        known = ", ".join(version.variables) or "none"
        hint = f"Did you mean {near[0]}?" if near else f"Variables here: {known}."
        yield FieldError(name, "unknown_variable", f"There is no such variable. {hint}")


def _missing(variable: Variable) -> str:
    if variable.example is None or variable.private:
        return f"A value of type {variable.type} is needed."
    example = show_value(variable.type, variable.example)
    return f"A value of type {variable.type} is needed, as in {example}."


def _pinned(variable: Variable, pin: object, given: Mapping[str, object], timezone: str) -> Value:
    """The pinned value. The caller may repeat it, in any spelling, but not change it."""
    try:
        value = parse_value(variable.type, pin, timezone=timezone)
    except ValueError:
        raise PinConflict(variable.name) from None
    if variable.name in given:
        try:
            same = parse_value(variable.type, given[variable.name], timezone=timezone) == value
        except ValueError:
            same = False
        if not same:
            raise PinConflict(variable.name)
    return value


def _checked(variable: Variable, raw: object, timezone: str) -> Value:
    """The caller's value, inside its type and every rule of the definition; RuleBroken otherwise."""
    if _size(raw) > MAX_VALUE_BYTES:
        raise RuleBroken("too_long", f"The value is longer than {MAX_VALUE_BYTES} bytes.")
    try:
        value = parse_value(variable.type, raw, timezone=timezone)
    except ValueError as error:
        # The sentence can repeat the value.
        detail = f"The value is not a {variable.type}." if variable.private else _sentence(error)
        raise RuleBroken("invalid_value", detail) from None
    check_rules(variable, value)
    return value


def _size(raw: object) -> int:
    """Bytes of the value as a caller wrote it."""
    text = raw if isinstance(raw, str) else json.dumps(raw, default=str, ensure_ascii=False)
    return len(text.encode("utf-8", "surrogatepass"))


def _sentence(error: ValueError) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _key(version: Version, values: Mapping[str, Value]) -> str:
    """Canonical: by name, in the type's own form; absent is not the same as NULL."""
    shown = {name: show_value(version.variables[name].type, value) for name, value in values.items()}
    return hashlib.sha256(orjson.dumps(shown, option=orjson.OPT_SORT_KEYS)).hexdigest()


def live_statement(
    bound: Bound,
    *,
    total_order: int | None = None,
    at_most: int | None = None,
    slice_bounds: Bounds | None = None,
) -> Statement:
    """The version's own text, its values bound, the conditions of absent optional variables replaced by 1.

    `total_order`: how many columns the result has; all are then appended to the order, so that pages do not
    overlap. Where that would change the rows (`ordering.ordered` says when), the query keeps its own order.
    `at_most`: with a total order, how many of the first rows are wanted. More may come. Where the version has
    `clock: as_of`, its clock functions say `bound.now`. Of a version with partitions it
    reads those that have begun; `slice_bounds` are those of one of them instead.
    """
    sql = without(bounded_sql(bound.version), bound.absent)
    now = bound.now or datetime.now(UTC)
    sliced = all_bounds(bound.version, now) if slice_bounds is None else slice_bounds
    if total_order is not None:
        sql = ordered(sql, total_order, at_most).sql
    if bound.version.clock is not None and bound.now is not None:
        sql = at_moment(sql, bound.now)
    variables = bound.version.variables
    values = {name: (variables[name].type, value) for name, value in bound.values.items()}
    return Statement(sql, {**values, **sliced})


def count_statement(bound: Bound) -> Statement:
    """How many rows the version's query gives, in one row and column."""
    rows = live_statement(bound)
    counted = f"SELECT count() AS rows FROM (\n{rows.sql}\n)"  # noqa: S608 (the definition's own text)
    return Statement(counted, rows.parameters)


@lru_cache(maxsize=1024)
def without(sql: str, absent: frozenset[str]) -> str:
    """The text with the conjuncts of those variables replaced by 1, and without a `;` at its end."""
    edits = {}
    for placeholder in placeholders(sql):
        if placeholder.name in absent:
            conjunct = optional_conjunct(sql, placeholder)
            assert isinstance(conjunct, Conjunct), "load checks every optional variable"
            edits[conjunct.start] = Edit(conjunct.start, conjunct.end, "1")
    tokens = significant(tokenize(sql))
    for token in tokens[len(strip_semicolons(tokens)) :]:
        edits[token.start] = Edit(token.start, token.end, "")
    return splice(sql, edits.values())
