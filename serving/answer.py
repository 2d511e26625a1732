"""How an answer looks on the wire: format, envelope, headers, validators."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from time import perf_counter
from typing import Literal, NamedTuple

import orjson
from starlette.types import Receive, Scope, Send

from endpoints.errors import FieldError, InputError
from endpoints.formats import csv_rows, json_rows
from endpoints.query.bind import Bound
from endpoints.rows import Rows
from serving.auth import Principal
from serving.clock import Moment
from serving.loaded import Served
from serving.problems import HttpProblem
from serving.request import Asked, Format

Source = Literal["asset", "live", "stale"]
RawHeader = tuple[bytes, bytes]

MAX_AGE = 60  # seconds; a browser holds nothing for longer
VARY = "Authorization, X-API-Key, Accept, Accept-Encoding, Origin"
MEDIA_TYPES: Mapping[Format, str] = {"json": "application/json", "csv": "text/csv; charset=utf-8"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """One authorized, bound request: everything that decides the answer's bytes but the data."""

    principal: Principal
    served: Served
    asked: Asked
    bound: Bound
    limit: int
    format: Format
    method: str
    moment: Moment
    timings: dict[str, float] = field(default_factory=dict)  # milliseconds

    @property
    def now(self) -> datetime:
        return self.moment.now

    def timed(self, part: str, since: float) -> None:
        """Note for `Server-Timing` that `part` took from `since` (perf_counter) until now."""
        self.timings[part] = (perf_counter() - since) * 1000


@dataclass(frozen=True, slots=True)
class Facts:
    """What an answer says of itself. `tag` names the data: a snapshot, or a digest of live rows.

    `max_age` is what is left, in seconds, of the promise that the rows are good; `age` of a reused live
    result.
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


class Encoded(NamedTuple):
    """Rows as a caller gets them: the body, and the headers that belong to it whenever it is sent."""

    body: bytes
    headers: tuple[RawHeader, ...]
    rows: int


@dataclass(slots=True)
class Answer:
    """A whole answer, ready to send. Header names are in lower case."""

    status: int
    headers: list[RawHeader]
    body: bytes = b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


def choose_format(asked: Asked, accept: str | None) -> Format:
    """The format that was asked for, or the best that `Accept` takes. HttpProblem 406."""
    chosen = asked.format or _accepted(accept)
    if chosen != "json" and asked.shape != "arrays":
        raise InputError([FieldError("shape", "not_offered", "Only JSON has shapes.")])
    return chosen


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
        *(version.number, version.fingerprint, facts.tag, facts.source, facts.reason),
        *(wanted.bound.key, wanted.limit, asked.offset, wanted.format, asked.shape, asked.integers),
    )
    return hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()


def etag(identity: str) -> str:
    """The weak validator of an answer."""
    return f'W/"{identity}"'


def is_held(if_none_match: bytes | None, tag: str) -> bool:
    """Whether the caller holds the answer of that tag already, by its `If-None-Match`."""
    if if_none_match is None:
        return False
    held = if_none_match.decode("latin-1").strip()
    strong = tag.removeprefix("W/")
    return held in (tag, "*") or strong in (part.strip().removeprefix("W/") for part in held.split(","))


def encode(wanted: Wanted, facts: Facts, rows: Rows) -> Encoded:
    """The whole answer's body."""
    begun = perf_counter()
    body = csv_rows(rows) if wanted.format == "csv" else _envelope(wanted, facts, rows)
    wanted.timed("encode", begun)
    headers: list[RawHeader] = [
        (b"content-type", MEDIA_TYPES[wanted.format].encode()),
        (b"content-length", str(len(body)).encode()),
    ]
    if wanted.format != "json":
        headers.append((b"x-endpoint-has-more", b"true" if rows.has_more else b"false"))
    return Encoded(body, tuple(headers), rows.table.num_rows)


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
    if wanted.method == "POST":
        sent.append((b"cache-control", b"no-store"))
    else:
        sent += ((b"cache-control", _cache_control(wanted, facts).encode()), (b"etag", tag.encode()))
    return sent


def server_timing(timings: Mapping[str, float]) -> bytes:
    """The value of `Server-Timing`."""
    return ", ".join(f"{part};dur={ms:.2f}" for part, ms in timings.items()).encode()


@lru_cache(maxsize=1024)
def _http_date(at: datetime) -> bytes:
    return format_datetime(at.astimezone(UTC), usegmt=True).encode()


def instant(at: datetime | None) -> str | None:
    """A UTC instant as ISO 8601 with `Z`, whole seconds."""
    return None if at is None else at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _envelope(wanted: Wanted, facts: Facts, rows: Rows) -> bytes:
    asked, version = wanted.asked, wanted.served.version
    head = {
        "name": wanted.served.endpoint.name,
        "endpoint_version": version.number,
        "columns": [column.name for column in rows.columns],
        "types": [str(column.type) for column in rows.columns],
    }
    tail = {
        "hasMore": rows.has_more,
        "limit": wanted.limit,
        "offset": asked.offset,
        "source": facts.source,
        "reason": facts.reason,
        "is_cached": facts.is_cached,
        "last_refresh": instant(facts.last_refresh),
        "execution_id": facts.execution_id,
    }
    results = json_rows(rows, shape=asked.shape, integers=asked.integers)
    return b"".join((orjson.dumps(head)[:-1], b',"results":', results, b",", orjson.dumps(tail)[1:]))


def _cache_control(wanted: Wanted, facts: Facts) -> str:
    """`public` only where the definition says so and the key is pinned to no one."""
    version = wanted.served.version
    who = "public" if version.public and not wanted.principal.pins else "private"
    seconds = int(min(MAX_AGE, facts.max_age))
    if seconds <= 0:
        return f"{who}, no-cache"
    return f"{who}, max-age={seconds}, stale-while-revalidate={MAX_AGE}"


_MEDIA_RANGES: Mapping[str, Format] = {
    "*/*": "json",
    "application/*": "json",
    "application/json": "json",
    "text/*": "csv",
    "text/csv": "csv",
}


def _accepted(accept: str | None) -> Format:
    """The format of the range with the highest weight; JSON before CSV where they tie on a wildcard."""
    if accept is None or accept in ("*/*", "application/json") or not accept.strip():
        return "json"
    best: tuple[float, int, Format] | None = None
    for part in accept.split(","):
        media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
        offered = _MEDIA_RANGES.get(media_range)
        if offered is None:
            continue
        weight = _weight(parameters)
        rank = (weight, -media_range.count("*"))
        if weight > 0 and (best is None or rank > best[:2]):
            best = (*rank, offered)
    if best is None:
        raise HttpProblem("not_acceptable")
    return best[2]


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
