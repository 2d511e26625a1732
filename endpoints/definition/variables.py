"""Variables: name and type from the SQL, everything else from endpoint.yaml."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from endpoints.definition.defaults import Default, is_moment, parse_default
from endpoints.definition.document import Document, Path_
from endpoints.definition.model import Variable
from endpoints.definition.pattern import compile_pattern
from endpoints.definition.rules import RuleBroken, check_rules, element_type
from endpoints.definition.schema import VariableYaml
from endpoints.definition.uses import check_name, read_type
from endpoints.errors import Problem
from endpoints.query.conjuncts import optional_conjunct
from endpoints.query.variables import Placeholder, placeholders
from endpoints.types import ClickHouseType, Value, parse_value

_TEXTS: Final = frozenset({"String", "FixedString"})
_UNORDERED: Final = frozenset({"Bool", "UUID", "IPv4", "IPv6", "Enum8", "Enum16"})
_SOME_DAY: Final = datetime(2026, 1, 1, tzinfo=UTC)  # relative defaults are tried out at this time


def read_variables(
    sql: str, models: Mapping[str, VariableYaml], document: Document, at: Path_, sql_file: str
) -> dict[str, Variable]:
    """The variables of a query, in the order of their first use. Problems go to `document`."""
    uses: dict[str, list[Placeholder]] = {}
    for placeholder in placeholders(sql):
        uses.setdefault(placeholder.name, []).append(placeholder)
    if sql:
        _check_used(models, uses, document, at, sql_file)
    variables = {}
    for name, found in uses.items():
        document.problems += check_name(found[0], sql_file)
        type_ = read_type(found, sql_file)
        if isinstance(type_, Problem):
            document.problems.append(type_)
            continue
        model = models.get(name, VariableYaml())
        reader = _Reader(name, type_, model, document, (*at, name))
        variables[name] = replace(reader.variable(), line=found[0].line)
        if model.optional:
            document.problems += _check_optional(sql, found, sql_file)
    return variables


def read_pattern(pattern: str, document: Document, at: Path_) -> bool:
    """Whether the pattern is a regular expression; a Problem where it is none."""
    try:
        compile_pattern(pattern)
    except ValueError as error:
        fix = "Write a regular expression without look-around; YAML's single quotes keep backslashes."
        message = f"{pattern!r} is not a regular expression: {error}."
        document.report(at, "bad_pattern", message, fix)
        return False
    return True


def _check_used(
    models: Mapping[str, VariableYaml],
    uses: Mapping[str, object],
    document: Document,
    at: Path_,
    sql_file: str,
) -> None:
    for name in (name for name in models if name not in uses):
        near = difflib.get_close_matches(name, uses, n=1)
        known = ", ".join(uses) or "none"
        fix = f"Use it as {{{name}:Type}}, or remove it. Variables there: {known}."
        message = f"{sql_file.rpartition('/')[2]} has no variable {name!r}."
        fix = f"Did you mean {near[0]}?" if near else fix
        document.report((*at, name), "undefined_variable", message, fix)


def _check_optional(sql: str, uses: Sequence[Placeholder], sql_file: str) -> list[Problem]:
    problems = []
    for use in uses:
        refusal = optional_conjunct(sql, use)
        if isinstance(refusal, str):
            fix = "Make it one condition, joined by AND, of WHERE or HAVING"
            if use.type_text == "String":
                fix += f"; or give it the default '' and write ({{{use.name}:String}} = '' OR …)"
            message = f"{use.name!r} is optional, but {refusal}."
            problems.append(Problem(sql_file, use.line, "optional_not_conjunct", message, f"{fix}."))
    return problems


class _Reader:
    """One variable in the making.

    What cannot be read is reported and left out, so that the rest is checked too.
    """

    def __init__(
        self, name: str, type_: ClickHouseType, model: VariableYaml, document: Document, at: Path_
    ) -> None:
        self.name, self.type, self.model, self.document, self.at = name, type_, model, document, at

    def variable(self) -> Variable:
        """The variable as far as it can be read."""
        model = self.model
        variable = Variable(
            name=self.name,
            type=self.type,
            required="default" not in model.model_fields_set and not model.optional,
            optional=model.optional,
            description=model.description,
            pattern=self._pattern(),
            enum=self._enum(),
            min=self._bound("min"),
            max=self._bound("max"),
            max_length=self._max_length(),
            private=model.private,
            bucket=self._bucket(),
        )
        self._check_range(variable)
        default = self._default(variable)
        return replace(variable, default=default, example=self._example(variable))

    def _default(self, variable: Variable) -> Default | None:
        if "default" not in self.model.model_fields_set:
            return None
        if self.model.optional:
            message = "optional and default exclude each other: with a default there is always a value."
            self._report("optional", "optional_with_default", message, "Keep one of them.")
        fix = "Write a literal, or today/now ± n{m,h,d,w}, as in `today - 30d`."
        try:
            default = parse_default(self._raw("default"), self.type)
            value = default.resolve(_SOME_DAY, "UTC", self.type)
        except (ValueError, OverflowError) as error:
            self._wrong_value("default", self.type, error, fix if is_moment(self.type) else None)
            return None
        if default.anchor is None:
            self._check_rules("default", variable, value)
        return default

    def _example(self, variable: Variable) -> Value:
        if self.model.example is None:
            return None
        value = self._value("example", self.type, self._raw("example"))
        if value is not None:
            self._check_rules("example", variable, value)
        return value

    def _check_rules(self, key: str, variable: Variable, value: Value) -> None:
        try:
            check_rules(variable, value)
        except RuleBroken as broken:
            message = f"{key} of {self.name!r} breaks the variable's own rules."
            self._report(key, f"bad_{key}", message, str(broken))

    def _bound(self, key: str) -> Value:
        if getattr(self.model, key) is None:
            return None
        target = element_type(self.type)
        if target.base.name in _UNORDERED:
            self._report(key, f"bad_{key}", f"{target} has no order that callers know.", "Use enum.")
            return None
        return self._value(key, target, self._raw(key))

    def _check_range(self, variable: Variable) -> None:
        if variable.min is not None and variable.max is not None and variable.min > variable.max:  # type: ignore[operator]
            self._report("min", "bad_min", f"min of {self.name!r} is above its max.", "Swap them.")

    def _enum(self) -> tuple[Value, ...] | None:
        if self.model.enum is None:
            return None
        target = element_type(self.type)
        at = (*self.at, "enum")
        items = (self.document.raw((*at, i), item) for i, item in enumerate(self.model.enum))
        return tuple(self._value("enum", target, item, index) for index, item in enumerate(items))

    def _pattern(self) -> str | None:
        pattern = self.model.pattern
        if pattern is None or not read_pattern(pattern, self.document, (*self.at, "pattern")):
            return None
        if element_type(self.type).base.name not in _TEXTS:
            message = f"A pattern is for text; {self.name!r} is {self.type}."
            self._report("pattern", "bad_pattern", message, "Use enum, min or max.")
            return None
        return pattern

    def _max_length(self) -> int | None:
        if self.model.max_length is not None and self.type.base.name not in _TEXTS | {"Array"}:
            message = f"max_length is for text and arrays; {self.name!r} is {self.type}."
            self._report("max_length", "bad_max_length", message, "Use min and max.")
            return None
        return self.model.max_length

    def _bucket(self) -> str | None:
        if self.model.bucket is not None and not is_moment(self.type):
            message = f"Buckets are for dates and times; {self.name!r} is {self.type}."
            self._report("bucket", "bad_bucket", message, "Remove it.")
            return None
        return self.model.bucket

    def _value(self, key: str, target: ClickHouseType, raw: object, index: int | None = None) -> Value:
        try:
            return parse_value(target, raw)
        except ValueError as error:
            self._wrong_value(key, target, error, None, index)
            return None

    def _wrong_value(
        self, key: str, target: ClickHouseType, error: Exception, fix: str | None, index: int | None = None
    ) -> None:
        path = (*self.at, key) if index is None else (*self.at, key, index)
        message = f"{key} of {self.name!r} is not of type {target}: {str(error).rstrip('.')}."
        self.document.report(path, f"bad_{key}", message, fix or f"Write a value of type {target}.")

    def _raw(self, key: str) -> object:
        return self.document.raw((*self.at, key), getattr(self.model, key))

    def _report(self, key: str, code: str, message: str, fix: str) -> None:
        self.document.report((*self.at, key), code, message, fix)
