"""Asking for partitions to be made: a request is left in the lake, for Dagster to take up when it is there.

POST /endpoints/{name}/materialize         202, with the place to follow it
GET  /endpoints/{name}/materialize/{id}    how far it is, for keys with the scope `admin`
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from endpoints.choice import chosen
from endpoints.errors import FieldError, InputError
from endpoints.lake.requests import Request as Left
from endpoints.lake.requests import Requests, results, state
from serving.answer import VARY, instant
from serving.auth import Principal
from serving.loaded import Served
from serving.problems import HttpProblem
from serving.request import read_fields
from serving.service import Service

_POLL_SECONDS = 2

audit = logging.getLogger("endpoints.audit")


@dataclass(frozen=True, slots=True)
class _Asked:
    """The body of a request, each field of its type."""

    version: int | None = None
    partitions: tuple[str, ...] | None = None
    first: str | None = None
    last: str | None = None


async def ask_materialization(request: Request) -> Response:
    """`POST /endpoints/{name}/materialize`: `{"version", "partitions": [...]}`, `{"from", "to"}`, or nothing.

    Nothing means what is not final. The same asked for while it is open is the same request.
    """
    service, principal = await _admin(request)
    found = service.loaded.find(request.path_params["name"], principal)
    asked = _read(await read_fields(request))
    now = datetime.now(UTC)
    served = found.version(asked.version, now.date())
    _require_asset(served)
    left = await asyncio.to_thread(_leave, service, principal, served, asked, now)
    headers = {"Location": _url(left), "Retry-After": str(_POLL_SECONDS)}
    return _json(await asyncio.to_thread(_progress, service, left), 202, headers)


async def show_materialization(request: Request) -> Response:
    """`GET /endpoints/{name}/materialize/{id}`."""
    service, principal = await _admin(request)
    endpoint = service.loaded.find(request.path_params["name"], principal).endpoint
    left = await asyncio.to_thread(Requests(service.assets.lake).find, request.path_params["id"])
    if left is None or left.endpoint != endpoint.name:
        raise HttpProblem("unknown_request")
    headers = {} if left.ended else {"Retry-After": str(_POLL_SECONDS)}
    return _json(await asyncio.to_thread(_progress, service, left), 200, headers)


async def _admin(request: Request) -> tuple[Service, Principal]:
    service: Service = request.app.state.service
    principal = await service.admit(request.scope)
    principal.require("admin")
    return service, principal


def _read(fields: dict[str, object]) -> _Asked:
    """The fields of a body; null is not given. InputError names all that are wrong."""
    wrong: list[FieldError] = []
    read: dict[str, Any] = {}
    for name, value in fields.items():
        if name not in _FIELDS:
            detail = f"No such field; there are {', '.join(_FIELDS)}."
            wrong.append(FieldError(name, "unknown_field", detail))
        elif value is not None:
            attribute, fits, must = _FIELDS[name]
            if not fits(value):
                wrong.append(FieldError(name, "wrong_type", must))
            read[attribute] = tuple(value) if isinstance(value, list) else value
    if wrong:
        raise InputError(wrong)
    return _Asked(**read)


def _is_version(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _are_keys(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(key, str) for key in value)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


_TIME = "Must be a string: a partition, date or time."
_FIELDS: Mapping[str, tuple[str, Callable[[object], bool], str]] = {
    "version": ("version", _is_version, "Must be the number of a version."),
    "partitions": ("partitions", _are_keys, "Must be an array of strings, the keys of partitions."),
    "from": ("first", _is_text, _TIME),
    "to": ("last", _is_text, _TIME),
}


def _require_asset(served: Served) -> None:
    version = served.version
    if served.plan is None:
        why = ", ".join(served.refused) or "its definition has no `materialize:`"
        detail = f"{version.key} runs live only: {why}."
        raise InputError([FieldError("version", "live_only", detail)])


def _leave(service: Service, principal: Principal, served: Served, asked: _Asked, now: datetime) -> Left:
    """Works out which partitions are meant, and asks for them. Blocks."""
    version, lake = served.version, service.assets.lake
    keys = chosen(
        version,
        lake.head(version.endpoint, version.number),
        now,
        partitions=asked.partitions,
        first=asked.first,
        last=asked.last,
    )
    left = Requests(lake).leave(
        version.endpoint, version.number, version.fingerprint, keys, by="api", asked_by=f"key {principal.id}"
    )
    audit.info("key %s asks for %d partitions of %s: %s", principal.id, len(keys), version.key, left.id)
    return left


def _progress(service: Service, left: Left) -> dict[str, object]:
    """How far a request is, as the lake tells now. Blocks."""
    made = results(left, service.assets.lake.head(left.endpoint, left.version))
    dagster = service.settings.dagster_url.rstrip("/")
    return {
        "id": left.id,
        "name": left.endpoint,
        "endpoint_version": left.version,
        "state": state(left, made),
        "asked_at": instant(left.asked_at),
        "ended": instant(left.ended),
        "run_id": left.run_id,
        "run_url": f"{dagster}/runs/{left.run_id}" if left.run_id else None,
        "url": _url(left),
        "partitions": [asdict(one) for one in made],
    }


def _json(body: dict[str, object], status: int, headers: Mapping[str, str]) -> Response:
    headers = {"Cache-Control": "no-store", "Vary": VARY, **headers}
    return Response(orjson.dumps(body), status, headers, media_type="application/json")


def _url(left: Left) -> str:
    return f"/endpoints/{left.endpoint}/materialize/{left.id}"
