"""A value for each variable with which its query can be described, and tried: its author's, or one that fits.

ClickHouse evaluates constants while it describes: `toDate({day:String})` has no columns for a text that is no
day.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from endpoints.definition.model import Version
from endpoints.query.lexer import Kind, Token, significant, tokenize
from endpoints.query.variables import read_placeholder
from endpoints.types import Value, example_value

_TEXTS: Final = (
    (re.compile(r"(to|parse)?date(time|32)?.*|timestamp"), "2026-01-01 00:00:00"),
    (re.compile(r"(to)?(u?int|float|decimal|bool).*"), "1"),
    (re.compile(r"(to)?uuid.*"), "00000000-0000-4000-8000-000000000000"),
    (re.compile(r"(to)?ipv4.*"), "127.0.0.1"),
    (re.compile(r"(to)?ipv6.*"), "::1"),
)
"""What a text must be for these functions, and these types in a CAST, to take it."""


def example_values(version: Version) -> Mapping[str, Value]:
    """A value for every variable: its example, the first of its enum, or one that the query takes."""
    texts = _converted(version.sql)
    values: dict[str, Value] = {}
    for name, variable in version.variables.items():
        if variable.example is not None:
            values[name] = variable.example
        elif variable.enum:
            values[name] = variable.enum[0]
        elif name in texts and variable.type.base.name == "String":
            values[name] = texts[name]
        else:
            values[name] = example_value(variable.type)
    return values


def _converted(sql: str) -> dict[str, str]:
    """The variables that stand as texts in conversions, with a text that these take."""
    tokens = significant(tokenize(sql))
    found: dict[str, str] = {}
    for index, token in enumerate(tokens):
        if token.kind is Kind.PLACEHOLDER:
            words = (word.lower() for word in _conversions(tokens, index))
            text = next((text for word in words for names, text in _TEXTS if names.fullmatch(word)), None)
            if text is not None:
                found.setdefault(read_placeholder(token).name, text)
    return found


def _conversions(tokens: tuple[Token, ...], index: int) -> tuple[str, ...]:
    """The names by which the token at `index` may be converted: toDate(…), …::Date, CAST(… AS Date)."""
    before = tokens[index - 2].name if index > 1 and tokens[index - 1].text == "(" else ""
    cast = index + 2 < len(tokens) and (tokens[index + 1].text == "::" or tokens[index + 1].word == "AS")
    return (tokens[index + 2].name if cast else "", before)
