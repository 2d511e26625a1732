"""Collection: takes away what no snapshot needs, and never what a reader or a publisher still may.

The *floor* is the oldest manifest that is kept whole. Bodies below it become tombstones that name the floor
(the keys stay, so that no number can be used twice). A data file or a segment goes only when no manifest from
the floor up names it *and* it is older than `retention`, more than the longest run, cursor or response: an
attempt that is still writing is younger, and a manifest that was the newest within `retention` is kept.

A rollback makes old files new again. It marks itself before it reads the old manifest, and takes the mark
away after it has published. Collection buries old manifests, then looks for marks, then reads what has been
published meanwhile: either it sees the mark, and deletes nothing in this pass; or the rollback has ended, and
its manifest is read; or it has yet to read the old manifest, and finds a tombstone.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta

from endpoints.lake.layout import (
    data_folder,
    manifest_key,
    rollback_folder,
    segment_folder,
    segment_key,
    version_folder,
)
from endpoints.lake.manifest import Manifest, Tombstone, encode_tombstone, segment_names
from endpoints.lake.publish import Lake

# A rollback takes seconds; the mark of one that was killed must not stop collection for ever.
ABANDONED = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Collected:
    """What one pass over a version removed; `bytes` of files and segments. `floor` 0: nothing published."""

    floor: int
    tombstones: int
    files: int
    segments: int
    bytes: int
    staging: int


@dataclass(frozen=True, slots=True)
class _Kept:
    """What stays: manifests from `floor` up to `newest`, and the keys of the objects that they name."""

    floor: int
    newest: int
    objects: AbstractSet[str]


def collect(
    lake: Lake, endpoint: str, version: int, *, now: datetime, retention: timedelta, keep: int
) -> Collected:
    """One pass. Keeps the newest `keep` published snapshots, and all that was newest within `retention`.

    Killed at any point it has only done less; two at once do the same work twice. Corrupt or StoreUnavailable
    end the pass before anything is deleted that could be in use.
    """
    before = now - retention
    kept = _survey(lake, endpoint, version, before, keep)
    tombstones = _bury(lake, endpoint, version, kept.floor)
    files = file_bytes = segments = segment_bytes = 0
    if not _rolling_back(lake, endpoint, version, now - max(retention, ABANDONED)):
        # What is published from here on builds on the newest manifest and on files too young to go.
        objects = kept.objects | _survey_from(lake, endpoint, version, kept.newest)
        files, file_bytes = _delete(lake, data_folder(endpoint, version), objects, before)
        segments, segment_bytes = _delete(lake, segment_folder(endpoint, version), objects, before)
    return Collected(
        floor=kept.floor,
        tombstones=tombstones,
        files=files,
        segments=segments,
        bytes=file_bytes + segment_bytes,
        staging=lake.store.sweep(version_folder(endpoint, version), before),
    )


def _survey(lake: Lake, endpoint: str, version: int, before: datetime, keep: int) -> _Kept:
    """Reads manifests from the newest down to the floor.

    The newest one that is older than `before` was still the newest then, so it is the floor at the earliest.
    """
    newest = lake.head(endpoint, version)
    number = newest.number if newest else 0
    floor, published, objects = 0, 0, set[str]()
    while number:
        key = manifest_key(endpoint, version, number)
        body = lake.store.get(key)
        manifest = lake.decode(endpoint, version, key, body) if body else None
        if not isinstance(manifest, Manifest):
            break
        floor = number
        objects |= _named(manifest, body or b"")
        published += manifest.outcome == "published"
        if published >= keep and manifest.created_at < before:
            break
        number -= 1
    return _Kept(floor, newest.number if newest else 0, objects)


def _survey_from(lake: Lake, endpoint: str, version: int, number: int) -> set[str]:
    """The objects that manifests past `number` name."""
    objects = set[str]()
    while body := lake.store.get(key := manifest_key(endpoint, version, number := number + 1)):
        manifest = lake.decode(endpoint, version, key, body)
        assert isinstance(manifest, Manifest), "newer than what this pass keeps"
        objects |= _named(manifest, body)
    return objects


def _named(manifest: Manifest, body: bytes) -> set[str]:
    """The keys of a manifest's files and segments."""
    endpoint, version = manifest.endpoint, manifest.version
    files = {f"{version_folder(endpoint, version)}/{file.path}" for file in manifest.files}
    return files | {segment_key(endpoint, version, name) for name in segment_names(body)}


def _rolling_back(lake: Lake, endpoint: str, version: int, abandoned: datetime) -> bool:
    """Whether a rollback is under way; marks from before `abandoned` are taken away."""
    found = list(lake.store.list(rollback_folder(endpoint, version)))
    for mark in found:
        if mark.modified < abandoned:
            lake.store.delete(mark.key)
    return any(mark.modified >= abandoned for mark in found)


def _bury(lake: Lake, endpoint: str, version: int, floor: int) -> int:
    """Puts tombstones below `floor`; how many.

    Number 1 is last: its tombstone tells the floor up to which all is done, to the next pass and to whoever
    walks from the start.
    """
    first = lake.manifest(endpoint, version, 1)
    done = first.floor if isinstance(first, Tombstone) else 1
    if floor <= done:
        return 0
    for number in [*range(max(done, 2), floor), 1]:
        lake.store.put(manifest_key(endpoint, version, number), encode_tombstone(floor))
    return floor - done


def _delete(lake: Lake, folder: str, keep: AbstractSet[str], before: datetime) -> tuple[int, int]:
    """Deletes what is old and not kept: how many objects, and their bytes."""
    doomed = [o for o in lake.store.list(folder) if o.key not in keep and o.modified < before]
    for found in doomed:
        lake.store.delete(found.key)
    return len(doomed), sum(found.size for found in doomed)
