"""The path of a request for rows, top to bottom.

    authenticate → resolve the version → bind the variables → asset or live → conditional → rows → encode

What decides between asset and live is `endpoints.freshness`: here it is only followed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from time import perf_counter
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from endpoints import freshness
from endpoints.errors import (
    Corrupt,
    FieldError,
    InputError,
    StoreUnavailable,
    Unaligned,
    Unservable,
    UnsupportedType,
    WarehouseError,
)
from endpoints.freshness import Standing
from endpoints.lake.manifest import Manifest
from endpoints.query.bind import bind, live_statement
from endpoints.rows import Rows
from endpoints.warehouse.protocol import Caps, Statement
from serving.answer import (
    MAX_AGE,
    Facts,
    Source,
    Wanted,
    choose_format,
    encode,
    not_modified,
    page_limit,
)
from serving.live import LiveRows, Question, Slow
from serving.problems import HttpProblem, LiveQueueFull, live_error_of
from serving.request import gathered, read_body, read_query, refuse_body
from serving.service import Service

log = logging.getLogger(__name__)

T = TypeVar("T")

INLINE_ROWS = 500  # encoding more than this goes to a thread: it would hold every other request up


@dataclass(frozen=True, slots=True)
class Decision:
    """Where an answer is to come from. `fallback`: an older asset stands in where live fails or is slow."""

    source: Source
    reason: str | None
    standing: Standing
    manifest: Manifest | None
    fallback: bool = False


async def run_endpoint(request: Request) -> Response:
    """`GET|HEAD|POST …/endpoints/{name}/run`."""
    service: Service = request.app.state.service
    wanted = await _wanted(service, request)
    manifest = service.assets.manifest(wanted.served.version)
    decision = _decide(service, wanted, manifest)
    while decision.source != "live":
        try:
            return await _asset(service, request, wanted, decision)
        except (Corrupt, StoreUnavailable) as error:
            decision = await _after_corruption(service, wanted, decision, error)
        except Unservable as error:
            level = logging.DEBUG if isinstance(error, Unaligned) else logging.WARNING
            log.log(level, "%s: not answered from its asset: %s", wanted.served.version.key, error)
            live = Decision("live", error.reason, decision.standing, decision.manifest)
            decision = _live_unless_never(wanted, live)
    return await _live(service, request, wanted, decision)


async def _wanted(service: Service, request: Request) -> Wanted:
    """Who asks, for which version, with which values. Nothing has been read or run yet."""
    begun = perf_counter()
    principal = await service.keys.authenticate(request.scope["headers"])
    principal.require("run")
    now = datetime.now(UTC)
    endpoint = service.loaded.find(request.path_params["name"], principal)
    if request.method == "POST":
        call = await read_body(request)
    else:
        refuse_body(request)
        call = read_query(request.scope["query_string"])
    served = endpoint.version(call.version, now.date())
    wrong: list[FieldError] = []
    asked = call.ask(served.version, wrong)
    if asked.client_query_id is not None and "x-request-id" not in request.headers:
        request.scope["request_id"] = asked.client_query_id
    timezone = await service.timezone(served.version)
    with gathered(wrong):
        bound = bind(served.version, asked.variables, pins=principal.pins, now=now, timezone=timezone)
    with gathered(wrong):
        limit = page_limit(served, asked)
    with gathered(wrong):
        form = choose_format(asked, request.headers.get("accept"))
    if wrong:
        raise InputError(wrong)
    wanted = Wanted(principal, served, asked, bound, limit, form, now)
    wanted.timed("bind", begun)
    return wanted


def _decide(service: Service, wanted: Wanted, manifest: Manifest | None) -> Decision:
    """Asset or live, and why. HttpProblem 503 `no_asset` where neither may answer."""
    version, plan = wanted.served.version, wanted.served.plan
    standing = freshness.standing(version, manifest, wanted.now)
    reason = standing.state.reason
    if version.materialize is None:
        return Decision("live", "not_materialized", standing, manifest)
    if wanted.asked.refresh == "direct":
        if not version.live_when:
            raise InputError([FieldError("refresh", "not_offered", "This version never runs live.")])
        return Decision("live", "direct", standing, manifest)
    if plan is None:
        return _live_unless_never(wanted, Decision("live", "unservable", standing, manifest))
    if manifest is not None and service.assets.is_corrupt(manifest):
        return _live_unless_never(wanted, Decision("live", "corrupt", standing, manifest))
    match freshness.route(version, standing):
        case freshness.FromAsset():
            return Decision("asset", reason, standing, manifest)
        case freshness.FromAssetStale():
            return Decision("stale", reason, standing, manifest)
        case freshness.Live(fallback=fallback):
            return Decision("live", reason, standing, manifest, fallback)
        case freshness.Refuse():
            raise _no_asset(reason)


def _live_unless_never(wanted: Wanted, decision: Decision) -> Decision:
    if not wanted.served.version.live_when:
        raise _no_asset(decision.reason)
    return decision


def _no_asset(reason: str | None) -> HttpProblem:
    detail = f"There is no asset to answer from ({reason}), and this version does not run live then."
    headers = {"X-Endpoint-Reason": reason} if reason else {}
    return HttpProblem("no_asset", detail, headers=headers, extra={"reason": reason})


async def _asset(
    service: Service, request: Request, wanted: Wanted, decision: Decision, live_error: str | None = None
) -> Response:
    """Answer from the published files. Raises Corrupt, StoreUnavailable."""
    manifest, plan = decision.manifest, wanted.served.plan
    assert manifest is not None
    assert plan is not None
    source: Source = "asset" if decision.source == "asset" else "stale"
    newest = max(manifest.partitions.values(), key=lambda entry: entry.as_of, default=None)
    facts = Facts(
        source,
        decision.reason,
        decision.standing.last_refresh,
        execution_id=newest.run_id if newest is not None else manifest.run_id,
        tag=f"snapshot {decision.standing.snapshot}",
        max_age=_promise_left(wanted, decision) if source == "asset" else 0,
        live_error=live_error,
    )
    if (response := not_modified(request, wanted, facts)) is not None:
        return response
    begun = perf_counter()
    rows = await service.assets.read(manifest, plan, wanted.bound, wanted.limit, wanted.asked.offset)
    wanted.timed("asset", begun)
    return await _encode(request, wanted, facts, rows)


async def _after_corruption(
    service: Service, wanted: Wanted, decision: Decision, error: Corrupt | StoreUnavailable
) -> Decision:
    """What to do when files are not what their manifest says, or cannot be had.

    Collection may have taken them while we looked at an old snapshot: one that is newer is tried. Else live.
    """
    known = decision.manifest
    if known is not None and isinstance(error, Corrupt):
        newest = await service.assets.reload(wanted.served.version)
        if newest is not None and newest.number > known.number:
            return _decide(service, wanted, newest)
        service.assets.mark_corrupt(known, error)
    return _live_unless_never(wanted, Decision("live", "corrupt", decision.standing, decision.manifest))


def _promise_left(wanted: Wanted, decision: Decision) -> float:
    """Seconds for which the asset stays fresh. Closed partitions and held snapshots do at any age."""
    refreshed = decision.standing.last_refresh
    if refreshed is None:
        return MAX_AGE
    left = (refreshed + wanted.served.version.freshness - wanted.now).total_seconds()
    return left if left > 0 else MAX_AGE


async def _live(service: Service, request: Request, wanted: Wanted, decision: Decision) -> Response:
    """Answer from ClickHouse, or from the older asset where ClickHouse is slow or fails and there is one."""
    version, question = wanted.served.version, _question(service, wanted, decision)
    if wanted.asked.refresh == "cache" and (kept := service.live.kept(question.key)) is not None:
        return await _live_answer(request, wanted, decision, kept, cached=True)
    begun = perf_counter()
    patience = service.settings.live_wait if decision.fallback else None
    try:
        live = await _until_gone(request, service.live.fetch(question, patience=patience))
    except (Slow, LiveQueueFull, WarehouseError, UnsupportedType) as error:
        wanted.timed("live", begun)
        live_error = "slow" if isinstance(error, Slow) else live_error_of(error)
        log.warning("request %s: %s: live %s", request.scope["request_id"], version.key, live_error)
        if not decision.fallback:
            raise
        try:
            return await _asset(service, request, wanted, decision, live_error)
        except (Corrupt, StoreUnavailable, Unservable):
            if not isinstance(error, Slow):
                raise error from None
        live = await _until_gone(request, service.live.fetch(question))
    wanted.timed("live", begun)
    return await _live_answer(request, wanted, decision, live, cached=False)


async def _live_answer(
    request: Request, wanted: Wanted, decision: Decision, live: LiveRows, *, cached: bool
) -> Response:
    facts = Facts(
        "live",
        decision.reason,
        live.started,
        execution_id=live.query_id,
        tag=live.digest,
        max_age=live.left(),
        is_cached=cached,
        age=live.age(),
    )
    if (response := not_modified(request, wanted, facts)) is not None:
        return response
    return await _encode(request, wanted, facts, live.rows)


def _question(service: Service, wanted: Wanted, decision: Decision) -> Question:
    """The live run that answers. Its key holds the newest snapshot: publishing drops older results."""
    version, asked, bound = wanted.served.version, wanted.asked, wanted.bound
    snapshot = decision.manifest.number if decision.manifest is not None else 0
    return Question(
        key=(version.key, version.fingerprint, bound.key, wanted.limit, asked.offset, snapshot),
        statement=partial(_statement, service, wanted),
        caps=Caps(timeout=version.limits.timeout, max_memory=version.limits.max_memory),
        limit=wanted.limit,
        offset=asked.offset,
        keep_for=version.cache,
        queue_for=version.limits.timeout,
    )


def _statement(service: Service, wanted: Wanted) -> Statement:
    """The query in a total order: pages fit together, and live gives the asset's order. Blocks."""
    columns = service.columns(wanted.served.version)
    at_most = wanted.asked.offset + wanted.limit + 1  # one more tells whether rows follow
    return live_statement(wanted.bound, total_order=len(columns), at_most=at_most)


async def _encode(request: Request, wanted: Wanted, facts: Facts, rows: Rows) -> Response:
    if rows.table.num_rows <= INLINE_ROWS:
        return encode(request, wanted, facts, rows)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, encode, request, wanted, facts, rows)


async def _until_gone(request: Request, work: Coroutine[None, None, T]) -> T:
    """The result of `work`, which is cancelled when the caller hangs up."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise HttpProblem("query_cancelled")  # nobody will read it
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
