"""The outermost layer: what every answer has, whoever made it.

A request id on each, and how long it took; OPTIONS and CORS answered without a key, since browsers ask
before they send one; HEAD without a body; an exception that nothing else knew as a problem, with its trace in
the log alone.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection
from random import getrandbits
from time import perf_counter

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.limits import SCOPE, Account
from serving.logs import correlate
from serving.problems import response_of

log = logging.getLogger(__name__)

CORS_SECONDS = 600
ASK_HEADERS = "Authorization, X-API-Key, Content-Type, If-None-Match, X-Request-Id"
SHOWN_HEADERS = (
    "ETag, Age, Last-Modified, RateLimit, RateLimit-Policy, Retry-After, Deprecation, Sunset, Link, "
    "Server-Timing, X-Request-Id, X-Endpoint-Source, X-Endpoint-Reason, X-Endpoint-Version, "
    "X-Endpoint-Data-Age, X-Endpoint-Source-Max, X-Endpoint-Live-Error, X-Endpoint-Has-More, "
    "X-Endpoint-Next-Cursor, X-Endpoint-Total"
)

CORS = "endpoints.cors"
"""The key in a request's scope of the headers for browsers that its answer carries."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


def request_id(given: bytes | None) -> bytes:
    """The id of a request: its caller's where that is harmless, else one of its own."""
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return b"%024x" % getrandbits(96)


class Front:
    """ASGI middleware. `methods` tells which methods a path takes; none where there is no such path."""

    def __init__(
        self, app: ASGIApp, methods: Callable[[Scope], Collection[str]], origins: Collection[str]
    ) -> None:
        self.app, self.methods, self.origins = app, methods, frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        scope["request_id"] = request_id(headers.get("x-request-id", "").encode("latin-1")).decode()
        correlate(scope["request_id"])
        cors = scope[CORS] = self._cors(headers.get("origin"))
        sender = _Sender(scope, send, cors, by_origin=bool(self.origins))
        if scope["method"] == "OPTIONS":
            await self._options(scope, receive, sender)
            return
        try:
            await self.app(scope, receive, sender)
        except Exception as error:
            log.exception("a request failed")
            if sender.started:
                raise  # the connection is torn down: never a well-formed short body
            await response_of(error)(scope, receive, sender)

    async def _options(self, scope: Scope, receive: Receive, send: Send) -> None:
        allowed = ", ".join(sorted(self.methods(scope) or {"GET", "HEAD", "OPTIONS"}))
        headers = {"Allow": allowed}
        if Headers(scope=scope).get("origin") in self.origins:
            headers |= {
                "Access-Control-Allow-Methods": allowed,
                "Access-Control-Allow-Headers": ASK_HEADERS,
                "Access-Control-Max-Age": str(CORS_SECONDS),
                "Vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
            }
        await Response(status_code=204, headers=headers)(scope, receive, send)

    def _cors(self, origin: str | None) -> tuple[tuple[bytes, bytes], ...]:
        """What an answer says to a browser whose page is of a listed origin."""
        if origin is None or origin not in self.origins:
            return ()
        return (
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-expose-headers", SHOWN_HEADERS.encode()),
        )


class _Sender:
    """`send` with our headers; without bodies for HEAD."""

    def __init__(
        self, scope: Scope, send: Send, cors: tuple[tuple[bytes, bytes], ...], *, by_origin: bool
    ) -> None:
        self._scope, self._send, self._cors = scope, send, cors
        self._by_origin = by_origin  # what an answer says differs by origin, for whoever keeps it
        self._bare = scope["method"] == "HEAD"
        self._begun = perf_counter()
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            sent = dict(message["headers"])
            headers = [
                *message["headers"],
                (b"x-request-id", self._scope["request_id"].encode()),
                *self._cors,
            ]
            account: Account | None = self._scope.get(SCOPE)
            if account is not None:
                headers += account.headers()
            if b"server-timing" not in sent:
                headers.append(
                    (b"server-timing", b"total;dur=%.3f" % ((perf_counter() - self._begun) * 1000))
                )
            if self._by_origin and b"Origin" not in sent.get(b"vary", b""):
                vary = [value for value in (sent.get(b"vary"), b"Origin") if value]
                headers = [header for header in headers if header[0] != b"vary"]
                headers.append((b"vary", b", ".join(vary)))
            message = {**message, "headers": headers}
        elif message["type"] == "http.response.body" and self._bare:
            message = {**message, "body": b""}
        await self._send(message)
