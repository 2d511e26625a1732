"""Variables: what the SQL says of them (name, type) and what endpoint.yaml adds."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from endpoints.definition.defaults import Default, is_moment, parse_default
from endpoints.definition.document import Document, Path_
from endpoints.definition.model import Variable
from endpoints.definition.pattern import compile_pattern
from endpoints.definition.schema import VariableYaml
from endpoints.errors import Problem, UnsupportedType
from endpoints.query.conjuncts import optional_conjunct
from endpoints.query.variables import Placeholder, placeholders
from endpoints.types import ClickHouseType, Value, is_variable_type, parse_type, parse_value

NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
# What `run` itself takes beside the variables (design §6).
RESERVED: Final = frozenset({"version", "refresh", "limit", "offset", "cursor", "format", "shape", "debug"})
"""Names that no variable may have, in any case."""

_TEXTS = frozenset({"String", "FixedString"})
_UNORDERED = frozenset({"Bool", "UUID", "IPv4", "IPv6", "Enum8", "Enum16"})
_ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)


def read_variables(
    sql: str, models: Mapping[str, VariableYaml], document: Document, at: Path_, sql_shown: str
) -> dict[str, Variable]:
    """The variables of a query, in the order of their first use. Problems go to `document`."""
    reader = _Reader(sql, document, at, sql_shown)
    uses: dict[str, list[Placeholder]] = {}
    for placeholder in placeholders(sql):
        uses.setdefault(placeholder.name, []).append(placeholder)
    if sql:
        reader.check_used(models, uses)
    variables = {}
    for name, found in uses.items():
        type_ = reader.type_of(name, found)
        if type_ is not None:
            variables[name] = reader.variable(found, type_, models.get(name, VariableYaml()))
    return variables


def read_pattern(pattern: str, document: Document, at: Path_) -> None:
    """A Problem where the pattern is no regular expression."""
    try:
        compile_pattern(pattern)
    except ValueError as error:
        fix = "Write a regular expression without look-around; YAML's single quotes keep backslashes."
        message = f"{pattern!r} is not a regular expression: {error}."
        document.report(at, "bad_pattern", message, fix)


class _Reader:
    """Where the variables of one version come from, and where its problems go."""

    def __init__(self, sql: str, document: Document, at: Path_, sql_shown: str) -> None:
        self.sql, self.document, self.at, self.sql_shown = sql, document, at, sql_shown

    def check_used(self, models: Mapping[str, VariableYaml], uses: Mapping[str, object]) -> None:
        for name in models:
            if name not in uses:
                near = difflib.get_close_matches(name, uses, n=1)
                known = ", ".join(uses) or "none"
                fix = (
                    f"Did you mean {near[0]}?"
                    if near
                    else f"Use it as {{{name}:Type}}, or remove it. Variables there: {known}."
                )
                file = self.sql_shown.rpartition("/")[2]
                self.document.report(
                    (*self.at, name), "undefined_variable", f"{file} has no variable {name!r}.", fix
                )

    def type_of(self, name: str, uses: list[Placeholder]) -> ClickHouseType | None:
        """The one type of a variable; None, with a Problem, where it has none or several."""
        first = uses[0]
        if not NAME.fullmatch(name):
            self._sql_problem(
                first,
                "bad_variable_name",
                f"{name!r} cannot be a variable's name.",
                "Use letters, digits and _, not beginning with a digit.",
            )
        elif name.lower() in RESERVED or name.startswith("_"):
            why = "begins with _" if name.startswith("_") else "is a parameter of every run"
            self._sql_problem(
                first,
                "reserved_variable",
                f"The name {name!r} is reserved: it {why}.",
                f"Rename it, as in {name.strip('_') or 'value'}_value.",
            )
        types: dict[ClickHouseType, Placeholder] = {}
        for use in uses:
            type_ = self._parse(use)
            if type_ is None:
                return None
            types.setdefault(type_, use)
        if len(types) > 1:
            (one, _), (other, where) = list(types.items())[:2]
            message = f"{name!r} is {one} on line {first.line} and {other} here."
            self._sql_problem(
                where, "variable_type_conflict", message, "Write one type in both places, and convert in SQL."
            )
            return None
        return next(iter(types))

    def _parse(self, use: Placeholder) -> ClickHouseType | None:
        if use.type_text == "Identifier":
            fix = "Write the column out; to let callers choose, compare a String variable in SQL, as in if({by:String} = 'os', os, country)."
            self._sql_problem(
                use, "identifier_placeholder", "Identifier would let callers choose tables and columns.", fix
            )
            return None
        try:
            type_ = parse_type(use.type_text)
        except UnsupportedType:
            near = difflib.get_close_matches(use.type_text, _COMMON_TYPES, n=1)
            fix = (
                f"Did you mean {near[0]}?"
                if near
                else "Write a ClickHouse type, as in String, UInt32, Date or Array(String)."
            )
            self._sql_problem(use, "unknown_type", f"{use.type_text!r} is not a ClickHouse type.", fix)
            return None
        if not is_variable_type(type_):
            fix = "Take a String and convert it in SQL."
            self._sql_problem(use, "unsupported_type", f"A variable cannot be a {type_}.", fix)
            return None
        return type_

    def variable(self, uses: list[Placeholder], type_: ClickHouseType, model: VariableYaml) -> Variable:
        name, given = uses[0].name, model.model_fields_set
        here = (*self.at, name)
        default = self._default(type_, model, here) if "default" in given else None
        values = {
            key: self._value(type_, key, getattr(model, key), here)
            for key in ("example", "min", "max")
            if key in given
        }
        enum = self._enum(type_, model, here)
        self._check_rules(type_, model, values, here)
        variable = Variable(
            name=name,
            type=type_,
            required=default is None and not model.optional,
            optional=model.optional,
            default=default,
            description=model.description,
            pattern=model.pattern,
            enum=enum,
            max_length=model.max_length,
            private=model.private,
            bucket=model.bucket,
            line=uses[0].line,
            **values,
        )
        if model.optional:
            self._check_optional(name, uses, model, here)
        return variable

    def _default(self, type_: ClickHouseType, model: VariableYaml, at: Path_) -> Default | None:
        try:
            default = parse_default(self.document.raw((*at, "default"), model.default), type_)
            default.resolve(_ANCHOR, "UTC", type_)
        except (ValueError, OverflowError) as error:
            fix = (
                "Write a literal, or today/now ± n{m,h,d,w}, as in `today - 30d`."
                if is_moment(type_)
                else f"Write a {type_}."
            )
            self._value_problem("default", type_, error, at, fix)
            return None
        return default

    def _value(self, type_: ClickHouseType, key: str, written: object, at: Path_) -> Value:
        target = type_ if key == "example" else _compared(type_)
        try:
            return parse_value(target, self.document.raw((*at, key), written))
        except ValueError as error:
            self._value_problem(key, target, error, at, f"Write a {target}.")
            return None

    def _enum(self, type_: ClickHouseType, model: VariableYaml, at: Path_) -> tuple[Value, ...] | None:
        if model.enum is None:
            return None
        return tuple(
            self._enum_item(type_, item, (*at, "enum", index)) for index, item in enumerate(model.enum)
        )

    def _enum_item(self, type_: ClickHouseType, item: object, at: Path_) -> Value:
        target = _compared(type_)
        try:
            return parse_value(target, self.document.raw(at, item))
        except ValueError as error:
            self._value_problem("enum", target, error, at[:-2], f"Write values of {target}.", line_at=at)
            return None

    def _check_rules(
        self, type_: ClickHouseType, model: VariableYaml, values: Mapping[str, Value], at: Path_
    ) -> None:
        compared = _compared(type_).base
        if model.pattern is not None:
            read_pattern(model.pattern, self.document, (*at, "pattern"))
            if compared.name not in _TEXTS:
                self.document.report(
                    (*at, "pattern"),
                    "bad_pattern",
                    f"A pattern is for text; this is a {type_}.",
                    "Use enum, min or max.",
                )
        if model.max_length is not None and compared.name not in _TEXTS and type_.base.name != "Array":
            self.document.report(
                (*at, "max_length"),
                "bad_max_length",
                f"max_length is for text and arrays; this is a {type_}.",
                "Use min and max.",
            )
        for key in ("min", "max"):
            if key in values and compared.name in _UNORDERED:
                self.document.report(
                    (*at, key), f"bad_{key}", f"A {compared} has no order that callers know.", "Use enum."
                )
        if "default" in model.model_fields_set and model.optional:
            message = "optional and default exclude each other: with a default the variable is always there."
            self.document.report((*at, "optional"), "optional_with_default", message, "Keep one of them.")

    def _check_optional(self, name: str, uses: list[Placeholder], model: VariableYaml, at: Path_) -> None:
        for use in uses:
            refusal = optional_conjunct(self.sql, use)
            if isinstance(refusal, str):
                fix = f"Write it as one condition joined by AND at the top of WHERE or HAVING; or give a default and write ({{{name}:{use.type_text}}} = '' OR …)."
                self._sql_problem(use, "optional_not_conjunct", f"{name!r} is optional, but {refusal}.", fix)

    def _value_problem(
        self,
        key: str,
        type_: ClickHouseType,
        error: Exception,
        at: Path_,
        fix: str,
        line_at: Path_ | None = None,
    ) -> None:
        self.document.report(
            line_at or (*at, key), f"bad_{key}", f"{key} of {at[-1]!r} is not a {type_}: {error}.", fix
        )

    def _sql_problem(self, use: Placeholder, code: str, message: str, fix: str) -> None:
        self.document.problems.append(Problem(self.sql_shown, use.line, code, message, fix))


def _compared(type_: ClickHouseType) -> ClickHouseType:
    """What enum, min, max and pattern look at: the elements of an array, else the value."""
    while type_.base.name == "Array":
        type_ = type_.base.args[0]  # type: ignore[assignment]
    return type_


_COMMON_TYPES: Final = (
    "String", "UInt8", "UInt16", "UInt32", "UInt64", "Int8", "Int16", "Int32", "Int64", "Float64", "Bool", "Date",
    "DateTime", "DateTime64(3)", "UUID", "Array(String)", "Array(UInt64)", "Nullable(String)", "Decimal(18, 2)",
)  # fmt: skip
