"""Shape mistakes of endpoint.yaml as Problems: what is wrong, where, and what to write instead."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Mapping
from typing import Any, Final, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from endpoints.definition.document import Document, Path_
from endpoints.definition.schema import EndpointYaml

_EXPECTED: Final[Mapping[str, str]] = {
    "string_type": "text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list, as in [a, b]",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
}
# Words that people bring from elsewhere, and what they are called here.
_SYNONYMS: Final[Mapping[str, str]] = {
    "name": "the folder's name is the endpoint's",
    "sql": "the query goes in vN.sql beside this file",
    "query": "the query goes in vN.sql beside this file",
    "type": "a variable's type is in the SQL, {name:Type}",
    "required": "a variable without default and optional is required",
    "version": "versions: {1: …}",
    "ttl": "cache",
    "cron": "schedule",
    "in": "isin",
    "values": "enum",
    "regex": "pattern",
    "eq": "isin",
    "timezone": "partitions.timezone",
}


Model = TypeVar("Model", bound=BaseModel)


def read_endpoint_model(document: Document) -> EndpointYaml | None:
    """The model of an endpoint.yaml, as `read_model`; an empty file is a mistake."""
    if document.data is None:
        if not document.problems:
            document.report(
                (),
                "empty_definition",
                "The file is empty.",
                "Write at least `current: 1` and `versions: {1: }`.",
            )
        return None
    return read_model(document, EndpointYaml)


def read_model(document: Document, kind: type[Model]) -> Model | None:
    """The model of a document, every mistake of shape reported in it.

    After a mistake the rest is read on without the wrong parts, so that all mistakes of a file are told at
    once; None where too little is left. Whoever calls must look at `document.problems` before using the
    result.
    """
    if not isinstance(document.data, dict):
        document.report(
            (),
            "wrong_type",
            "The file must be a mapping of keys to values.",
            f"Begin with `{next(iter(kind.model_fields))}:`.",
        )
        return None
    data = document.data
    for attempt in range(4):  # removing what is wrong can leave a mapping empty that may not be
        try:
            return kind.model_validate(data)
        except ValidationError as error:
            found = error.errors(include_url=False)
            data = copy.deepcopy(data)
            for details in found:
                if attempt == 0:
                    _report(document, details, kind)
                _remove(data, details)
    return None


def _report(document: Document, details: ErrorDetails, root: type[BaseModel]) -> None:
    path: Path_ = details["loc"]
    kind, key = details["type"], _shown(path)
    if kind == "extra_forbidden":
        _report_unknown(document, path, root)
    elif kind == "missing":
        fix = f"Add `{path[-1]}: …` {'at the top' if len(path) == 1 else f'under {_shown(path[:-1])}'}."
        document.report(path, "missing_key", f"{key} is missing.", fix)
    elif kind in _EXPECTED:
        got = "nothing" if details["input"] is None else _show_input(details["input"])
        document.report(
            path, "wrong_type", f"{key} must be {_EXPECTED[kind]}, not {got}.", _type_fix(kind, details)
        )
    elif kind == "literal_error":
        expected = str(details.get("ctx", {}).get("expected", "")).replace("'", "").replace(" or ", ", ")
        got = _show_input(details["input"])
        near = difflib.get_close_matches(str(details["input"]), expected.split(", "), n=1)
        fix = f"Did you mean {near[0]}?" if near else f"Write one of: {expected}."
        document.report(path, "invalid_value", f"{key} is {got}, which is not one of: {expected}.", fix)
    elif kind == "value_error":
        message, _, fix = details["msg"].removeprefix("Value error, ").partition("; ")
        if not fix:
            message, _, fix = message.partition(". ")
        if not fix:
            message, _, fix = message.partition(": ")
        fix = f"{fix[0].upper()}{fix[1:].rstrip('.')}." if fix else ""
        document.report(path, "invalid_value", f"{key}: {message}.", fix)
    else:
        _report_bound(document, details)


def _report_unknown(document: Document, path: Path_, root: type[BaseModel]) -> None:
    known = _known_keys(path[:-1], root)
    key = str(path[-1])
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if near:
        fix = f"Did you mean {near[0]}?"
    elif key in _SYNONYMS:
        fix = f"Here: {_SYNONYMS[key]}."
    else:
        fix = f"Keys here: {', '.join(known)}."
    where = f" under {_shown(path[:-1])}" if path[:-1] else ""
    document.report(path, "unknown_key", f"{key!r} is not a key{where}.", fix)


def _known_keys(path: Path_, root: type[BaseModel]) -> list[str]:
    """The keys that the mapping at `path` may have."""
    model = root
    for part in path:
        field = model.model_fields.get(str(part))
        inner = _model_in(field.annotation) if field else None
        # A part that is no field is a name in `versions`, `variables` or `columns`: its model is already
        # the current one.
        model = inner or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside `X`, `X | None` or `dict[str, X]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _model_in(arg))), None)


def _shown(path: Path_) -> str:
    """A path as people read it: `versions.2.limits.rate`, `tags[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".") or "the file"


def _show_input(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…'"


def _type_fix(kind: str, details: ErrorDetails) -> str:
    value = details["input"]
    if kind == "string_type" and isinstance(value, int | float):
        return f'Write it in quotes: "{_show_input(value)}".'
    if kind == "list_type" and isinstance(value, str | int | float):
        return f"Write [{value}]."
    if kind == "bool_type" and str(value).lower() in ("yes", "no", "on", "off"):
        return f"Write {'true' if str(value).lower() in ('yes', 'on') else 'false'}."
    return f"Write {_EXPECTED[kind] if 'mapping' not in _EXPECTED[kind] else '`key: value` lines under it'}."


def _report_bound(document: Document, details: ErrorDetails) -> None:
    """A value of the right type that is too small, too large, too short or of the wrong form."""
    path, limits = details["loc"], details.get("ctx", {})
    key, got = _shown(path), _show_input(details["input"])
    if path[-1] == "rate":
        what, fix = f"is {got}", "Write a number per second, minute, hour or day, as in 600/minute."
    elif path[0] == "alerts":
        what, fix = f"is {got}", "Name one of ENDPOINTS_ALERTS: small letters, digits, _ and -, as in growth."
    elif "ge" in limits:
        what, fix = f"is {got}", f"Write {limits['ge']} or more."
    elif "le" in limits:
        what, fix = f"is {got}", f"Write {limits['le']} or less."
    elif path == ("versions",):
        what, fix = "is empty", "Write at least `versions: {1: }` and the query in v1.sql."
    else:
        what, fix = "is empty", "Write at least one, or remove the key."
    document.report(path, "invalid_value", f"{key} {what}.", fix)


def _remove(data: dict[str, Any], details: ErrorDetails) -> None:
    """Take the wrong part out of `data`: the nearest key around it, or the mapping that lacks one."""
    path = details["loc"]
    if details["type"] == "missing":
        if path == ("current",):
            data["current"] = 1
            return
        path = path[:-1]
    holder: Any = data
    keys: list[tuple[dict[str, Any], str]] = []
    for part in path:
        if not isinstance(holder, dict) or part not in holder:
            break
        keys.append((holder, str(part)))
        holder = holder[part]
    if keys:
        mapping, key = keys[-1]
        mapping.pop(key, None)
        if mapping is data and key == "current":
            data["current"] = 1
