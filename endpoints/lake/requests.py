"""Requests to materialize, left in the lake by those who may ask and taken up by those who can do it.

    _requests/open/<id>.json    what is asked for; deleted when it has been done
    _requests/done/<id>.json    the same with what came of it, created only if absent

The id is a hash of what is asked, and the number of the newest snapshot when it was: whoever asks for the
same while it is open is given the same request. `base`, that number, also says what counts as done: a
partition of the asked definition in a snapshot after it. No clocks are compared.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import orjson

from endpoints.lake.layout import REQUESTS
from endpoints.lake.manifest import Manifest
from endpoints.lake.publish import Lake

OPEN, DONE = f"{REQUESTS}/open", f"{REQUESTS}/done"
KEPT = timedelta(days=7)
"""How long the outcome of a request can be asked for; one that nobody took up is dropped after as long."""
_ID = re.compile(r"[0-9a-f]{16}-[0-9]{1,20}(-[0-9]{1,4})?", re.ASCII)

By = Literal["api", "cli"]
State = Literal["queued", "running", "published", "failed"]
PartitionState = Literal["waiting", "published", "failed"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """Partitions of a version that someone wants made now.

    `by`: `api` requests are taken up by Dagster, `cli` ones by the command that left them. `run_id` is the
    newest run that works on it. `failed` holds the error of each partition that was not made, and `ended`
    tells when it was over; None while it is open.
    """

    id: str
    endpoint: str
    version: int
    fingerprint: str
    partitions: tuple[str, ...]
    base: int
    by: By
    asked_at: datetime
    asked_by: str
    run_id: str | None = None
    failed: Mapping[str, str] | None = None
    ended: datetime | None = None


@dataclass(frozen=True, slots=True)
class PartitionResult:
    """How far one partition of a request is. `error` is for operators."""

    partition: str
    state: PartitionState
    snapshot: int | None = None
    rows: int | None = None
    bytes: int | None = None
    run_id: str | None = None
    error: str | None = None


class Requests:
    """The requests of one lake. Every method can raise StoreUnavailable."""

    def __init__(self, lake: Lake) -> None:
        self._lake, self._store = lake, lake.store

    def leave(
        self,
        endpoint: str,
        version: int,
        fingerprint: str,
        partitions: Sequence[str],
        *,
        by: By,
        asked_by: str,
    ) -> Request:
        """Asks for the partitions; the request that is open already where the same has been asked for."""
        what = _what(endpoint, version, fingerprint, partitions, by)
        for known in self.open():
            if known.id.startswith(f"{what}-"):
                return known
        head = self._lake.head(endpoint, version)
        base = head.number if head else 0
        request = Request(
            f"{what}-{base}",
            endpoint,
            version,
            fingerprint,
            tuple(partitions),
            base,
            by,
            datetime.now(UTC),
            asked_by,
        )
        again = 1
        while self._read(DONE, request.id) is not None:  # it was given up without an attempt: asked anew
            again += 1
            request = replace(request, id=f"{what}-{base}-{again}")
        if not self._store.put_new(_key(OPEN, request.id), _encode(request)):
            return self._read(OPEN, request.id) or request
        return request

    def open(self) -> Iterator[Request]:
        """What is asked for and not done, in no order."""
        for listed in self._store.list(OPEN):
            request = self._read(OPEN, listed.key.rpartition("/")[2].removesuffix(".json"))
            if request is not None:
                yield request

    def find(self, request_id: str) -> Request | None:
        """A request by its id, done or not; None where there is none, or no more."""
        if not _ID.fullmatch(request_id):
            return None
        # It is done before it stops being open: asked in this order it cannot be missed, but for once.
        for folder in (OPEN, DONE, OPEN):
            if found := self._read(folder, request_id):
                return self._read(DONE, request_id) or found
        return None

    def started(self, request: Request, run_id: str) -> Request:
        """Notes which run works on it."""
        if request.run_id == run_id:
            return request
        request = replace(request, run_id=run_id)
        self._store.put(_key(OPEN, request.id), _encode(request))
        return request

    def close(self, request: Request, failed: Mapping[str, str]) -> None:
        """Ends a request: its partitions are published, but for those in `failed`, with their errors."""
        ended = replace(request, failed=dict(failed), ended=datetime.now(UTC))
        self._store.put_new(_key(DONE, request.id), _encode(ended))
        self._store.delete(_key(OPEN, request.id))

    def tidy(self, now: datetime) -> None:
        """Removes what is done and left over: `open` ones of done requests, and what is older than KEPT."""
        done = {listed.key.rpartition("/")[2]: listed for listed in self._store.list(DONE)}
        for listed in self._store.list(OPEN):
            if listed.key.rpartition("/")[2] in done or now - listed.modified > KEPT:
                self._store.delete(listed.key)
        for listed in done.values():
            if now - listed.modified > KEPT:
                self._store.delete(listed.key)

    def _read(self, folder: str, request_id: str) -> Request | None:
        body = self._store.get(_key(folder, request_id))
        return _decode(body) if body else None


def is_done(request: Request, manifest: Manifest | None, partition: str) -> bool:
    """Whether the partition was made after the request was left, from the definition that it meant."""
    entry = manifest.partitions.get(partition) if manifest else None
    return entry is not None and entry.fingerprint == request.fingerprint and entry.snapshot > request.base


def results(request: Request, manifest: Manifest | None) -> list[PartitionResult]:
    """How far each partition is, as the newest manifest and the request tell."""
    return [_result(request, manifest, key) for key in request.partitions]


def state(request: Request, made: Collection[PartitionResult]) -> State:
    """The request as a whole: `failed` once it is over and any partition was not made."""
    if all(result.state == "published" for result in made):
        return "published"
    if request.ended is not None:
        return "failed"
    started = request.run_id is not None or any(result.state != "waiting" for result in made)
    return "running" if started else "queued"


def _result(request: Request, manifest: Manifest | None, key: str) -> PartitionResult:
    if request.failed is not None and key in request.failed:
        return PartitionResult(key, "failed", run_id=request.run_id, error=request.failed[key])
    entry = manifest.partitions.get(key) if manifest else None
    if entry is not None and is_done(request, manifest, key):
        return PartitionResult(key, "published", entry.snapshot, entry.rows, entry.bytes, entry.run_id)
    if request.ended is not None:  # published then; replaced, by another definition, or collected since
        return PartitionResult(key, "published", run_id=request.run_id)
    failure = manifest.failures.get(key) if manifest else None
    if failure is not None and failure.run_id == request.run_id:
        return PartitionResult(key, "failed", run_id=failure.run_id, error=failure.error)
    return PartitionResult(key, "waiting")


def _what(endpoint: str, version: int, fingerprint: str, partitions: Sequence[str], by: By) -> str:
    asked = orjson.dumps([endpoint, version, fingerprint, sorted(partitions), by])
    return hashlib.sha256(asked).hexdigest()[:16]


def _key(folder: str, request_id: str) -> str:
    return f"{folder}/{request_id}.json"


def _encode(request: Request) -> bytes:
    return orjson.dumps({"format": 1, **{name: getattr(request, name) for name in Request.__slots__}})


def _decode(body: bytes) -> Request | None:
    """A request; None, with a line in the log, for an object that is none or of a later release."""
    try:
        raw: dict[str, Any] = orjson.loads(body)
        if raw.pop("format") != 1:
            raise ValueError("of another format")
        times = {name: _time(raw[name]) for name in ("asked_at", "ended")}
        return Request(**{**raw, **times, "partitions": tuple(raw["partitions"])})
    except (ValueError, TypeError, KeyError) as error:
        log.warning("an object among the requests is none: %r", error)
        return None


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
