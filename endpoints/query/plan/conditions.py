"""The conjuncts of a clause, and what each asks of the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from endpoints.definition.model import Variable
from endpoints.query.conjuncts import select_conjuncts
from endpoints.query.plan.select import Select, Source, Span
from endpoints.query.plan.terms import is_operand
from endpoints.query.variables import read_placeholder
from endpoints.types import ClickHouseType

_COMPARISONS = ("=", "==", "<", "<=", ">", ">=")
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


@dataclass(frozen=True, slots=True)
class Conjunct:
    """One AND-ed part of a clause that holds placeholders."""

    clause: str
    span: Span
    variables: tuple[str, ...]
    comparison: tuple[Span, str, str] | None
    """(operand, operator, variable) where the conjunct is `operand operator {variable}`, either way round."""


def conjuncts(select: Select) -> tuple[Conjunct, ...]:
    """The conjuncts of the SELECT's own conditions that hold placeholders, as binding drops them."""
    source = select.source
    found = []
    for part in select_conjuncts(select.parts):
        span = source.at(part.start, part.end)
        if source.waits(span):
            held = source.placeholders(span)
            names = tuple(dict.fromkeys(read_placeholder(source.tokens[index]).name for index in held))
            found.append(Conjunct(part.clause, span, names, _comparison(source, source.unwrap(span), held)))
    return tuple(found)


def _comparison(source: Source, span: Span, held: tuple[int, ...]) -> tuple[Span, str, str] | None:
    if len(held) != 1:
        return None
    at = next((i for i in source.shallow(span) if source.is_op(i, *_COMPARISONS)), None)
    if at is None:
        return None
    left, right, operator = Span(span.first, at), Span(at + 1, span.last), source.tokens[at].text
    if left.last - left.first == 1 and held[0] in left:
        left, right, operator = right, left, _FLIPPED.get(operator, operator)
    if held[0] not in right or right.last - right.first != 1 or not is_operand(source, left):
        return None
    return left, "=" if operator == "==" else operator, read_placeholder(source.tokens[held[0]]).name


def is_one_value(conjunct: Conjunct, variables: Mapping[str, Variable]) -> bool:
    """`expr = {v:T}` of a variable that is always given: every answer reads one value of the dimension.

    That `expr` has T's type is for DESCRIBE to tell; the types named here are those in which `=` and GROUP BY
    agree (0.0 = -0.0, and 'ab' = 'ab\\0' for FixedString, but they are separate groups).
    """
    if (
        conjunct.comparison is None
        or conjunct.comparison[1] != "="
        or conjunct.clause not in ("WHERE", "PREWHERE")
    ):
        return False
    variable = variables[conjunct.comparison[2]]
    return not variable.optional and variable.bucket is None and has_exact_equality(variable.type)


_INTEGERS = frozenset({"Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64"})

ARROW_ORDER = _INTEGERS | {
    *("String", "Bool", "Date", "Date32", "DateTime", "DateTime64", "Decimal", "IPv4"),
}
"""Types that Arrow compares and orders in their storage form as ClickHouse does (docs/plan.md, reading)."""

_EXACT_EQUALITY = ARROW_ORDER | {
    *("Int128", "Int256", "UInt128", "UInt256", "Decimal32", "Decimal64", "Decimal128", "Decimal256"),
    *("Enum8", "Enum16", "UUID", "IPv6"),
}


def has_exact_equality(type_: ClickHouseType) -> bool:
    """`=` matches exactly one value of this type, as GROUP BY tells values apart."""
    return type_.base.name in _EXACT_EQUALITY


def equality_type(type_: ClickHouseType) -> str:
    """What two types must share for `=` to be exact between them: not Nullable, LowCardinality, the time
    zone, which moves no instant, nor the width of integers, which ClickHouse compares by their values.
    """
    base = type_.base
    if base.name in _INTEGERS:
        return "integer"
    if base.name in ("Date", "Date32"):
        return "day"
    if base.name == "DateTime":
        return "DateTime"
    return f"DateTime64({base.numbers[0]})" if base.name == "DateTime64" else base.text


def compares_in_arrow(column: ClickHouseType, variable: ClickHouseType) -> bool:
    """Comparing a stored column with a value of the variable's type has ClickHouse's outcome in Arrow."""
    return column.base.name in ARROW_ORDER and equality_type(column) == equality_type(variable)
