"""How an answer looks on the wire: format, envelope, headers, validators."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from time import perf_counter
from typing import NamedTuple

import orjson
from starlette.concurrency import iterate_in_threadpool
from starlette.types import Receive, Scope, Send

from endpoints.decision import Source
from endpoints.errors import FieldError, InputError
from endpoints.formats import TABULAR, Shape, json_parts, ndjson_parts
from endpoints.query.bind import Bound
from endpoints.rows import Rows
from serving.accept import preferred
from serving.auth import Principal
from serving.clock import Moment
from serving.compress import LEAST_BYTES, Encoding, compressed
from serving.cursor import Cursor, moment_of, owner_of
from serving.loaded import Served
from serving.problems import HttpProblem
from serving.request import Asked, Format

RawHeader = tuple[bytes, bytes]

MAX_AGE = 60  # seconds; a browser holds nothing for longer
IF_ERROR = 600  # seconds for which it may show what it holds while we do not answer
VARY = "Authorization, X-API-Key, Accept, Accept-Encoding, Origin"
MEDIA_TYPES: Mapping[Format, str] = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
}
INLINE_ROWS = 1000  # writing more than this goes to a thread: it would hold every other request up
WHOLE_ROWS = 20_000  # an answer of more rows is sent in parts, as they are made


@dataclass(frozen=True, slots=True)
class Wanted:
    """One authorized, bound request: everything that decides the answer's bytes but the data."""

    principal: Principal
    served: Served
    asked: Asked
    bound: Bound
    limit: int
    format: Format
    shape: Shape
    encoding: Encoding
    method: str
    moment: Moment
    cursor: Cursor | None = None
    timings: dict[str, float] = field(default_factory=dict)  # milliseconds
    notes: dict[str, object] = field(default_factory=dict)  # what `debug` shows

    @property
    def now(self) -> datetime:
        return self.moment.now

    @property
    def offset(self) -> int:
        """How many rows come before the page."""
        return self.asked.offset if self.cursor is None else self.cursor.offset

    def timed(self, part: str, since: float) -> None:
        """Note for `Server-Timing` that `part` took from `since` (perf_counter) until now."""
        self.timings[part] = (perf_counter() - since) * 1000


@dataclass(frozen=True, slots=True)
class Facts:
    """What an answer says of itself. `tag` names the data: a snapshot, or a digest of live rows.

    `max_age` is what is left, in seconds, of the promise that the rows are good; `age` of a reused live
    result. `snapshot` is the manifest whose rows these are; None for live rows. `source_max` is the newest
    row that the asset is made of, where that is known.
    """

    source: Source
    reason: str | None
    last_refresh: datetime | None
    execution_id: str
    tag: str
    max_age: float
    is_cached: bool = False
    age: float = 0.0
    live_error: str | None = None
    snapshot: int | None = None
    source_max: datetime | None = None


class Encoded(NamedTuple):
    """Rows as a caller gets them: the body, and the headers that belong to it whenever it is sent.

    `parts` are the body of a large answer, made as they are taken. `personal`: it holds a cursor, which is
    one caller's.
    """

    body: bytes
    headers: tuple[RawHeader, ...]
    rows: int
    parts: Iterator[bytes] | None = None
    personal: bool = False


@dataclass(slots=True)
class Answer:
    """An answer, ready to send. Header names are in lower case; `parts` and `personal` as in `Encoded`."""

    status: int
    headers: list[RawHeader]
    body: bytes = b""
    parts: Iterator[bytes] | None = None
    personal: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        if self.parts is None:
            await send({"type": "http.response.body", "body": self.body})
        elif scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
        else:
            await self._send(self.parts, receive, send)

    async def _send(self, parts: Iterator[bytes], receive: Receive, send: Send) -> None:
        """Each part when the one before it has gone out, as long as someone takes them."""
        gone = asyncio.ensure_future(hung_up(receive))
        try:
            async for part in iterate_in_threadpool(parts):
                if gone.done():
                    return
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()


async def hung_up(receive: Receive) -> None:
    """Returns when the caller has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def choose_format(asked: Asked, accept: str | None) -> tuple[Format, Shape]:
    """The format that was asked for, or the best that `Accept` takes, and its shape. HttpProblem 406."""
    chosen = asked.format or _accepted(accept)
    if chosen not in ("json", "ndjson") and asked.shape == "objects":
        raise InputError([FieldError("shape", "not_offered", "Only JSON has shapes.")])
    if chosen != "json" and asked.debug:
        raise InputError([FieldError("debug", "not_offered", "Only JSON has room for it.")])
    return chosen, asked.shape or ("objects" if chosen == "ndjson" else "arrays")


def page_limit(served: Served, asked: Asked) -> int:
    """How many rows to send at most. InputError above the version's `max_rows`."""
    most = served.version.limits.max_rows
    if asked.limit is not None and asked.limit > most:
        detail = f"Must be between 1 and {most}, the most that this version gives at once."
        raise InputError([FieldError("limit", "out_of_range", detail)])
    return asked.limit or most


def identity(wanted: Wanted, facts: Facts) -> str:
    """A digest of all that decides the rows and their form."""
    asked, version = wanted.asked, wanted.served.version
    parts = (
        *(version.key, version.fingerprint, facts.tag, facts.source, facts.reason),
        *(
            wanted.bound.key,
            wanted.limit,
            wanted.offset,
            wanted.format,
            wanted.shape,
            asked.integers,
            asked.count,
            asked.cursor,
        ),
    )
    return hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()


def kept_as(name: str, wanted: Wanted, facts: Facts, *, personal: bool = False) -> Hashable:
    """The key of an answer's bytes: what decides the rows and their form, and what the body says of them.

    A `personal` one, with a cursor, is for whoever got it.
    """
    caller = wanted.principal.id if personal else None
    return name, wanted.encoding, facts.last_refresh, facts.execution_id, facts.is_cached, caller


def etag(identity: str) -> str:
    """The weak validator of an answer."""
    return f'W/"{identity}"'


def is_held(if_none_match: bytes | None, tag: str) -> bool:
    """Whether the caller holds the answer of that tag already, by its `If-None-Match`."""
    if if_none_match is None:
        return False
    held = if_none_match.decode("latin-1").strip()
    if held == tag:
        return True
    strong = tag.removeprefix("W/")
    return held == "*" or strong in (part.strip().removeprefix("W/") for part in held.split(","))


def encode(wanted: Wanted, facts: Facts, rows: Rows) -> Encoded:
    """The answer's body: whole where it is small, else in parts."""
    begun, cursor = perf_counter(), _next_cursor(wanted, facts, rows)
    sent, parts = _body_headers(wanted, rows, cursor), _parts(wanted, facts, rows, cursor)
    if rows.size > WHOLE_ROWS:
        sent += _encoding_headers(wanted.encoding)
        large = compressed(parts, wanted.encoding)
        return Encoded(b"", tuple(sent), rows.size, large, personal=cursor is not None)
    body = b"".join(parts)
    if len(body) >= LEAST_BYTES:
        sent += _encoding_headers(wanted.encoding)
        body = b"".join(compressed([body], wanted.encoding))
    sent.append((b"content-length", str(len(body)).encode()))
    wanted.timed("encode", begun)
    return Encoded(body, tuple(sent), rows.size, personal=cursor is not None)


def _encoding_headers(encoding: Encoding) -> list[RawHeader]:
    return [] if encoding == "identity" else [(b"content-encoding", encoding.encode())]


def _body_headers(wanted: Wanted, rows: Rows, cursor: str | None) -> list[RawHeader]:
    """The media type, and what the envelope of JSON says for formats that have none."""
    sent: list[RawHeader] = [(b"content-type", MEDIA_TYPES[wanted.format].encode())]
    if wanted.format != "json":
        sent.append((b"x-endpoint-has-more", b"true" if rows.has_more else b"false"))
        if cursor is not None:
            sent.append((b"x-endpoint-next-cursor", cursor.encode()))
        if rows.total is not None:
            sent.append((b"x-endpoint-total", str(rows.total).encode()))
    return sent


def _next_cursor(wanted: Wanted, facts: Facts, rows: Rows) -> str | None:
    """Where the next page of an asset begins. Live rows have no snapshot to go on in."""
    if facts.snapshot is None or not rows.has_more:
        return None
    version = wanted.served.version
    begun = wanted.cursor.bound_at if wanted.cursor is not None else moment_of(version, wanted.now)
    owner = owner_of(wanted.principal, wanted.bound)
    following = wanted.offset + rows.size
    return Cursor(version.number, facts.snapshot, following, begun, owner).text()


def _parts(wanted: Wanted, facts: Facts, rows: Rows, cursor: str | None) -> Iterator[bytes]:
    match wanted.format:
        case "json":
            return _envelope(wanted, facts, rows, cursor)
        case "ndjson":
            return ndjson_parts(rows, wanted.shape, wanted.asked.integers)
        case tabular:
            return TABULAR[tabular](rows)


def headers(wanted: Wanted, facts: Facts, tag: str) -> list[RawHeader]:
    """What every answer says of itself, its 304 too."""
    sent = [
        (b"x-endpoint-source", facts.source.encode()),
        (b"x-endpoint-version", str(wanted.served.version.number).encode()),
        (b"vary", VARY.encode()),
        *wanted.served.raw_headers,
    ]
    if facts.reason is not None:
        sent.append((b"x-endpoint-reason", facts.reason.encode()))
    if facts.live_error is not None:
        sent.append((b"x-endpoint-live-error", facts.live_error.encode()))
    if facts.is_cached:
        sent.append((b"age", str(int(facts.age)).encode()))
    if facts.last_refresh is not None:
        age = max(0, int((wanted.now - facts.last_refresh).total_seconds()))
        sent += (
            (b"x-endpoint-data-age", str(age).encode()),
            (b"last-modified", _http_date(facts.last_refresh)),
        )
    if (newest := instant(facts.source_max)) is not None:
        sent.append((b"x-endpoint-source-max", newest.encode()))
    if wanted.method == "POST" or wanted.asked.debug:
        sent.append((b"cache-control", b"no-store"))
    else:
        sent += ((b"cache-control", _cache_control(wanted, facts).encode()), (b"etag", tag.encode()))
    return sent


def server_timing(timings: Mapping[str, float]) -> bytes:
    """The value of `Server-Timing`."""
    return ", ".join([f"{part};dur={ms:.2f}" for part, ms in timings.items()]).encode()


@lru_cache(maxsize=1024)
def _http_date(at: datetime) -> bytes:
    return format_datetime(at.astimezone(UTC), usegmt=True).encode()


@lru_cache(maxsize=1024)
def instant(at: datetime | None) -> str | None:
    """A UTC instant as ISO 8601 with `Z`, whole seconds."""
    return None if at is None else at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _envelope(wanted: Wanted, facts: Facts, rows: Rows, cursor: str | None) -> Iterator[bytes]:
    asked, version = wanted.asked, wanted.served.version
    head = {
        "name": wanted.served.endpoint.name,
        "endpoint_version": version.number,
        "columns": [column.name for column in rows.columns],
        "types": [str(column.type) for column in rows.columns],
    }
    tail = {
        "hasMore": rows.has_more,
        **({} if cursor is None else {"nextCursor": cursor}),
        **({} if rows.total is None else {"total": rows.total}),
        "limit": wanted.limit,
        "offset": wanted.offset,
        "source": facts.source,
        "reason": facts.reason,
        "is_cached": facts.is_cached,
        "last_refresh": instant(facts.last_refresh),
        "execution_id": facts.execution_id,
        **({"debug": {**wanted.notes, "timings": {**wanted.timings}}} if asked.debug else {}),
    }
    yield orjson.dumps(head)[:-1] + b',"results":'
    yield from json_parts(rows, wanted.shape, asked.integers)
    yield b"," + orjson.dumps(tail)[1:]


def _cache_control(wanted: Wanted, facts: Facts) -> str:
    """How long a cache may show the answer; what it says of its own `Age` counts (RFC 9111, 4.2)."""
    who = "public" if _is_public(wanted) else "private"
    if facts.max_age < 1:
        return f"{who}, no-cache"
    seconds = min(MAX_AGE, int(round(facts.age + facts.max_age, 3)))
    return f"{who}, max-age={seconds}, stale-while-revalidate={MAX_AGE}, stale-if-error={IF_ERROR}"


def _is_public(wanted: Wanted) -> bool:
    """Only where the definition says so, the key is pinned to no one, and no address holds private values."""
    version = wanted.served.version
    if not version.public or wanted.principal.pins:
        return False
    return not any(variable.private for variable in version.variables.values())


_MEDIA_RANGES: Mapping[str, Format] = {
    "application/json": "json",
    "*/*": "json",
    "application/*": "json",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "text/csv": "csv",
    "text/*": "csv",
    "application/vnd.apache.arrow.stream": "arrow",
    "application/vnd.apache.parquet": "parquet",
}


def _accepted(accept: str | None) -> Format:
    """The format with the highest weight; of those that tie JSON. HttpProblem 406 where there is none."""
    if accept is None or accept in ("*/*", "application/json") or not accept.strip():
        return "json"
    chosen = preferred(accept, _MEDIA_RANGES)
    if chosen is None:
        raise HttpProblem("not_acceptable")
    return chosen
