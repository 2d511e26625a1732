"""The rules that endpoint.yaml adds to a variable's type: enum, range, pattern, length."""

from __future__ import annotations

from collections.abc import Iterator

from endpoints.definition.model import Variable
from endpoints.definition.pattern import compile_pattern
from endpoints.types import ClickHouseType, Value, show_value


class RuleBroken(ValueError):
    """A value of the right type that a rule forbids: a stable `code`, and a sentence without the value."""

    def __init__(self, code: str, sentence: str) -> None:
        self.code = code
        super().__init__(sentence)


def check_rules(variable: Variable, value: Value) -> None:
    """RuleBroken where a typed value breaks a rule.

    NULL breaks none; of an array each element is looked at.
    """
    if value is None:
        return
    length = len(value) if isinstance(value, str | list) else 0
    if variable.max_length is not None and length > variable.max_length:
        raise RuleBroken("too_long", f"The value is longer than {variable.max_length}.")
    for item in _items(value):
        _check_item(variable, item)


def element_type(type_: ClickHouseType) -> ClickHouseType:
    """What enum, min, max and pattern look at: the innermost element of an array, else the type itself."""
    while type_.base.name == "Array":
        type_ = type_.base.inner
    return type_


def _check_item(variable: Variable, item: Value) -> None:
    if variable.enum is not None and item not in variable.enum:
        allowed = "" if variable.private else f": {', '.join(_shown(variable, v) for v in variable.enum)}"
        raise RuleBroken("not_in_enum", f"The value is not one of those allowed{allowed}.")
    below = variable.min is not None and not item >= variable.min  # type: ignore[operator]
    above = variable.max is not None and not item <= variable.max  # type: ignore[operator]
    if below or above:  # `not >=` rather than `<`: NaN is in no range
        raise RuleBroken("out_of_range", f"The value must be {_range(variable)}.")
    if variable.pattern is not None and not compile_pattern(variable.pattern).found_in(str(item)):
        raise RuleBroken("pattern_mismatch", f"The value does not match the pattern {variable.pattern}.")


def _items(value: Value) -> Iterator[Value]:
    if isinstance(value, list):
        for item in value:
            yield from _items(item)
    elif value is not None:
        yield value


def _shown(variable: Variable, value: Value) -> str:
    return str(show_value(element_type(variable.type), value))


def _range(variable: Variable) -> str:
    if variable.min is None:
        return f"at most {_shown(variable, variable.max)}"
    least = _shown(variable, variable.min)
    return (
        f"at least {least}" if variable.max is None else f"from {least} to {_shown(variable, variable.max)}"
    )
