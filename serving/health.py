"""Is the process alive, and which of its parts can do their work."""

from __future__ import annotations

import orjson
from starlette.requests import Request
from starlette.responses import Response

from serving.auth import KNOWN_KEYS_LAST, REFRESH_SECONDS
from serving.service import Service

_NO_STORE = {"Cache-Control": "no-store"}


async def healthz(request: Request) -> Response:
    """`GET /healthz`: anonymous, and 200 for as long as the process answers at all."""
    return Response(b'{"status":"ok"}', media_type="application/json", headers=_NO_STORE)


async def readyz(request: Request) -> Response:
    """`GET /readyz`: 200 where every part is ready, else 503; each part is named with a fixed sentence."""
    service: Service = request.app.state.service
    await service.admit(request.scope)
    parts = {
        "definitions": _definitions(service),
        "keys": _keys(service),
        "lake": _part(service.assets.healthy, "The lake does not answer."),
        "warehouse": _part(await service.pulse.alive(), "The warehouse does not answer."),
    }
    ready = all(part["ready"] for part in parts.values())
    body = orjson.dumps({"ready": ready, "parts": parts})
    headers = _NO_STORE if ready else {**_NO_STORE, "Retry-After": "5"}
    return Response(body, 200 if ready else 503, headers, "application/json")


def _part(ready: bool, detail: str) -> dict[str, object]:
    return {"ready": ready, "detail": None if ready else detail}


def _definitions(service: Service) -> dict[str, object]:
    """A broken endpoint does not make the process unready: the others work."""
    definitions = service.loaded.definitions
    part = _part(not definitions.general, "The folder of definitions cannot be read.")
    return {**part, "endpoints": len(service.loaded.endpoints), "broken": len(service.loaded.broken)}


def _keys(service: Service) -> dict[str, object]:
    fresh = service.keys.age < 3 * REFRESH_SECONDS
    return _part(fresh, f"Keys cannot be read; known ones work for {KNOWN_KEYS_LAST / 60:.0f} minutes.")
