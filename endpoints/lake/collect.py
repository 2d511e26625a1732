"""Collection: takes away what no snapshot needs, and never what a reader or a publisher still may.

The *floor* is the oldest manifest that is kept whole. Bodies below it become tombstones that name the floor
(the keys stay, so that no number can be used twice). A data file or a segment goes only when no manifest from
the floor up names it *and* it is older than `retention`, more than the longest run, cursor or response: an
attempt that is still writing is younger, and a manifest that was the newest within `retention` is kept.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta

from endpoints.lake.layout import data_folder, manifest_key, segment_folder, segment_key, version_folder
from endpoints.lake.manifest import Manifest, Tombstone, encode_tombstone, segment_names
from endpoints.lake.publish import Lake


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
    """What stays: manifests from `floor` up, and the keys of the objects that they name."""

    floor: int
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
    # What is published from here on builds on the newest kept manifest and on files too young to go.
    files, file_bytes = _delete(lake, data_folder(endpoint, version), kept.objects, before)
    segments, segment_bytes = _delete(lake, segment_folder(endpoint, version), kept.objects, before)
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
        objects.update(f"{version_folder(endpoint, version)}/{file.path}" for file in manifest.files)
        objects.update(segment_key(endpoint, version, name) for name in segment_names(body or b""))
        published += manifest.outcome == "published"
        if published >= keep and manifest.created_at < before:
            break
        number -= 1
    return _Kept(floor, objects)


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
