"""Documents of the API: OpenAPI for programs, one plain page for people.

A browser cannot be told to send a key, so these pages also take it as a Basic password; running an endpoint
does not, or any website could run one with what the browser remembers.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from html import escape

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from endpoints.definition import Variable
from endpoints.errors import FieldError, InputError
from endpoints.types import show_value
from serving.answer import VARY
from serving.auth import Principal
from serving.catalog import state_of
from serving.loaded import Served
from serving.openapi import Described, document
from serving.request import read_query
from serving.service import Service

# The page has no script and loads nothing: it cannot be made to send the key anywhere.
_PAGE_HEADERS = {
    "Cache-Control": "private, no-cache",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Vary": VARY,
    "X-Content-Type-Options": "nosniff",
}


async def openapi_all(request: Request) -> Response:
    """`GET /openapi.json`: the current version of every endpoint that the key may see."""
    service, principal = await _reader(request)
    served = [found.current for found in service.loaded.visible(principal)]
    return await _openapi(request, service, principal, served, pinned=False)


async def openapi_one(request: Request) -> Response:
    """`GET /endpoints/{name}/openapi.json?version=`."""
    service, principal = await _reader(request)
    found = service.loaded.find(request.path_params["name"], principal)
    call = read_query(request.scope["query_string"])
    unknown = [name for name in call.pairs or () if name != "version"]
    if unknown:
        raise InputError(
            [FieldError(name, "unknown_field", "Only `version` may be given.") for name in unknown]
        )
    served = found.version(call.version, datetime.now(UTC).date())
    return await _openapi(request, service, principal, [served], pinned=call.version is not None)


async def docs(request: Request) -> Response:
    """`GET /docs`: what the key may call, with a line to paste for each."""
    service, principal = await _reader(request)
    served = [found.current for found in service.loaded.visible(principal)]
    described = await _described(service, served, pinned=False)
    sections = [_section(service, one, str(request.base_url).rstrip("/")) for one in described]
    return HTMLResponse(_page(sections), headers=_PAGE_HEADERS)


async def _reader(request: Request) -> tuple[Service, Principal]:
    service: Service = request.app.state.service
    principal = await service.admit(request.scope, basic=True)
    principal.require("read")
    return service, principal


async def _openapi(
    request: Request, service: Service, principal: Principal, served: list[Served], *, pinned: bool
) -> Response:
    described = await _described(service, served, pinned=pinned)
    server = str(request.base_url).rstrip("/")
    built = document(described, server, admin="admin" in principal.scopes)
    headers = {"Cache-Control": "private, no-cache", "Vary": VARY}
    return Response(orjson.dumps(built), media_type="application/json", headers=headers)


async def _described(service: Service, served: list[Served], *, pinned: bool) -> list[Described]:
    def describe() -> list[Described]:
        return [Described(one, service.known_columns(one.version), pinned) for one in served]

    return await asyncio.to_thread(describe)


def _page(sections: list[str]) -> str:
    body = "".join(sections) or "<p>This key sees no endpoints.</p>"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Endpoints</title><style>{_STYLE}</style></head> <body><h1>Endpoints</h1> <p>For programs: <a
href="/openapi.json">openapi.json</a>. In the lines below, <code>$KEY</code> is your key.</p>
{body}</body></html>"""


def _section(service: Service, described: Described, base: str) -> str:
    served = described.served
    endpoint, version = served.endpoint, served.version
    name = escape(endpoint.name)
    about = escape(version.description or endpoint.description or "")
    owner = f" · {escape(endpoint.owner)}" if endpoint.owner else ""
    rows = "".join(_row(variable) for variable in version.variables.values())
    table = f"<table><tr><th>Variable<th>Type<th>Default<th>Meaning</tr>{rows}</table>" if rows else ""
    state = state_of(service, served)
    refreshed = f", as of {state['last_refresh']}" if state["last_refresh"] else ""
    columns = ", ".join(f"<b>{escape(c.name)}</b> {escape(str(c.type))}" for c in described.columns)
    return f"""<section><h2>{name}</h2>
<p>{about}</p><p class="small">Version {version.number} · {state["state"]}{refreshed}{owner} ·
<a href="/endpoints/{name}/openapi.json">openapi.json</a></p>
{table}<p>{columns and "Gives "}{columns}</p><pre>{escape(_curl(served, base))}</pre></section>
"""


def _row(variable: Variable) -> str:
    if variable.default is not None:
        default = str(variable.default)
    else:
        default = "optional" if variable.optional else "required"
    cells = (variable.name, str(variable.type), default, variable.description or "")
    return "<tr>" + "".join(f"<td>{escape(cell)}" for cell in cells) + "</tr>"


def _curl(served: Served, base: str) -> str:
    """A line that works as it stands where every required variable has an example."""
    lines = [
        f"curl -G {base}/endpoints/{served.endpoint.name}/run",
        '  -H "Authorization: Bearer $KEY"',
    ]
    for variable in served.version.variables.values():
        if variable.required or variable.example is not None:
            example = show_value(variable.type, variable.example) if variable.example is not None else "…"
            lines.extend(f"  --data-urlencode {_quoted(f'{variable.name}={one}')}" for one in _each(example))
    return " \\\n".join(lines)


def _each(example: object) -> list[object]:
    return example if isinstance(example, list) else [example]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#222}
section{border-top:1px solid #ddd;margin-top:2rem}.small{color:#666;font-size:.9rem}
table{border-collapse:collapse}td,th{text-align:left;padding:.2rem 1rem .2rem 0;vertical-align:top}
pre{background:#f4f4f4;padding:.8rem;overflow:auto}
@media(prefers-color-scheme:dark){body{background:#161616;color:#ddd}pre{background:#222}section{border-color:#333}}
"""
