"""Reads by form: a request that differs from one before it in the values of its variables alone.

All else has been found out already, for that one: who asks, which version, which page in which format,
whether the asset answers. Here the values are bound, and the rows read if they are in memory, before the
request is even parsed (`serving.protocol`). Whatever is not just so goes the long way, which says what is
wrong, reads what is not in memory, and learns (`serving.learn`).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from time import perf_counter, time
from typing import TYPE_CHECKING, NamedTuple

from starlette.types import Scope

from endpoints.errors import EndpointsError, FieldError
from endpoints.lake.manifest import Manifest
from endpoints.query.bind import bind
from endpoints.query.plan import Plan
from endpoints.usage import RunRecord
from serving.answer import (
    INLINE_ROWS,
    Encoded,
    Facts,
    RawHeader,
    Wanted,
    encode,
    etag,
    headers,
    identity,
    kept_as,
    server_timing,
)
from serving.clock import Moment
from serving.front import request_id
from serving.lane import REFUSED, Sent, lines
from serving.limits import SCOPE, Account, Dues
from serving.problems import HttpProblem
from serving.request import OPTIONS, read_query

if TYPE_CHECKING:
    from serving.service import Service

MOST_FORMS = 1024
MOST_SEEN = 4096
FORM = "endpoints.form"
"""The key in a request's scope of the digest of its form, where its bytes were one whole request."""
_END = b" HTTP/1.1\r\n"
_OPTIONS = frozenset(name.encode() for name in OPTIONS)
_QUERY = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*")  # nothing that parsers may differ about (RFC 3986)


class Written(NamedTuple):
    """A request as it came: the digest of all of it but its variables, the query that they are in, and when
    that was (perf_counter).
    """

    form: bytes
    query: bytes
    at: float


def written(data: bytes) -> Written | None:
    """The bytes of a GET request taken apart; None where they are not plain."""
    end = data.find(_END)
    path, _, query = data[4:end].partition(b"?")
    if end < 0 or not _QUERY.fullmatch(query):
        return None
    options = [part for part in query.split(b"&") if part.partition(b"=")[0] in _OPTIONS]
    form = sha256(b"%b?%b%b" % (path, b"&".join(options), data[end:])).digest()
    return Written(form, query, perf_counter())


@dataclass(slots=True)
class Form:
    """What is the same for all requests of a form. `wanted` is one of them, and `pinned` its `version`, if it
    has one. `facts_at` tells what an answer from the asset says of itself at a moment, or None where the
    asset does not answer then.
    """

    wanted: Wanted
    pinned: int | None
    manifest: Manifest
    plan: Plan
    facts_at: Callable[[Wanted], Facts | None]
    cors: tuple[RawHeader, ...]
    timezone: str | None
    loaded: object
    dues: Dues
    tick: int = -1
    facts: Facts | None = None
    lines: bytes = b""
    timezone_now: str = field(init=False)

    def __post_init__(self) -> None:
        self.timezone_now = self.timezone or self.manifest.server.timezone

    def renew(self, moment: Moment) -> bool:
        """Prepare what is the same for this second; whether the asset still answers."""
        wanted = replace(self.wanted, moment=moment)
        self.facts = self.facts_at(wanted)
        if self.facts is None:
            return False
        same = [(name, value) for name, value in headers(wanted, self.facts, "") if name != b"etag"]
        self.tick, self.lines = moment.tick, lines([*same, *self.cors])
        return True


class Forms:
    """Forms by their digests, the least recently asked for dropped first."""

    def __init__(self, service: Service, *, most: int = MOST_FORMS) -> None:
        self._service, self._most = service, most
        self._forms: OrderedDict[bytes, Form] = OrderedDict()
        self._seen: OrderedDict[bytes, None] = OrderedDict()  # once

    def __contains__(self, digest: object) -> bool:
        return digest in self._forms

    def __len__(self) -> int:
        return len(self._forms)

    def wants(self, digest: bytes) -> bool:
        """Whether the form is to be learnt: when it comes again. Headers of some callers never do."""
        if digest in self._forms:
            return False
        if digest in self._seen:
            return True
        self._seen[digest] = None
        while len(self._seen) > MOST_SEEN:
            self._seen.popitem(last=False)
        return False

    def learn(self, digest: bytes, form: Form) -> None:
        """Remember a form of which one request has been answered."""
        if not form.renew(self._service.clock()):
            return
        self._seen.pop(digest, None)
        self._forms[digest] = form
        while len(self._forms) > self._most:
            self._forms.popitem(last=False)

    def answer(self, request: Written, scope: Scope) -> Sent | None:
        """The answer to a request of a known form; None where it goes the long way.

        What has been paid for it is in `scope` then: it is to become a part of the request's.
        """
        service = self._service
        form = self._forms.get(request.form)
        if form is None:
            return None
        if not self._holds(form):
            del self._forms[request.form]
            return None
        self._forms.move_to_end(request.form)
        try:
            wanted = self._bound(form, request.query)
            if wanted is None or form.facts is None:
                return None
            name = identity(wanted, form.facts)
            keys = [kept_as(name, wanted, form.facts, personal=personal) for personal in (False, True)]
            if any(service.results.get(key) is not None for key in keys):
                return None  # the long way has the lane learn it
            if not self._pay(form, scope):
                return None
            encoded = self._read(form, wanted)
        except EndpointsError:
            return None
        if encoded is None:
            return None
        service.results.put(keys[encoded.personal], encoded)
        wanted.timed("total", request.at)
        service.records.record(self._run(form, wanted, encoded, perf_counter() - request.at))
        account: Account = scope[SCOPE]
        own = b"etag: %b\r\n%b%bserver-timing: %b\r\nx-request-id: %b\r\n" % (
            etag(name).encode(),
            lines(encoded.headers),
            lines(account.headers()),
            server_timing(wanted.timings),
            request_id(None),
        )
        return Sent(200, form.lines + own, encoded.body)

    def _holds(self, form: Form) -> bool:
        """Whether all that has been found out for the form is still so."""
        service = self._service
        if service.loaded is not form.loaded or service.pulse.timezone != form.timezone:
            return False
        if service.assets.manifest(form.wanted.served.version) is not form.manifest:
            return False
        if not service.keys.holds(form.wanted.principal):
            return False
        moment = service.clock()
        return moment.tick == form.tick or form.renew(moment)

    def _bound(self, form: Form, query: bytes) -> Wanted | None:
        """The request with its own values; None where it differs in more than these. EndpointsError."""
        begun, moment = perf_counter(), self._service.clock()
        version, principal = form.wanted.served.version, form.wanted.principal
        call = read_query(query)
        if call.version != form.pinned:
            return None
        wrong: list[FieldError] = []
        asked = call.ask(version, wrong)
        if wrong or replace(asked, variables=form.wanted.asked.variables) != form.wanted.asked:
            return None
        bound = bind(
            version, asked.variables, pins=principal.pins, now=moment.now, timezone=form.timezone_now
        )
        wanted = replace(form.wanted, asked=asked, bound=bound, moment=moment, timings={}, notes={})
        wanted.timed("bind", begun)
        return wanted

    def _pay(self, form: Form, scope: Scope) -> bool:
        """Pay for the run, and tell whether that was allowed; if not, the long way says so."""
        try:
            return self._service.limits.pay_at_once(scope, form.wanted.principal, form.dues)
        except HttpProblem as refused:
            scope[REFUSED] = refused
            return False

    def _read(self, form: Form, wanted: Wanted) -> Encoded | None:
        """The rows in their format; None where they are not in memory, or many. EndpointsError."""
        assert form.facts is not None
        begun = perf_counter()
        rows = self._service.assets.read_at_once(
            form.manifest, form.plan, wanted.bound, wanted.limit, wanted.offset
        )
        if rows is None or rows.size > INLINE_ROWS:
            return None
        wanted.timed("asset", begun)
        return encode(wanted, form.facts, rows)

    def _run(self, form: Form, wanted: Wanted, sent: Encoded, seconds: float) -> RunRecord:
        version, facts = wanted.served.version, form.facts
        assert facts is not None
        return RunRecord(
            at=time() - seconds,
            endpoint=version.endpoint,
            version=version.number,
            key_id=wanted.principal.id,
            source=facts.source,
            reason=facts.reason,
            status=200,
            duration=seconds,
            rows=sent.rows,
            bytes=len(sent.body),
            cached=False,
        )
