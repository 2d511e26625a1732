"""Manifests: the numbered, immutable records of what a version's asset is. No I/O here.

One manifest tells the whole state after an attempt: every partition's files and facts, and which partitions
the last tries left failed. Its body is JSON of at most `BODY_BYTES`; what does not fit moves into *segments*,
objects named by the hash of their content. Segments are cut where the hash of a partition's key says so
(content-defined chunking, as in rsync and prolly trees), so that replacing one partition of 10,000 rewrites
one small segment and keeps the others.

When a manifest is collected its body is replaced by a tombstone; the number stays taken.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import orjson

from endpoints.errors import Corrupt, UnsupportedType
from endpoints.types import Column, parse_type

FORMAT = 1
UNPARTITIONED = "all"
BODY_BYTES = 64 * 1024
ERROR_CHARACTERS = 500
_INLINE_BYTES = 48 * 1024
_LEAST_ENTRY_BYTES = 100  # fewer than the names of its fields take
_SEGMENT_ENTRIES = 64

Outcome = Literal["published", "failed", "breached", "superseded", "rolled_back", "released"]
FailedOutcome = Literal["failed", "breached"]
Cause = Literal["run", "contract", "parity", "check"]
LoadSegment = Callable[[str], bytes]


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A Parquet file: `path` from the version's folder, rows, bytes, `sha256:<hex>` over its bytes."""

    path: str
    rows: int
    bytes: int
    checksum: str


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check and what came of it; `detail` is a short sentence for operators."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class PartitionEntry:
    """The good data of one partition.

    `columns` are the files' (the result's, then hidden dimension columns). `as_of` is the warehouse's clock
    when its query began; `source_max` the newest source row, where declared. `snapshot` is the manifest that
    published it. `fingerprint` is the definition's that made it. Sizes are in rows and bytes.
    """

    files: tuple[FileEntry, ...]
    columns: tuple[Column, ...]
    as_of: datetime
    fingerprint: str
    run_id: str
    attempt_id: str
    rows: int
    bytes: int
    snapshot: int = 0
    source_max: datetime | None = None
    checks: tuple[CheckResult, ...] = ()


@dataclass(frozen=True, slots=True)
class PartitionFailure:
    """The last try of a partition, which failed. `error` is for operators, never for callers.

    `unservable`: the warehouse was asked, and the plan cannot be exact on it; no further try will do better.
    `cause`: what kind of failure; `summary`: one sentence without values or the engine's words, for alerts.
    """

    outcome: FailedOutcome
    attempt_id: str
    run_id: str
    fingerprint: str
    at: datetime
    error: str
    unservable: bool = False
    cause: Cause = "run"
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Server:
    """What of the warehouse decided types and values: version, default time zone, settings.

    `sliced` is the type of the partition column, "" where there is none.
    """

    version: str = ""
    timezone: str = "UTC"
    sliced: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The state of one version after one attempt.

    `held` means rolled back, to the content of snapshot `restored`: fresh whatever its age.
    """

    number: int
    endpoint: str
    version: int
    attempt_id: str
    run_id: str
    created_at: datetime
    outcome: Outcome
    fingerprint: str
    server: Server = Server()
    partitions: Mapping[str, PartitionEntry] = field(default_factory=dict)
    failures: Mapping[str, PartitionFailure] = field(default_factory=dict)
    held: bool = False
    restored: int | None = None
    format: int = FORMAT

    @property
    def files(self) -> Iterator[FileEntry]:
        """Every file that this snapshot names."""
        return (file for entry in self.partitions.values() for file in entry.files)


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What collection leaves of an old manifest: everything below `floor` is gone."""

    floor: int


@dataclass(frozen=True, slots=True)
class Encoded:
    """A manifest as bytes: its body, and the segments that the body names, by name."""

    body: bytes
    segments: Mapping[str, bytes]


def encode(manifest: Manifest) -> Encoded:
    """The manifest as bytes; the same manifest always gives the same bytes."""
    head = {
        "format": manifest.format,
        "number": manifest.number,
        "endpoint": manifest.endpoint,
        "version": manifest.version,
        "attempt_id": manifest.attempt_id,
        "run_id": manifest.run_id,
        "created_at": manifest.created_at.isoformat(),
        "outcome": manifest.outcome,
        "fingerprint": manifest.fingerprint,
        "server": {
            "version": manifest.server.version,
            "timezone": manifest.server.timezone,
            "sliced": manifest.server.sliced,
            "settings": dict(manifest.server.settings),
        },
        "held": manifest.held,
        "restored": manifest.restored,
    }
    keys = sorted({*manifest.partitions, *manifest.failures})
    if len(keys) <= _INLINE_BYTES // _LEAST_ENTRY_BYTES:
        body = _dump({**head, **_pack(manifest, keys)})
        if len(body) <= _INLINE_BYTES:
            return Encoded(body, {})
    segments = {_segment_name(raw): raw for raw in (_dump(_pack(manifest, chunk)) for chunk in _chunks(keys))}
    body = _dump({**head, "segments": list(segments)})
    if len(body) > BODY_BYTES:
        raise ValueError(f"a manifest of {len(keys)} partitions does not fit {BODY_BYTES} bytes")
    return Encoded(body, segments)


def encode_tombstone(floor: int) -> bytes:
    """The body that replaces a collected manifest's."""
    return _dump({"format": FORMAT, "tombstone": True, "floor": floor})


def decode(body: bytes, path: str, segment: LoadSegment) -> Manifest | Tombstone:
    """What `encode` and `encode_tombstone` wrote. `segment` loads one by name. Corrupt names `path`."""
    try:
        raw = orjson.loads(body)
        if raw["format"] != FORMAT:
            raise Corrupt(path, f"is of format {raw['format']!r}; this release reads format {FORMAT}")
        if raw.get("tombstone"):
            return Tombstone(int(raw["floor"]))
        packs = [_unpack(raw), *(_SEGMENTS.unpacked(name, segment) for name in raw.get("segments", ()))]
        return _manifest(raw, packs)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, UnsupportedType) as error:
        raise Corrupt(path, f"is not a manifest: {error!r}") from error


def segment_names(body: bytes) -> tuple[str, ...]:
    """The segments that a manifest's body names, without loading them."""
    return tuple(orjson.loads(body).get("segments", ()))


def _dump(value: object) -> bytes:
    return orjson.dumps(value)


def _segment_name(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _verified(name: str, raw: bytes) -> bytes:
    if _segment_name(raw) != name:
        raise ValueError(f"segment {name} holds other bytes")
    return raw


def _chunks(keys: list[str]) -> Iterator[list[str]]:
    """`keys` in runs of about `_SEGMENT_ENTRIES`; where a run ends depends on its last key alone."""
    chunk: list[str] = []
    for key in keys:
        chunk.append(key)
        if hashlib.sha256(key.encode()).digest()[0] % _SEGMENT_ENTRIES == 0:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _pack(manifest: Manifest, keys: list[str]) -> dict[str, Any]:
    """The partitions and failures of `keys`. Column lists, mostly the same, are kept once and numbered."""
    numbers = _Numbers()
    partitions = {
        key: _from_entry(manifest.partitions[key], numbers) for key in keys if key in manifest.partitions
    }
    failures = {key: _from_failure(manifest.failures[key]) for key in keys if key in manifest.failures}
    columns = [[[c.name, c.type.text] for c in columns] for columns in numbers.lists]
    return {"columns": columns, "partitions": partitions, "failures": failures}


class _Numbers:
    """Lists of columns, each once. One that has been seen is known by its identity: hashing it would take
    longer than writing the rest of the entry.
    """

    def __init__(self) -> None:
        self.lists: dict[tuple[Column, ...], int] = {}
        self._seen: dict[int, int] = {}

    def of(self, columns: tuple[Column, ...]) -> int:
        number = self._seen.get(id(columns))
        if number is None:
            number = self._seen[id(columns)] = self.lists.setdefault(columns, len(self.lists))
        return number


def _from_entry(entry: PartitionEntry, numbers: _Numbers) -> dict[str, Any]:
    return {
        "files": [[f.path, f.rows, f.bytes, f.checksum] for f in entry.files],
        "columns": numbers.of(entry.columns),
        "as_of": entry.as_of.isoformat(),
        "source_max": entry.source_max.isoformat() if entry.source_max else None,
        "fingerprint": entry.fingerprint,
        "run_id": entry.run_id,
        "attempt_id": entry.attempt_id,
        "rows": entry.rows,
        "bytes": entry.bytes,
        "snapshot": entry.snapshot,
        "checks": [[c.name, c.passed, c.detail] for c in entry.checks],
    }


def _from_failure(failure: PartitionFailure) -> dict[str, Any]:
    return {
        "outcome": failure.outcome,
        "attempt_id": failure.attempt_id,
        "run_id": failure.run_id,
        "fingerprint": failure.fingerprint,
        "at": failure.at.isoformat(),
        "error": failure.error,
        "unservable": failure.unservable,
        "cause": failure.cause,
        "summary": failure.summary,
    }


_Pack: TypeAlias = tuple[dict[str, PartitionEntry], dict[str, PartitionFailure]]


class _Segments:
    """Segments as they were last read, by name: the name is of the content, so that they never change.

    Of ten thousand partitions a new snapshot brings one segment; the others are neither loaded nor decoded
    again.
    """

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, threading.Lock()
        self._known: OrderedDict[str, _Pack] = OrderedDict()

    def unpacked(self, name: str, load: LoadSegment) -> _Pack:
        with self._lock:
            if (known := self._known.get(name)) is not None:
                self._known.move_to_end(name)
                return known
        found = _unpack(orjson.loads(_verified(name, load(name))))
        with self._lock:
            self._known[name] = found
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        return found


_SEGMENTS = _Segments(most=1024)  # of some 64 partitions each


def _unpack(pack: dict[str, Any]) -> _Pack:
    columns = [tuple(Column(name, parse_type(text)) for name, text in c) for c in pack.get("columns", ())]
    partitions = {key: _to_entry(entry, columns) for key, entry in pack.get("partitions", {}).items()}
    failures = {
        key: PartitionFailure(**{**failure, "at": _time(failure["at"])})
        for key, failure in pack.get("failures", {}).items()
    }
    return partitions, failures


def _manifest(raw: dict[str, Any], packs: list[_Pack]) -> Manifest:
    partitions: dict[str, PartitionEntry] = {}
    failures: dict[str, PartitionFailure] = {}
    for some, failed in packs:
        partitions |= some
        failures |= failed
    return Manifest(
        number=int(raw["number"]),
        endpoint=raw["endpoint"],
        version=int(raw["version"]),
        attempt_id=raw["attempt_id"],
        run_id=raw["run_id"],
        created_at=_time(raw["created_at"]),
        outcome=raw["outcome"],
        fingerprint=raw["fingerprint"],
        server=Server(**raw["server"]),
        partitions=MappingProxyType(partitions),
        failures=MappingProxyType(failures),
        held=raw["held"],
        restored=raw.get("restored"),  # absent in manifests of before there were rollbacks
    )


def _to_entry(raw: dict[str, Any], columns: list[tuple[Column, ...]]) -> PartitionEntry:
    return PartitionEntry(
        files=tuple(
            FileEntry(_inside(path), rows, size, checksum) for path, rows, size, checksum in raw["files"]
        ),
        columns=columns[raw["columns"]],
        as_of=_time(raw["as_of"]),
        fingerprint=raw["fingerprint"],
        run_id=raw["run_id"],
        attempt_id=raw["attempt_id"],
        rows=raw["rows"],
        bytes=raw["bytes"],
        snapshot=raw["snapshot"],
        source_max=_time(raw["source_max"]) if raw["source_max"] else None,
        checks=tuple(CheckResult(*check) for check in raw["checks"]),
    )


def _inside(path: str) -> str:
    """A file's path, which must stay in the version's folder: a manifest is read, not trusted."""
    if not path.startswith("data/") or ".." in path.split("/"):
        raise ValueError(f"file {path!r} is outside the version's data")
    return path


def _time(text: str) -> datetime:
    value = datetime.fromisoformat(text)
    if value.tzinfo is None:
        raise ValueError(f"time {text!r} has no zone")
    return value
