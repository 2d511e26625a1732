"""`GET /endpoints/{name}/usage`: who ran an endpoint, how often, how fast, and where answers came from."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import orjson
from starlette.requests import Request
from starlette.responses import Response

from endpoints.errors import FieldError, InputError
from endpoints.usage import BY, DAYS, By, check_span, parse_moment, read, report, totals
from serving.answer import instant
from serving.request import read_query
from serving.service import Service

_NAMES = ("from", "to", "by")


async def usage(request: Request) -> Response:
    """`from` and `to` are dates or times in UTC (the last seven days), `by` one of `BY` (`day`)."""
    service: Service = request.app.state.service
    principal = await service.admit(request.scope)
    principal.require("read")
    endpoint = service.loaded.find(request.path_params["name"], principal).endpoint
    since, until, by = _asked(request.scope["query_string"], datetime.now(UTC))
    runs = await asyncio.to_thread(read, service.assets.lake.store, since, until, endpoint=endpoint.name)
    body = {
        "name": endpoint.name,
        "from": instant(since),
        "to": instant(until),
        "by": by,
        "totals": totals(runs),
        "usage": report(runs, by),
    }
    return Response(orjson.dumps(body), media_type="application/json", headers={"Cache-Control": "no-store"})


def _asked(query: bytes, now: datetime) -> tuple[datetime, datetime, By]:
    """What of the log is asked for. InputError."""
    pairs = read_query(query).pairs or {}
    wrong = [FieldError(name, "unknown_field", "No such parameter.") for name in pairs if name not in _NAMES]
    wrong += [
        FieldError(name, "repeated", "Given more than once.")
        for name, values in pairs.items()
        if len(values) > 1
    ]
    by = next((known for known in BY if known == pairs.get("by", ["day"])[0]), None)
    if by is None:
        wrong.append(FieldError("by", "not_offered", f"Must be one of: {', '.join(BY)}."))
    moments = {"from": now - timedelta(days=DAYS), "to": now}
    for name in moments.keys() & pairs.keys():
        try:
            moments[name] = parse_moment(pairs[name][0])
        except ValueError as error:
            wrong.append(FieldError(name, "invalid_value", str(error)))
    if wrong or by is None:
        raise InputError(wrong)
    try:
        check_span(moments["from"], moments["to"])
    except ValueError as error:
        raise InputError([FieldError("from", "out_of_range", str(error))]) from None
    return moments["from"], moments["to"], by
