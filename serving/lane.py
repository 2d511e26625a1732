"""The fast lane: what has been answered a moment ago is answered again before any framework runs.

A request is known again by all of it that its answer depends on: path, query string, credential, and the few
headers that are read; or, before it has even been parsed, by all of its bytes (`serving.protocol`). Its
answer is sent from prepared bytes as long as the long way would give the same: the principal still holds, the
manifest and the definitions are those of before, the rows are good for the moment. Once a second it is
decided anew. Limits are paid and the run is recorded as ever. A caller who is refused goes the long way,
which says so.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from time import perf_counter, time
from typing import TYPE_CHECKING, NamedTuple

from starlette.types import Scope, Send

from endpoints.lake.manifest import Manifest
from endpoints.usage import RunRecord
from serving.answer import Encoded, Facts, RawHeader, Wanted, etag, headers, identity, is_held, kept_as
from serving.auth import Principal
from serving.clock import Moment
from serving.front import request_id
from serving.limits import SCOPE, Account, Dues
from serving.live import Key, LiveRows
from serving.problems import HttpProblem

if TYPE_CHECKING:
    from serving.service import Service

MOST_KNOWN = 4096
WIRE = "endpoints.wire"
"""The key in a request's scope of the digest of its bytes, where these were one whole request."""
_NOTHING = Encoded(b"", (), 0)
REFUSED = "endpoints.refused"
"""The key in a request's scope of the refusal that the lane has met."""


@dataclass(slots=True)
class Known:
    """An answer that may be given again. `facts_at` tells what it says of itself at a moment, or None where
    that would be another answer. `live` is the reused result that it shows, if any, and that result's key.
    `steady`: its values do not depend on the time.
    """

    wanted: Wanted
    manifest: Manifest | None
    facts_at: Callable[[Wanted], Facts | None]
    live: tuple[Key, LiveRows] | None
    steady: bool
    cors: tuple[RawHeader, ...]
    timezone: str | None
    loaded: object
    personal: bool
    tick: int = -1
    body_key: Hashable = None
    tag: str = ""
    facts: Facts | None = None
    headers: list[RawHeader] = field(default_factory=list)
    lines: bytes = b""
    dues: Dues = ()
    sent: dict[int, tuple[Encoded, bytes, RunRecord]] = field(default_factory=dict)

    def renew(self, moment: Moment) -> bool:
        """Prepare the headers for this moment; whether the answer is still the same."""
        if self.tick >= 0 and not self.steady:
            return False
        wanted = replace(self.wanted, moment=moment)
        facts = self.facts_at(wanted)
        if facts is None:
            return False
        name = identity(wanted, facts)
        body_key = kept_as(name, wanted, facts, personal=self.personal)
        if self.tick >= 0 and body_key != self.body_key:
            return False
        self.tick, self.body_key, self.tag, self.facts = moment.tick, body_key, etag(name), facts
        self.headers = [*headers(wanted, facts, self.tag), *self.cors]
        self.lines = lines(self.headers)
        self.sent.clear()
        return True

    def prepared(self, status: int, encoded: Encoded) -> tuple[bytes, RunRecord]:
        """The lines of the head that are always the same, and what a run that was answered so is like."""
        found = self.sent.get(status)
        if found is None or found[0] is not encoded:
            found = encoded, self.lines + lines(encoded.headers), self._run(status, encoded)
            self.sent[status] = found
        return found[1:]

    def _run(self, status: int, sent: Encoded) -> RunRecord:
        version, facts = self.wanted.served.version, self.facts
        assert facts is not None
        return RunRecord(
            at=0.0,
            endpoint=version.endpoint,
            version=version.number,
            key_id=self.wanted.principal.id,
            source=facts.source,
            reason=facts.reason,
            status=status,
            duration=0.0,
            rows=sent.rows,
            bytes=len(sent.body),
            cached=True,
        )


class Sent(NamedTuple):
    """An answer but for the status line and what a server puts into every head."""

    status: int
    lines: bytes
    body: bytes


class Lane:
    """Known answers by the requests that they answer, the least recently asked for dropped first."""

    def __init__(self, service: Service, *, most: int = MOST_KNOWN) -> None:
        self._service, self._most = service, most
        self._known: OrderedDict[Hashable, Known] = OrderedDict()
        # By the digest of all bytes of a request; with its If-None-Match.
        self._wire: OrderedDict[bytes, tuple[Known, bytes | None]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def learn(self, scope: Scope, known: Known) -> None:
        """Remember what a request was answered with."""
        given = dict(scope["headers"])
        key = _key(scope, given)
        if key is None or not known.renew(self._service.clock()):
            return
        known.dues = self._service.limits.dues(known.wanted.principal, known.wanted.served.version)
        self._known[key] = known
        self._known.move_to_end(key)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        self._learn_bytes(scope, given, known)

    def _learn_bytes(self, scope: Scope, given: Mapping[bytes, bytes], known: Known) -> None:
        """Know the request by its bytes, unless these are others each time anyway."""
        digest = scope.get(WIRE)
        if digest is None or b"x-request-id" in given:
            return
        self._wire[digest] = known, given.get(b"if-none-match")
        while len(self._wire) > self._most:
            self._wire.popitem(last=False)

    def at_once(self, digest: bytes, scope: Scope) -> Sent | None:
        """The answer to a request that consists of these bytes; None where it goes the long way.

        What has been paid for it is in `scope` then: it is to become a part of the request's.
        """
        begun, service = perf_counter(), self._service
        known, held = self._wire.get(digest, (None, None))
        if known is None:
            return None
        wanted = known.wanted
        if not self._holds(known) or not service.keys.holds(wanted.principal):
            del self._wire[digest]
            return None
        found = self._status(known, held)
        if found is None:
            return None
        try:
            if not service.limits.pay_at_once(scope, wanted.principal, known.dues):
                return None
        except HttpProblem as refused:
            scope[REFUSED] = refused
            return None
        self._wire.move_to_end(digest)
        status, encoded = found
        prepared, run = known.prepared(status, encoded)
        seconds = perf_counter() - begun
        service.records.again(run, time(), seconds)
        account: Account = scope[SCOPE]
        own = b"%bserver-timing: total;dur=%.3f\r\nx-request-id: %b\r\n" % (
            lines(account.headers()),
            seconds * 1000,
            request_id(None),
        )
        return Sent(status, prepared + own, encoded.body)

    async def answers(self, scope: Scope, send: Send) -> bool:
        """Answer a known request; whether it was one. Nothing has been sent where not."""
        if REFUSED in scope:
            return False
        begun, given = perf_counter(), dict(scope["headers"])
        key = _key(scope, given)
        known = self._known.get(key)
        if known is None:
            return False
        if not self._holds(known) or not await self._is_same(known.wanted.principal, scope):
            self._known.pop(key, None)
            return False
        found = self._status(known, given.get(b"if-none-match"))
        if found is None or not await self._pay(known.wanted, scope):
            return False
        status, encoded = found
        self._known.move_to_end(key)
        self._learn_bytes(scope, given, known)
        sent = [
            *known.headers,
            *encoded.headers,
            *(account.headers() if (account := scope.get(SCOPE)) is not None else ()),
            (b"server-timing", b"total;dur=%.3f" % ((perf_counter() - begun) * 1000)),
            (b"x-request-id", request_id(given.get(b"x-request-id"))),
        ]
        await send({"type": "http.response.start", "status": status, "headers": sent})
        await send({"type": "http.response.body", "body": encoded.body})
        _, run = known.prepared(status, encoded)
        self._service.records.again(run, time(), perf_counter() - begun)
        return True

    def _status(self, known: Known, held: bytes | None) -> tuple[int, Encoded] | None:
        """304 where the caller holds the answer, 200 and its bytes where we do."""
        if is_held(held, known.tag):
            return 304, _NOTHING
        kept = self._service.results.get(known.body_key)
        return None if kept is None else (200, kept)

    async def _pay(self, wanted: Wanted, scope: Scope) -> bool:
        """Pay for the run, and tell whether that was allowed; if not, the long way says so."""
        limits, version = self._service.limits, wanted.served.version
        try:
            await limits.admit(scope, wanted.principal)
            await limits.run(scope, version, fresh=False)
        except HttpProblem as refused:
            scope[REFUSED] = refused
            return False
        return True

    def _holds(self, known: Known) -> bool:
        """Whether the long way would give this answer now."""
        service, wanted = self._service, known.wanted
        if known.live is not None and service.live.kept(known.live[0]) is not known.live[1]:
            return False
        if service.loaded is not known.loaded:
            return False
        if service.assets.manifest(wanted.served.version) is not known.manifest:
            return False
        moment = service.clock()
        if moment.tick == known.tick:
            return True
        return service.pulse.timezone == known.timezone and known.renew(moment)

    async def _is_same(self, principal: Principal, scope: Scope) -> bool:
        """Whether the credential still makes its bearer this principal."""
        if self._service.keys.holds(principal):
            return True
        try:
            return await self._service.keys.authenticate(scope["headers"]) is principal
        except HttpProblem:
            return False


def lines(given: Iterable[RawHeader]) -> bytes:
    """Headers as they stand in the head of an answer."""
    return b"".join([b"%b: %b\r\n" % header for header in given])


def _key(scope: Scope, given: dict[bytes, bytes]) -> Hashable:
    """All of a request that its answer depends on; None for one that always goes the long way.

    Credentials are hashed: none lies in memory longer than its request.
    """
    if scope["method"] != "GET" or len(given) != len(scope["headers"]):
        return None  # a header given twice may be two credentials
    if b"content-length" in given or b"transfer-encoding" in given:
        return None
    credential, other = given.get(b"authorization"), given.get(b"x-api-key")
    if credential is None:
        credential = other
    elif other is not None:
        return None
    if credential is None:
        return None
    return (
        scope["path"],
        scope["query_string"],
        hashlib.sha256(credential).digest(),
        other is None,
        given.get(b"accept"),
        given.get(b"accept-encoding"),
        given.get(b"origin"),
    )
