"""The application: routes, and a lifespan that owns every client. Nothing is decided here."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pyarrow as pa
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route, compile_path
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from endpoints.errors import EndpointsError
from endpoints.settings import Settings, load_settings
from serving.catalog import list_endpoints, show_endpoint, show_versions
from serving.documents import docs, openapi_all, openapi_one
from serving.front import Front
from serving.health import healthz, readyz
from serving.lane import Lane
from serving.logs import RequestLog
from serving.materialize import ask_materialization, show_materialization
from serving.metrics import metrics
from serving.problems import HttpProblem, response_of
from serving.reload import Reloader
from serving.run import RunEndpoint
from serving.service import Service
from serving.usage import usage

RUN_METHODS = frozenset({"GET", "HEAD", "POST"})
RUN_PATHS = (
    "/endpoints/{name}/run",
    "/api/projects/{project}/endpoints/{name}/run",
    "/api/projects/{project}/endpoints/{name}/run/",
)
_RUN = RunEndpoint()
_RUN_PATTERNS = [compile_path(path)[0] for path in RUN_PATHS]


class Api(FastAPI):
    """FastAPI, behind a lane on which known answers are sent before any of it runs. Runs do not pass through
    its layers either: there is nothing in them that they need, and they would take a tenth of the time.
    """

    lane: Lane | None = None
    request_log: RequestLog | None = None
    runs: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.request_log is not None and scope["type"] == "http":
            send = self.request_log.watch(scope, send)
        if self.lane is not None and scope["type"] == "http" and await self.lane.answers(scope, send):
            return
        if scope["type"] == "http" and self._is_run(scope):
            await self.runs(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def _is_run(self, scope: Scope) -> bool:
        """Whether a run is asked for, as the router would find it; makes the scope what it would make it."""
        if scope["method"] not in RUN_METHODS or scope.get("root_path"):
            return False
        for pattern in _RUN_PATTERNS:
            if found := pattern.match(scope["path"]):
                scope["app"], scope["path_params"] = self, found.groupdict()
                return True
        return False


def create_app(
    settings: Settings | None = None, *, open_service: Callable[[Settings], Service] = Service.open
) -> Api:
    """The service of a project, for `uvicorn serving.app:create_app --factory`.

    SettingsError at once if a setting is wrong. `open_service` is the seam for other clients.
    """
    alone = settings is None  # in a process of its own
    settings = settings or load_settings()
    Service.check(settings)
    app = Api(
        openapi_url=None,  # our own documents show what a key may see, and need one
        routes=_routes(),
        lifespan=_lifespan(settings, open_service, alone=alone),
        exception_handlers={HTTPException: _http_problem, EndpointsError: _problem},
        redirect_slashes=False,
    )
    front = partial(Front, methods=lambda scope: _methods(app.routes, scope), origins=settings.cors_origins)
    app.add_middleware(front)
    app.runs = front(_RUN)
    return app


def _routes() -> list[BaseRoute]:
    # Plain Starlette routes: FastAPI's own would inject and validate what `run.py` reads by itself, at half
    # the speed (3,400 requests/s against 6,350).
    return [
        *(Route(path, _RUN, methods=["GET", "POST"]) for path in RUN_PATHS),
        Route("/endpoints", list_endpoints),
        Route("/endpoints/{name}", show_endpoint),
        Route("/endpoints/{name}/versions", show_versions),
        Route("/endpoints/{name}/openapi.json", openapi_one),
        Route("/endpoints/{name}/materialize", ask_materialization, methods=["POST"]),
        Route("/endpoints/{name}/materialize/{id}", show_materialization),
        Route("/endpoints/{name}/usage", usage),
        Route("/openapi.json", openapi_all),
        Route("/docs", docs),
        Route("/metrics", metrics),
        Route("/readyz", readyz),
        Route("/healthz", healthz),
    ]


def _lifespan(
    settings: Settings, open_service: Callable[[Settings], Service], *, alone: bool
) -> Lifespan[Api]:
    # The service goes to the protocol as well (its `app_state`), unless every request is to be logged.
    @asynccontextmanager
    async def lifespan(app: Api) -> AsyncIterator[dict[str, Any]]:
        service = await asyncio.to_thread(open_service, settings)
        app.state.service = service
        app.lane = service.lane
        if settings.log == "json":
            app.request_log = RequestLog(lambda name: name in service.loaded.endpoints)
        reloader = app.state.reloader = Reloader(service)
        reloader.start()
        if alone:
            _settle()
        warming = asyncio.create_task(service.pulse.alive())  # the first caller need not wait for it
        try:
            yield {} if app.request_log is not None else {"service": service}
        finally:
            await reloader.stop()
            await warming
            await service.close()

    return lifespan


def _settle() -> None:
    """Have a process that serves for a long time hold what it has at its start apart from what comes."""
    # Rows that come and go would leave holes in Arrow's own allocator: a quarter of the memory in the end.
    pa.set_memory_pool(pa.system_memory_pool())
    # Each full collection would look through all that never goes while everyone waits: a tenth of a second.
    # What comes later and stays, kept answers above all, is looked through seldom: little of it is in cycles.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    # A thread that decodes rows asks for the interpreter a dozen times; each time it would wait for 5 ms.
    sys.setswitchinterval(0.001)


def _methods(routes: Collection[BaseRoute], scope: Scope) -> Collection[str]:
    """The methods that the scope's path takes."""
    for route in routes:
        if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE:
            return {*(route.methods or ()), "OPTIONS"}
    return ()


async def _problem(request: Request, error: Exception) -> Response:
    return response_of(error)


async def _http_problem(request: Request, error: Exception) -> Response:
    """The router's own refusals, 404 and 405. Who has no key does not even learn which paths there are."""
    service: Service = request.app.state.service
    try:
        await service.admit(request.scope)
    except HttpProblem as problem:
        return response_of(problem)
    status = error.status_code if isinstance(error, HTTPException) else 404
    if status != 405:
        return response_of(HttpProblem("not_found"))
    allowed = ", ".join(sorted(_methods(request.app.routes, request.scope)))
    return response_of(HttpProblem("method_not_allowed", headers={"Allow": allowed}))
