"""The routes of `serving.materialize`, as an OpenAPI document describes them to admin keys."""

from __future__ import annotations

from typing import Any

from endpoints.definition import Endpoint
from serving.problems import KINDS, MEDIA_TYPE

Json = dict[str, Any]

_TIME = {"type": ["string", "null"], "format": "date-time"}
_WHOLE = {"type": ["integer", "null"]}
_TEXT = {"type": ["string", "null"]}
_PARTITION = {
    "partition": {"type": "string"},
    "state": {"enum": ["waiting", "published", "failed"]},
    "snapshot": _WHOLE,
    "rows": _WHOLE,
    "bytes": _WHOLE,
    "run_id": _TEXT,
    "error": _TEXT,
}
_PROGRESS = {
    "id": {"type": "string"},
    "name": {"type": "string"},
    "endpoint_version": {"type": "integer"},
    "state": {"enum": ["queued", "running", "published", "failed"]},
    "asked_at": {"type": "string", "format": "date-time"},
    "ended": _TIME,
    "run_id": _TEXT,
    "run_url": _TEXT,
    "url": {"type": "string"},
    "partitions": {
        "type": "array",
        "items": {"type": "object", "properties": _PARTITION, "required": list(_PARTITION)},
    },
}
_REFUSALS = (
    *("invalid_input", "malformed_body", "unauthenticated", "missing_scope", "unknown_endpoint"),
    *("unknown_version", "unknown_request", "sunset", "body_too_large", "unsupported_media_type"),
    *("broken_definition", "keys_unavailable", "lake_unavailable"),
)


def materialize_paths(endpoint: Endpoint) -> Json:
    """Asking for partitions to be made, and following what comes of it."""
    name, tags = endpoint.name.replace("-", "_"), list(endpoint.tags)
    path = f"/endpoints/{endpoint.name}/materialize"
    return {
        path: {
            "post": {
                "operationId": f"materialize_{name}",
                "summary": f"Make partitions of {endpoint.name} now",
                "tags": tags,
                "requestBody": {"content": {"application/json": {"schema": _asked(endpoint)}}},
                "responses": {"202": _answer("Asked for; `Location` tells how it goes."), **_problems()},
            }
        },
        f"{path}/{{id}}": {
            "get": {
                "operationId": f"materialization_of_{name}",
                "summary": f"How a request to make partitions of {endpoint.name} goes",
                "tags": tags,
                "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
                "responses": {"200": _answer("How far it is."), **_problems()},
            }
        },
    }


def _asked(endpoint: Endpoint) -> Json:
    fields = {
        "version": {"type": "integer", "enum": sorted(endpoint.versions)},
        "partitions": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "from": {"type": "string", "description": "A partition, date or time; included."},
        "to": {"type": "string", "description": "A partition, date or time; included."},
    }
    return {"type": "object", "properties": fields, "additionalProperties": False}


def _answer(description: str) -> Json:
    schema = {"type": "object", "properties": _PROGRESS, "required": list(_PROGRESS)}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _problems() -> Json:
    codes: dict[int, list[str]] = {}
    for code in _REFUSALS:
        codes.setdefault(KINDS[code].status, []).append(code)
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        str(status): {"description": ", ".join(names), "content": content} for status, names in codes.items()
    }
