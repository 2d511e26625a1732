"""The fast lane: what has been answered a moment ago is answered again before any framework runs.

A request is known again by all of it that its answer depends on: path, query string, credential, and the few
headers that are read. Its answer is sent from prepared bytes as long as the long way would give the same: the
principal still holds, the manifest and the definitions are those of before, the rows are good for the moment.
Once a second it is decided anew. Limits are paid and the run is recorded as ever. A caller who is refused
goes the long way, which says so.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from time import perf_counter, time
from typing import TYPE_CHECKING

from starlette.types import Scope, Send

from endpoints.lake.manifest import Manifest
from endpoints.usage import RunRecord
from serving.answer import Encoded, Facts, RawHeader, Wanted, etag, headers, identity, is_held, kept_as
from serving.auth import Principal
from serving.clock import Moment
from serving.front import request_id
from serving.limits import SCOPE
from serving.live import Key, LiveRows
from serving.problems import HttpProblem

if TYPE_CHECKING:
    from serving.service import Service

MOST_KNOWN = 4096
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
        return True

    def record(self, status: int, duration: float, sent: Encoded) -> RunRecord:
        """The record of a run that was answered with this."""
        version, facts = self.wanted.served.version, self.facts
        assert facts is not None
        return RunRecord(
            at=time(),
            endpoint=version.endpoint,
            version=version.number,
            key_id=self.wanted.principal.id,
            source=facts.source,
            reason=facts.reason,
            status=status,
            duration=duration,
            rows=sent.rows,
            bytes=len(sent.body),
            cached=True,
        )


class Lane:
    """Known answers by the requests that they answer, the least recently asked for dropped first."""

    def __init__(self, service: Service, *, most: int = MOST_KNOWN) -> None:
        self._service, self._most = service, most
        self._known: OrderedDict[Hashable, Known] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def learn(self, scope: Scope, known: Known) -> None:
        """Remember what a request was answered with."""
        key = _key(scope, dict(scope["headers"]))
        if key is None or not known.renew(self._service.clock()):
            return
        self._known[key] = known
        self._known.move_to_end(key)
        while len(self._known) > self._most:
            self._known.popitem(last=False)

    async def answers(self, scope: Scope, send: Send) -> bool:
        """Answer a known request; whether it was one. Nothing has been sent where not."""
        begun, given = perf_counter(), dict(scope["headers"])
        key = _key(scope, given)
        known = self._known.get(key)
        if known is None:
            return False
        if not self._holds(known) or not await self._is_same(known.wanted.principal, scope):
            self._known.pop(key, None)
            return False
        if is_held(given.get(b"if-none-match"), known.tag):
            status, encoded = 304, _NOTHING
        elif (kept := self._service.results.get(known.body_key)) is not None:
            status, encoded = 200, kept
        else:
            return False
        if not await self._pay(known.wanted, scope):
            return False
        self._known.move_to_end(key)
        sent = [
            *known.headers,
            *encoded.headers,
            *(account.headers() if (account := scope.get(SCOPE)) is not None else ()),
            (b"server-timing", b"total;dur=%.3f" % ((perf_counter() - begun) * 1000)),
            (b"x-request-id", request_id(given.get(b"x-request-id"))),
        ]
        await send({"type": "http.response.start", "status": status, "headers": sent})
        await send({"type": "http.response.body", "body": encoded.body})
        self._service.records.record(known.record(status, perf_counter() - begun, encoded))
        return True

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
