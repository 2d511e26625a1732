"""What the SQL says of variables: their names and types, `{name:Type}`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Final

from endpoints.errors import Problem, UnsupportedType
from endpoints.query.variables import Placeholder
from endpoints.types import ClickHouseType, families, is_variable_type, parse_type

# Beside the variables of a query, these are what a run itself takes (design §6).
RESERVED: Final = frozenset({"version", "refresh", "limit", "offset", "cursor", "format", "shape", "debug"})
"""Names that no variable may have, in any case."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_COMPOSED: Final = ("Array(String)", "Array(UInt64)", "DateTime64(3)", "Decimal(18, 2)", "Nullable(String)")
_TYPE_FIX: Final = "Write a ClickHouse type, as in String, UInt32, Date or Array(String)."


def check_name(use: Placeholder, file: str) -> Iterator[Problem]:
    """What is wrong with a variable's name."""
    name = use.name
    if not _NAME.fullmatch(name):
        message = f"{name!r} cannot be a variable's name."
        fix = "Use letters, digits and _, not beginning with a digit."
        yield Problem(file, use.line, "bad_variable_name", message, fix)
    elif name.lower() in RESERVED or name.startswith("_"):
        why = (
            "names that begin with _ are ours"
            if name.startswith("_")
            else "every run takes a parameter of that name"
        )
        fix = f"Rename it, as in {name.strip('_') or 'my'}_value."
        yield Problem(file, use.line, "reserved_variable", f"The name {name!r} is reserved: {why}.", fix)


def read_type(uses: Sequence[Placeholder], file: str) -> ClickHouseType | Problem:
    """The one type of all uses of a variable, or why there is none."""
    first: tuple[ClickHouseType, Placeholder] | None = None
    for use in uses:
        type_ = _type_of(use, file)
        if isinstance(type_, Problem):
            return type_
        if first is None:
            first = type_, use
        elif type_ != first[0]:
            message = f"{use.name!r} is {first[0]} on line {first[1].line} and {type_} here."
            fix = "Write one type in both places, and convert in SQL."
            return Problem(file, use.line, "variable_type_conflict", message, fix)
    assert first is not None, "a variable is used at least once"
    return first[0]


def _type_of(use: Placeholder, file: str) -> ClickHouseType | Problem:
    if use.type_text == "Identifier":
        message = "Identifier would let callers choose tables and columns."
        fix = (
            "Write the column out; to let callers choose among some, use if({by:String} = 'os', os, country)."
        )
        return Problem(file, use.line, "identifier_placeholder", message, fix)
    try:
        type_ = parse_type(use.type_text)
    except UnsupportedType:
        return _unknown_type(use, file)
    if is_variable_type(type_):
        return type_
    if type_.text == type_.name and _near(type_.text):
        return _unknown_type(use, file)
    message = f"A variable cannot have the type {type_}."
    return Problem(file, use.line, "unsupported_type", message, "Take a String and convert it in SQL.")


def _unknown_type(use: Placeholder, file: str) -> Problem:
    near = _near(use.type_text)
    fix = f"Did you mean {near[0]}?" if near else _TYPE_FIX
    return Problem(file, use.line, "unknown_type", f"{use.type_text!r} is not a ClickHouse type.", fix)


def _near(text: str) -> list[str]:
    names = [name for family in families() if family.variable for name in family.names]
    return difflib.get_close_matches(text, [*names, *_COMPOSED], n=1, cutoff=0.75)
