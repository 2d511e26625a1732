"""What there is to call: the list of endpoints, one endpoint, its versions. Only what the key may see."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
from starlette.requests import Request
from starlette.responses import Response

from endpoints import freshness
from endpoints.definition import Variable
from endpoints.types import Value, show_value
from serving.answer import VARY, instant
from serving.auth import Principal
from serving.loaded import Served, ServedEndpoint
from serving.service import Service

Json = dict[str, object]


async def list_endpoints(request: Request) -> Response:
    """`GET /endpoints`: every endpoint that the key may see, broken ones marked."""
    service, principal = await _reader(request)
    found: list[Json] = [_summary(service, served) for served in service.loaded.visible(principal)]
    found += [
        _broken(service, name, principal) for name in service.loaded.broken.values() if principal.sees(name)
    ]
    return _json({"endpoints": sorted(found, key=lambda entry: str(entry["name"]))})


async def show_endpoint(request: Request) -> Response:
    """`GET /endpoints/{name}`: its description and versions, newest first."""
    service, principal = await _reader(request)
    served = service.loaded.find(request.path_params["name"], principal)
    return _json({**_summary(service, served), "versions": _versions(service, served)})


async def show_versions(request: Request) -> Response:
    """`GET /endpoints/{name}/versions`, newest first."""
    service, principal = await _reader(request)
    served = service.loaded.find(request.path_params["name"], principal)
    return _json({"name": served.endpoint.name, "versions": _versions(service, served)})


async def _reader(request: Request) -> tuple[Service, Principal]:
    service: Service = request.app.state.service
    principal = await service.admit(request.scope)
    principal.require("read")
    return service, principal


def _json(body: Json) -> Response:
    headers = {"Cache-Control": "private, no-cache", "Vary": VARY}
    return Response(orjson.dumps(body), media_type="application/json", headers=headers)


def _summary(service: Service, served: ServedEndpoint) -> Json:
    endpoint = served.endpoint
    url = f"/endpoints/{endpoint.name}"
    return {
        "name": endpoint.name,
        "description": endpoint.description,
        "owner": endpoint.owner,
        "tags": list(endpoint.tags),
        "current": endpoint.current,
        "versions": sorted(endpoint.versions, reverse=True),
        "state": state_of(service, served.current)["state"],
        "broken": False,
        "urls": {"run": f"{url}/run", "versions": f"{url}/versions", "openapi": f"{url}/openapi.json"},
    }


def _broken(service: Service, name: str, principal: Principal) -> Json:
    entry: Json = {"name": name, "broken": True}
    if "admin" in principal.scopes:  # files, lines and SQL are not for every reader
        problems = service.loaded.definitions.broken[name]
        entry["problems"] = [
            {"file": p.file, "line": p.line, "code": p.code, "message": p.message, "fix": p.fix}
            for p in problems
        ]
    return entry


def _versions(service: Service, served: ServedEndpoint) -> list[Json]:
    return [_version(service, served.versions[number]) for number in sorted(served.versions, reverse=True)]


def _version(service: Service, served: Served) -> Json:
    version, url = served.version, f"/endpoints/{served.endpoint.name}"
    return {
        "version": version.number,
        "current": version.number == served.endpoint.current,
        "description": version.description,
        **state_of(service, served),
        "materialized": version.materialize is not None,
        "unservable": list(served.refused),
        "freshness_seconds": int(version.freshness.total_seconds()),
        "cache_seconds": int(version.cache.total_seconds()),
        "stale_while_revalidate_seconds": int(version.stale_while_revalidate.total_seconds()),
        "live_when": sorted(version.live_when),
        "max_rows": version.limits.max_rows,
        "deprecated": version.deprecated.isoformat() if version.deprecated else None,
        "sunset": version.sunset.isoformat() if version.sunset else None,
        "public": version.public,
        "variables": [_variable(variable) for variable in version.variables.values()],
        "urls": {
            "run": f"{url}/run?version={version.number}",
            "openapi": f"{url}/openapi.json?version={version.number}",
        },
    }


def state_of(service: Service, served: Served) -> Json:
    """The state of a version's asset, in the words of `endpoints status`."""
    version = served.version
    if version.materialize is None:
        return {
            "state": "live_only",
            "reason": "not_materialized",
            "last_refresh": None,
            "source_max": None,
            "rows": None,
            "snapshot": None,
        }
    standing = freshness.standing(version, service.assets.manifest(version), datetime.now(UTC))
    return {
        "state": standing.state.word,
        "reason": standing.state.reason,
        "last_refresh": instant(standing.last_refresh),
        "source_max": instant(standing.source_max),
        "rows": standing.rows,
        "snapshot": standing.snapshot,
    }


def _variable(variable: Variable) -> Json:
    def shown(value: Value) -> object:
        return None if value is None else show_value(variable.type, value)

    return {
        "name": variable.name,
        "type": str(variable.type),
        "required": variable.required,
        "optional": variable.optional,
        "default": str(variable.default) if variable.default is not None else None,
        "description": variable.description,
        "example": shown(variable.example),
        "enum": [shown(value) for value in variable.enum] if variable.enum is not None else None,
        "min": shown(variable.min),
        "max": shown(variable.max),
        "max_length": variable.max_length,
        "pattern": variable.pattern,
        "private": variable.private,
    }
