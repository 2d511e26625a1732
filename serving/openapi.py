"""OpenAPI 3.1 documents with typed variables and typed result rows, of exactly what a key may call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from endpoints.definition import Variable
from endpoints.types import Column, openapi_schema, show_value
from serving.answer import MEDIA_TYPES
from serving.cursor import MAX_LENGTH
from serving.loaded import Served
from serving.openapi_materialize import materialize_paths
from serving.problems import KINDS, MEDIA_TYPE
from serving.request import Format

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Described:
    """A version and its result columns; none where the warehouse could not say."""

    served: Served
    columns: tuple[Column, ...]
    pinned: bool  # described as this version, whatever is current


def document(described: Sequence[Described], server: str, *, admin: bool = False) -> Json:
    """One document; `server` is the base URL. `admin`: with what keys of that scope may do besides."""
    paths = {f"/endpoints/{one.served.endpoint.name}/run": _path(one) for one in described}
    if admin:
        for one in described:
            paths |= materialize_paths(one.served.endpoint)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Query endpoints", "version": "1"},
        "servers": [{"url": server}],
        "security": [{"bearer": []}, {"apiKey": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
            "schemas": {"Problem": _PROBLEM},
        },
    }


def _path(described: Described) -> Json:
    served = described.served
    return {
        "get": {
            **_operation(described, "get"),
            "parameters": [
                *(_parameter(variable) for variable in served.version.variables.values()),
                *_option_parameters(described),
            ],
        },
        "post": {
            **_operation(described, "post"),
            "requestBody": {"content": {"application/json": {"schema": _body(described)}}},
        },
    }


def _operation(described: Described, method: str) -> Json:
    endpoint, version = described.served.endpoint, described.served.version
    return {
        "operationId": f"{method}_{endpoint.name.replace('-', '_')}",
        "summary": f"{endpoint.name}, version {version.number}",
        "description": version.description or endpoint.description or "",
        "tags": list(endpoint.tags),
        "deprecated": version.deprecated is not None,
        "responses": {**_ok(described, method), **_PROBLEMS},
    }


def _ok(described: Described, method: str) -> Json:
    headers = {name: {"schema": {"type": "string"}, "description": text} for name, text in _HEADERS.items()}
    content = {
        "application/json": {"schema": _envelope(described)},
        **{kind.partition(";")[0]: {} for name, kind in MEDIA_TYPES.items() if name != "json"},
    }
    answers: Json = {"200": {"description": "The rows.", "headers": headers, "content": content}}
    if method == "get":
        answers["304"] = {"description": "What If-None-Match names is still the answer."}
    return answers


def _envelope(described: Described) -> Json:
    served = described.served
    fields: Json = {
        "name": {"const": served.endpoint.name},
        "endpoint_version": {"type": "integer"},
        "columns": {"type": "array", "items": {"type": "string"}},
        "types": {"type": "array", "items": {"type": "string"}},
        "results": {"type": "array", "items": _row(described.columns)},
        "hasMore": {"type": "boolean"},
        "limit": {"type": "integer"},
        "offset": {"type": "integer"},
        "source": {"enum": ["asset", "live", "stale"]},
        "reason": {"type": ["string", "null"]},
        "is_cached": {"type": "boolean"},
        "last_refresh": {"type": ["string", "null"], "format": "date-time"},
        "execution_id": {"type": "string"},
    }
    paging: Json = {"nextCursor": {"type": "string"}, "total": {"type": "integer"}}
    return {"type": "object", "properties": {**fields, **paging}, "required": list(fields)}


def _row(columns: tuple[Column, ...]) -> Json:
    """A row as an array, typed by position, or as an object (`shape=objects`)."""
    if not columns:
        return {}
    schemas = {column.name: openapi_schema(column.type) for column in columns}
    array = {
        "type": "array",
        "prefixItems": list(schemas.values()),
        "items": False,
        "minItems": len(columns),
    }
    return {"oneOf": [array, {"type": "object", "properties": schemas, "required": list(schemas)}]}


def _parameter(variable: Variable) -> Json:
    parameter: Json = {
        "name": variable.name,
        "in": "query",
        "required": variable.required,
        "description": variable.description or "",
        "schema": _value(variable),
    }
    if variable.type.base.name == "Array":
        parameter |= {"style": "form", "explode": True}
    return parameter


def _value(variable: Variable) -> Json:
    """The JSON Schema of a variable: its type's, narrowed by what the definition says."""
    schema = dict(openapi_schema(variable.type))
    if variable.enum is not None:
        schema["enum"] = [show_value(variable.type, value) for value in variable.enum]
    if variable.pattern is not None:
        schema["pattern"] = variable.pattern
    if variable.max_length is not None:
        schema["maxLength"] = variable.max_length
    if variable.example is not None:
        schema["examples"] = [show_value(variable.type, variable.example)]
    if variable.default is not None:
        schema["description"] = f"Default: {variable.default}"
    for keyword, bound in (("minimum", variable.min), ("maximum", variable.max)):
        if isinstance(bound, int | float) and schema.get("type") in ("integer", "number"):
            schema[keyword] = bound
    return schema


def _options(described: Described) -> Mapping[str, Json]:
    version = described.served.version
    versions = [version.number] if described.pinned else sorted(described.served.endpoint.versions)
    return {
        "version": {"type": "integer", "enum": versions},
        "refresh": {"type": "string", "enum": ["cache", "force", "direct"], "default": "cache"},
        "limit": {"type": "integer", "minimum": 1, "maximum": version.limits.max_rows},
        "offset": {"type": "integer", "minimum": 0, "default": 0},
        "cursor": {"type": "string", "maxLength": MAX_LENGTH},
        "count": {"type": "boolean", "default": False},
        "format": {"type": "string", "enum": list(get_args(Format)), "default": "json"},
        "shape": {"type": "string", "enum": ["arrays", "objects"]},
        "integers": {"type": "string", "enum": ["number", "string"], "default": "number"},
    }


def _option_parameters(described: Described) -> list[Json]:
    taken = described.served.version.variables
    return [
        {"name": name, "in": "query", "required": name == "version" and described.pinned, "schema": schema}
        for name, schema in _options(described).items()
        if name not in taken
    ]


def _body(described: Described) -> Json:
    variables = described.served.version.variables.values()
    given: Json = {
        "type": "object",
        "properties": {variable.name: _value(variable) for variable in variables},
        "required": [variable.name for variable in variables if variable.required],
        "additionalProperties": False,
    }
    fields = {
        "variables": given,
        **_options(described),
        "client_query_id": {"type": "string", "maxLength": 128},
    }
    required = [*(["variables"] if given["required"] else []), *(["version"] if described.pinned else [])]
    return {"type": "object", "properties": fields, "required": required, "additionalProperties": False}


def _problem_answers() -> Json:
    codes: dict[int, list[str]] = {}
    for code, kind in KINDS.items():
        codes.setdefault(kind.status, []).append(code)
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        str(status): {"description": ", ".join(names), "content": content}
        for status, names in sorted(codes.items())
    }


_PROBLEMS = _problem_answers()

_PROBLEM: Json = {
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"enum": list(KINDS)},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {name: {"type": "string"} for name in ("field", "code", "detail")},
                "required": ["field", "code", "detail"],
            },
        },
    },
    "required": ["type", "title", "status", "detail", "code", "errors"],
}

_HEADERS = {
    "X-Endpoint-Source": "asset, live or stale",
    "X-Endpoint-Reason": "Why not the fresh asset.",
    "X-Endpoint-Version": "The version that answered.",
    "X-Endpoint-Data-Age": "Seconds since the data was true.",
    "X-Endpoint-Source-Max": "The newest source row when it was, where that is known.",
    "X-Request-Id": "Names this request in our logs.",
}
