"""What callers are told when something is wrong: one table of codes, one of exceptions, one body.

The body is RFC 9457 `application/problem+json`: `{type, title, status, detail, code, errors[]}`. `detail`
is a fixed sentence per code, or one made of what the caller sent and may see. Engine text, SQL and rows
never get in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson
from starlette.responses import Response

from endpoints.errors import (
    BadQuery,
    Corrupt,
    EndpointsError,
    FieldError,
    InputError,
    LakeError,
    NoAsset,
    OverLimit,
    QueryCancelled,
    QueryTimeout,
    UnsupportedType,
    WarehouseError,
    WarehouseUnavailable,
)
from endpoints.query.bind import PinConflict, PinNotApplicable

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:query-endpoints:problem:"


@dataclass(frozen=True, slots=True)
class Kind:
    """One code: its status, its short title, the sentence used when there is no better one.

    `retry_after` is in seconds; `live_error` is the word for `X-Endpoint-Live-Error` where an old asset
    stood in.
    """

    status: int
    title: str
    detail: str
    retry_after: int | None = None
    live_error: str | None = None


KINDS: Mapping[str, Kind] = {
    "invalid_input": Kind(400, "Invalid input", "The request holds values that cannot be used; see errors."),
    "malformed_body": Kind(400, "Malformed body", "The body is not a JSON object in UTF-8."),
    "malformed_query": Kind(400, "Malformed query string", "The query string is not percent-encoded UTF-8."),
    "malformed_request": Kind(400, "Malformed request", "This is not HTTP as it must be."),
    "two_credentials": Kind(
        400, "Two credentials", "Send one key: either Authorization: Bearer or X-API-Key, once."
    ),
    "unauthenticated": Kind(
        401, "No valid key", "Send a valid key or token as Authorization: Bearer … or as X-API-Key."
    ),
    "pin_not_applicable": Kind(
        403, "Pin not applicable", "This key is pinned to a variable that this version does not have."
    ),
    "pin_conflict": Kind(403, "Pinned variable", "This key is pinned to another value of this variable."),
    "missing_scope": Kind(403, "Missing scope", "This key has not the scope that this needs."),
    "not_found": Kind(404, "Not found", "There is nothing at this address."),
    "unknown_endpoint": Kind(404, "Unknown endpoint", "There is no such endpoint."),
    "unknown_version": Kind(404, "Unknown version", "The endpoint has no such version."),
    "unknown_request": Kind(
        404, "Unknown request", "There is no such request, or it is over for longer than seven days."
    ),
    "method_not_allowed": Kind(405, "Method not allowed", "This address does not take this method."),
    "not_acceptable": Kind(406, "Not acceptable", "Answers are JSON, JSON lines, CSV, Arrow or Parquet."),
    "sunset": Kind(410, "Version is gone", "This version is past its sunset; call its successor."),
    "cursor_gone": Kind(
        410, "Cursor is gone", "The snapshot of this cursor is gone; begin again without it."
    ),
    "body_too_large": Kind(413, "Body too large", "The body is larger than this service takes."),
    "unsupported_media_type": Kind(
        415, "Unsupported media type", "Send the body as Content-Type: application/json."
    ),
    "rate_limited": Kind(429, "Too many requests", "This key has asked more often than its rate allows.", 1),
    "live_rate_limited": Kind(
        429,
        "Too many live queries",
        "This key has started more live queries than its rate allows.",
        1,
        "rate",
    ),
    "headers_too_large": Kind(
        431, "Headers too large", "The address and the headers are longer than 64 KiB."
    ),
    "internal": Kind(500, "Internal error", "Something broke on our side; it is logged under X-Request-Id."),
    "starting": Kind(503, "Starting", "The service has not read the lake yet.", 1),
    "keys_unavailable": Kind(503, "Keys unavailable", "Keys cannot be checked at the moment.", 5),
    "broken_definition": Kind(503, "Broken definition", "The definition of this endpoint has mistakes.", 60),
    "no_asset": Kind(
        503, "No valid asset", "There is no asset to answer from, and this version does not run live.", 30
    ),
    "lake_unavailable": Kind(503, "Lake unavailable", "The asset cannot be read at the moment.", 5),
    "unavailable": Kind(
        503, "Warehouse unavailable", "The warehouse does not answer at the moment.", 5, "unavailable"
    ),
    "breaker_open": Kind(
        503,
        "Not tried",
        "Live queries have failed several times in a row; they are tried again soon.",
        1,
        "breaker",
    ),
    "live_queue_full": Kind(
        503, "Too busy", "Too many live queries are waiting; try again soon.", 1, "queue_full"
    ),
    "query_over_limit": Kind(
        503, "Over a limit", "The live query needs more than its limits allow.", 60, "over_limit"
    ),
    "query_failed": Kind(503, "Query failed", "The live query failed; its owner can see why.", 60, "failed"),
    "query_cancelled": Kind(503, "Query cancelled", "The live query was stopped.", 1, "cancelled"),
    "unsupported_type": Kind(
        503, "Unsupported type", "The result holds a column whose type cannot be sent.", 60, "failed"
    ),
    "query_timeout": Kind(504, "Query timed out", "The live query ran out of time.", 5, "timeout"),
}


class LiveQueueFull(EndpointsError):
    """As many live queries run and wait as may."""


# The first row that fits decides: more special classes stand above their parents.
CODES: tuple[tuple[type[EndpointsError], str], ...] = (
    (InputError, "invalid_input"),
    (NoAsset, "no_asset"),
    (PinNotApplicable, "pin_not_applicable"),
    (PinConflict, "pin_conflict"),
    (LiveQueueFull, "live_queue_full"),
    (QueryTimeout, "query_timeout"),
    (OverLimit, "query_over_limit"),
    (QueryCancelled, "query_cancelled"),
    (WarehouseUnavailable, "unavailable"),
    (BadQuery, "query_failed"),
    (WarehouseError, "query_failed"),
    (UnsupportedType, "unsupported_type"),
    (Corrupt, "lake_unavailable"),
    (LakeError, "lake_unavailable"),
)


class HttpProblem(EndpointsError):
    """An answer that is a problem. `detail` and `extra` must be safe to show to this caller."""

    def __init__(
        self,
        code: str,
        detail: str | None = None,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        self.code, self.kind = code, KINDS[code]
        self.detail = detail or self.kind.detail
        self.errors, self.headers, self.extra = tuple(errors), dict(headers or {}), dict(extra or {})
        super().__init__(f"{code}: {self.detail}")


class RateSpent(HttpProblem):
    """As many requests as may. What raises it gives the headers."""

    def __init__(self, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__("rate_limited", headers=headers)


class LiveRateSpent(HttpProblem):
    """Live queries have been started as often as may be. What raises it gives the headers."""

    def __init__(self, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__("live_rate_limited", headers=headers)


class BreakerOpen(HttpProblem):
    """Nobody may try for a while, since the last tries all failed."""

    def __init__(self, seconds: int) -> None:
        super().__init__("breaker_open", headers={"Retry-After": str(max(1, seconds))})


def code_of(error: BaseException) -> str:
    """The code of an exception; `internal` for one that no table knows."""
    if isinstance(error, HttpProblem):
        return error.code
    return next((code for kind, code in CODES if isinstance(error, kind)), "internal")


def live_error_of(error: BaseException) -> str:
    """The fixed word that tells a caller why live failed, where an older asset stood in."""
    return KINDS[code_of(error)].live_error or "failed"


def problem_of(error: BaseException) -> HttpProblem:
    """The problem that a caller may see for any exception."""
    if isinstance(error, HttpProblem):
        return error
    if isinstance(error, InputError):
        return HttpProblem("invalid_input", errors=error.fields)
    if isinstance(error, NoAsset):
        return _no_asset(error.reason)
    return HttpProblem(code_of(error))


def _no_asset(reason: str | None) -> HttpProblem:
    detail = f"There is no asset to answer from ({reason}), and this version does not run live then."
    headers = {"X-Endpoint-Reason": reason} if reason else {}
    return HttpProblem("no_asset", detail, headers=headers, extra={"reason": reason})


def response_of(error: BaseException) -> Response:
    """The `application/problem+json` response for any exception."""
    problem = problem_of(error)
    body: dict[str, object] = {
        "type": TYPE_PREFIX + problem.code,
        "title": problem.kind.title,
        "status": problem.kind.status,
        "detail": _text(problem.detail),
        "code": problem.code,
        "errors": [{"field": e.field, "code": e.code, "detail": _text(e.detail)} for e in problem.errors],
    }
    body.update(problem.extra)
    headers = {"Cache-Control": "no-store", **problem.headers}
    if problem.kind.retry_after is not None:
        headers.setdefault("Retry-After", str(problem.kind.retry_after))
    if problem.kind.status == 401:
        headers.setdefault("WWW-Authenticate", 'Bearer realm="endpoints"')
    return Response(
        orjson.dumps(body), status_code=problem.kind.status, headers=headers, media_type=MEDIA_TYPE
    )


def _text(text: str) -> str:
    """What a caller sent may be repeated in a sentence, and need not be text that can be sent."""
    return text.encode("utf-8", "replace").decode()
