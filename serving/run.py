"""The path of a request for rows, top to bottom.

    authenticate → resolve the version → bind the variables → limit → conditional → cache → asset or live
      → encode → record

What decides between asset and live is `endpoints.decision`: here it is only followed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from datetime import timedelta
from functools import partial
from time import perf_counter
from typing import TypeVar

from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from endpoints import freshness
from endpoints.decision import Decision, Source
from endpoints.errors import (
    Corrupt,
    EndpointsError,
    FieldError,
    InputError,
    StoreUnavailable,
    Unaligned,
    Unservable,
    UnsupportedType,
    WarehouseError,
)
from endpoints.lake.touched import touched
from endpoints.query.bind import bind
from endpoints.rows import Rows
from serving import debug
from serving.answer import (
    INLINE_ROWS,
    Answer,
    Encoded,
    Facts,
    Wanted,
    choose_format,
    encode,
    etag,
    headers,
    hung_up,
    identity,
    is_held,
    kept_as,
    page_limit,
    server_timing,
)
from serving.auth import Principal
from serving.compress import choose_encoding
from serving.cursor import Cursor, read_cursor
from serving.facts import asset_facts, decided, live_facts
from serving.lane import REFUSED
from serving.learn import learn, learn_form
from serving.live import Key, LiveRows, Slow
from serving.loaded import Served
from serving.logs import correlate, told
from serving.problems import (
    BreakerOpen,
    HttpProblem,
    LiveQueueFull,
    LiveRateSpent,
    live_error_of,
    response_of,
)
from serving.question import question_of
from serving.request import Call, check_page, gathered, read_body, read_query, refuse_body
from serving.service import Service
from serving.trail import Trail

log = logging.getLogger(__name__)

T = TypeVar("T")


class RunEndpoint:
    """`GET|HEAD|POST …/endpoints/{name}/run`, as an ASGI application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        service: Service = scope["app"].state.service
        trail = Trail()
        await service.turns.take()
        answer = await _answer_or_problem(service, Request(scope, receive), trail)
        trail.timings["total"] = (perf_counter() - trail.begun) * 1000
        answer.headers += ((b"server-timing", server_timing(trail.timings)),)

        async def counted(message: Message) -> None:
            if scope["method"] != "HEAD":
                trail.bytes += len(message.get("body", b""))
            await send(message)

        try:
            await answer(scope, receive, counted)
        finally:
            if trail.principal is not None:
                service.records.record(trail.record(trail.principal, answer.status))


async def _answer_or_problem(service: Service, request: Request, trail: Trail) -> Answer:
    try:
        return await _answer(service, request, trail)
    except Exception as error:
        if not isinstance(error, EndpointsError):
            log.exception("a run failed")
        trail.failed()
        response = response_of(error)
        return Answer(response.status_code, list(response.raw_headers), bytes(response.body))


async def _answer(service: Service, request: Request, trail: Trail) -> Answer:
    """Every step in its order."""
    principal = await _authenticate(service, request, trail)
    call = await _read(request)
    cursor = None if call.cursor is None else read_cursor(call.cursor, service.clock().now)
    served = _resolve(service, principal, request, call, cursor, trail)
    wanted = await _bind(service, request, principal, call, cursor, served, trail)
    await _limit(service, request, wanted)
    if cursor is not None:
        return await _next_page(service, request, trail, wanted, cursor)
    decision = decided(service, wanted, service.assets.manifest(served.version))
    while decision.source != "live":
        try:
            return await _asset(service, request, trail, wanted, decision)
        except (Corrupt, StoreUnavailable) as error:
            decision = await _after_corruption(service, wanted, decision, error)
        except Unservable as error:
            level = logging.DEBUG if isinstance(error, Unaligned) else logging.WARNING
            log.log(level, "%s: not answered from its asset: %s", served.version.key, told(error))
            decision = decision.live_instead(served.version, error.reason)
    return await _live(service, request, trail, wanted, decision)


async def _limit(service: Service, request: Request, wanted: Wanted) -> None:
    """Pay for the run, unless it has been refused already. HttpProblem 429."""
    if (refused := request.scope.get(REFUSED)) is not None:
        raise refused
    await service.limits.run(request.scope, wanted.served.version, fresh=wanted.asked.refresh != "cache")


async def _authenticate(service: Service, request: Request, trail: Trail) -> Principal:
    principal = trail.principal = await service.authenticate(request.scope)
    trail.endpoint = service.loaded.name_of(request.path_params["name"], principal)
    if REFUSED not in request.scope:  # else it has paid what it could
        await service.limits.admit(request.scope, principal)
    trail.timings["auth"] = (perf_counter() - trail.begun) * 1000
    principal.require("run")
    return principal


async def _read(request: Request) -> Call:
    """What was sent, before anything of it is believed."""
    if request.method == "POST":
        return await read_body(request)
    refuse_body(request)
    return read_query(request.scope["query_string"])


def _resolve(
    service: Service, principal: Principal, request: Request, call: Call, cursor: Cursor | None, trail: Trail
) -> Served:
    """The version that is pinned, or that the cursor goes on in, or else the current one. HttpProblem."""
    endpoint = service.loaded.find(request.path_params["name"], principal)
    pinned = call.version if cursor is None else cursor.version
    if call.version not in (None, pinned):
        raise InputError([FieldError("cursor", "other_request", "This cursor belongs to another version.")])
    number = endpoint.endpoint.current if pinned is None else pinned
    trail.version = number if number in endpoint.versions else None
    return endpoint.version(pinned, service.clock().now.date())


async def _bind(
    service: Service,
    request: Request,
    principal: Principal,
    call: Call,
    cursor: Cursor | None,
    served: Served,
    trail: Trail,
) -> Wanted:
    """Typed values for every variable and option. InputError for all that is wrong; pins' own errors."""
    begun, moment = perf_counter(), service.clock()
    wrong: list[FieldError] = []
    asked = call.ask(served.version, wrong)
    if asked.client_query_id is not None and "x-request-id" not in request.headers:
        request.scope["request_id"] = asked.client_query_id
        correlate(asked.client_query_id)
    timezone = await service.timezone(served.version)
    with gathered(wrong):
        at = moment.now if cursor is None else cursor.bound_at
        bound = bind(served.version, asked.variables, pins=principal.pins, now=at, timezone=timezone)
    if asked.refresh == "direct" and not served.version.live_when:
        wrong.append(FieldError("refresh", "not_offered", "This version never runs live."))
    with gathered(wrong):
        limit = page_limit(served, asked)
    with gathered(wrong):
        form, shape = choose_format(asked, request.headers.get("accept"))
    if wrong:
        raise InputError(wrong)
    if asked.debug:
        principal.require("admin")
    if cursor is not None:
        check_page(asked)
        cursor.check(principal, bound)
    encoding = "identity" if form == "parquet" else choose_encoding(request.headers.get("accept-encoding"))
    wanted = Wanted(
        *(principal, served, asked, bound, limit, form, shape, encoding, request.method, moment, cursor),
        timings=trail.timings,
    )
    wanted.timed("bind", begun)
    return wanted


async def _asset(
    service: Service,
    request: Request,
    trail: Trail,
    wanted: Wanted,
    decision: Decision,
    live_error: str | None = None,
) -> Answer:
    """Answer from the published files. Raises Corrupt, StoreUnavailable, Unservable."""
    facts = asset_facts(wanted, decision, live_error)
    name = identity(wanted, facts)
    if (known := _known(service, request, trail, wanted, facts, name)) is not None:
        if decision.source != "live":
            learn(service, request, wanted, decision, known)
        return known
    if (shared := await _shared(service, trail, wanted, facts, name)) is not None:
        return shared
    manifest, plan = decision.manifest, wanted.served.plan
    assert manifest is not None
    assert plan is not None
    begun = perf_counter()
    rows = await service.assets.read(
        manifest, plan, wanted.bound, wanted.limit, wanted.offset, count=wanted.asked.count
    )
    wanted.timed("asset", begun)
    if wanted.asked.debug:
        wanted.notes.update(
            debug.of_asset(wanted.served, manifest, touched(plan, wanted.bound, manifest, wanted.now))
        )
    answer = await _encoded(service, trail, wanted, facts, name, rows, since=begun)
    if decision.source != "live":
        learn_form(service, request, wanted, decision)
    return answer


async def _shared(service: Service, trail: Trail, wanted: Wanted, facts: Facts, name: str) -> Answer | None:
    """The bytes that another replica has made of the same asset."""
    shared, fingerprint = service.shared_results, wanted.served.version.fingerprint
    if shared is None or wanted.asked.debug or wanted.asked.refresh != "cache":
        return None
    if not shared.asks_for(fingerprint):
        return None
    begun = perf_counter()
    keys = tuple(kept_as(name, wanted, facts, personal=personal) for personal in (False, True))
    encoded = await shared.get(keys)
    wanted.timed("shared", begun)
    if encoded is None:
        return None
    service.results.put(keys[encoded.personal], encoded)
    return _again(trail, wanted, facts, name, encoded)


def _known(
    service: Service, request: Request, trail: Trail, wanted: Wanted, facts: Facts, name: str
) -> Answer | None:
    """A 304 where the caller holds the answer of that name, its bytes where we do; no data is touched."""
    trail.facts = facts
    if wanted.asked.debug:
        return None
    held = request.headers.get("if-none-match")
    if wanted.method != "POST" and held is not None and is_held(held.encode("latin-1"), etag(name)):
        trail.cached = True
        return Answer(304, headers(wanted, facts, etag(name)))
    if wanted.asked.refresh != "cache":
        return None
    encoded = service.results.get(kept_as(name, wanted, facts))
    if encoded is None:
        encoded = service.results.get(kept_as(name, wanted, facts, personal=True))
    if encoded is None:
        return None
    return _again(trail, wanted, facts, name, encoded)


def _again(trail: Trail, wanted: Wanted, facts: Facts, name: str, encoded: Encoded) -> Answer:
    """Bytes that were made before, under headers of now."""
    trail.cached, trail.rows = True, encoded.rows
    sent = [*headers(wanted, facts, etag(name)), *encoded.headers]
    return Answer(200, sent, encoded.body, personal=encoded.personal)


async def _next_page(
    service: Service, request: Request, trail: Trail, wanted: Wanted, cursor: Cursor
) -> Answer:
    """More of the snapshot that the cursor names, whatever has been published since. HttpProblem 410."""
    version = wanted.served.version
    manifest = await service.assets.at(version, cursor.snapshot)
    plan = wanted.served.plan
    needed = touched(plan, wanted.bound, manifest, wanted.now) if plan is not None else None
    standing = freshness.standing(version, manifest, wanted.now, needed)
    if manifest is None or not standing.usable:
        raise HttpProblem("cursor_gone")
    source: Source = "asset" if isinstance(standing.state, freshness.Fresh) else "stale"
    decision = Decision(source, standing.state.reason, standing, manifest)
    try:
        return await _asset(service, request, trail, wanted, decision)
    except (Corrupt, Unservable) as error:
        log.warning("%s: snapshot %d: %s", version.key, cursor.snapshot, error)
        raise HttpProblem("cursor_gone") from None


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
            return decided(service, wanted, newest)
        service.assets.mark_corrupt(known, error)
    return decision.live_instead(wanted.served.version, "corrupt")


async def _live(
    service: Service, request: Request, trail: Trail, wanted: Wanted, decision: Decision
) -> Answer:
    """Answer from ClickHouse, or from what is older where ClickHouse is slow or fails and there is such."""
    question, lapsed = question_of(service, request.scope, wanted, decision), None
    answer = partial(_live_answer, service, request, trail, wanted, decision)
    if wanted.asked.refresh == "cache":
        if (kept := service.live.kept(question.key)) is not None:
            return await answer((question.key, kept), cached=True)
        lapsed = service.live.lapsed(question.key)
    begun, at_once = perf_counter(), lapsed is not None or _at_once(wanted, decision)
    wait = timedelta(0) if at_once else service.settings.live_wait if decision.fallback else None
    try:
        live = await _until_gone(request, service.live.fetch(question, patience=wait))
    except (Slow, BreakerOpen, LiveQueueFull, LiveRateSpent, WarehouseError, UnsupportedType) as error:
        wanted.timed("live", begun)
        live_error = _live_error(wanted, error, at_once)
        if lapsed is not None:
            return await answer((question.key, lapsed), cached=True, live_error=live_error)
        if not decision.fallback:
            raise
        try:
            return await _asset(service, request, trail, wanted, decision, live_error)
        except (Corrupt, StoreUnavailable, Unservable):
            if not isinstance(error, Slow):
                raise error from None
        live = await _until_gone(request, service.live.fetch(question))
    wanted.timed("live", begun)
    return await answer((question.key, live), cached=live.reused)


def _at_once(wanted: Wanted, decision: Decision) -> bool:
    """Whether the older asset answers without waiting for the live run at all."""
    if not decision.fallback or wanted.asked.refresh != "cache":
        return False
    return freshness.may_stand_in_at_once(wanted.served.version, decision.standing, wanted.now)


def _live_error(wanted: Wanted, error: Exception, at_once: bool) -> str | None:
    """The word for why there is no live answer; None where nobody waited for it."""
    if isinstance(error, Slow) and at_once:
        return None
    word = "slow" if isinstance(error, Slow) else live_error_of(error)
    log.warning("%s: live %s", wanted.served.version.key, word)
    return word


async def _live_answer(
    service: Service,
    request: Request,
    trail: Trail,
    wanted: Wanted,
    decision: Decision,
    live: tuple[Key, LiveRows],
    *,
    cached: bool,
    live_error: str | None = None,
) -> Answer:
    facts = live_facts(wanted, decision, live[1], cached=cached, live_error=live_error)
    name = identity(wanted, facts)
    if (known := _known(service, request, trail, wanted, facts, name)) is not None:
        if cached and facts.max_age > 0:
            learn(service, request, wanted, decision, known, live)
        return known
    trail.cached = cached
    if wanted.asked.debug:
        wanted.notes.update(debug.of_live(wanted.served, facts.execution_id))
    return await _encoded(service, trail, wanted, facts, name, live[1].rows)


async def _encoded(
    service: Service,
    trail: Trail,
    wanted: Wanted,
    facts: Facts,
    name: str,
    rows: Rows,
    *,
    since: float | None = None,
) -> Answer:
    """The rows in their format, kept for whoever asks the same; shared if they were read since `since`."""
    if rows.size <= INLINE_ROWS:
        encoded = encode(wanted, facts, rows)
    else:
        loop = asyncio.get_running_loop()
        encoded = await loop.run_in_executor(None, encode, wanted, facts, rows)
    # Whoever asks after a live run hears that it is reused; what is sent in parts is not kept.
    if encoded.parts is None and not wanted.asked.debug and (facts.source != "live" or facts.is_cached):
        key = kept_as(name, wanted, facts, personal=encoded.personal)
        service.results.put(key, encoded)
        if service.shared_results is not None and since is not None:
            service.shared_results.made(
                wanted.served.version.fingerprint, key, encoded, perf_counter() - since
            )
    trail.facts, trail.rows = facts, encoded.rows
    sent = [*headers(wanted, facts, etag(name)), *encoded.headers]
    return Answer(200, sent, encoded.body, encoded.parts)


async def _until_gone(request: Request, work: Coroutine[None, None, T]) -> T:
    """The result of `work`, which is cancelled when the caller hangs up."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(hung_up(request.receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise HttpProblem("query_cancelled")  # nobody will read it
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)
