"""What a changed definition leaves behind in the lake, and what the next runs will do about it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from endpoints.definition import Version
from endpoints.errors import LakeError
from endpoints.lake.layout import HEADS, hinted
from endpoints.lake.manifest import UNPARTITIONED, Manifest
from endpoints.lake.publish import Lake
from endpoints.partitions import keys
from endpoints.query.plan import Refused, make_plan
from endpoints.settings import Settings, url_folder

_READERS = 16  # a request to S3 is mostly waiting
_WITHIN = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Rebuilds:
    """What changed definitions will have made again: a sentence for each such version, by its key.

    `unread` versions could not be looked at; `why` says what the lake said, where that was all of them.
    """

    said: Mapping[str, str] = field(default_factory=dict)
    unread: int = 0
    why: str = ""


def rebuilds(
    settings: Settings, versions: Sequence[Version], now: datetime, *, within: timedelta = _WITHIN
) -> Rebuilds:
    """What is published of the versions and is not of their definition, as far as the lake tells in time.

    One listing tells which versions have published anything; the newest snapshot of those is read, those with
    partitions first. Makes no lake where there is none, and raises nothing.
    """
    made = sorted((version for version in versions if version.materialize), key=_is_whole)
    ends = time.monotonic() + within.total_seconds()
    try:
        lake = existing_lake(settings, within)
        if lake is None or not made:
            return Rebuilds()
        heads = {hinted(found.key) for found in lake.store.list(HEADS)}
    except LakeError as error:
        return Rebuilds({}, len(made), str(error))

    def look(version: Version) -> str | LakeError | None:
        if time.monotonic() > ends:
            return LakeError("no time was left")
        try:
            said = rebuilding(version, lake.head(version.endpoint, version.number), now)
        except LakeError as error:
            return error
        return said if said and not isinstance(make_plan(version), Refused) else None

    published = [version for version in made if (version.endpoint, version.number) in heads]
    with ThreadPoolExecutor(_READERS, "rebuilds") as readers:
        found = list(zip(published, readers.map(look, published), strict=True))
    return Rebuilds(
        {version.key: said for version, said in found if isinstance(said, str)},
        sum(isinstance(said, LakeError) for _, said in found),
    )


def existing_lake(settings: Settings, patience: timedelta) -> Lake | None:
    """The lake of the settings to look into; None where its folder is not there (yet)."""
    folder = url_folder(settings.lake_url)
    if folder is not None and not folder.exists():
        return None
    return Lake.open(settings, probe=False, patience=patience)


def rebuilding(version: Version, manifest: Manifest | None, now: datetime) -> str | None:
    """A sentence for operators: which partitions are of another definition, which are new with this one, and
    which exist no longer.

    None where all that is published is of this definition.
    """
    if version.materialize is None or manifest is None:
        return None
    existing = keys(version.materialize.partitions, now) or [UNPARTITIONED]
    there, published = frozenset(existing), manifest.partitions
    changed = {key for key, entry in published.items() if entry.fingerprint != version.fingerprint}
    again = [key for key in existing if key in changed]
    new = [key for key in existing if key not in published] if changed else []
    gone = sorted(key for key in published if key not in there)
    said = []
    if again:
        said.append(f"{_named(again)} of another definition will be made again")
    if new:
        said.append(f"{_named(new)} will be made for the first time")
    if gone:
        said.append(f"{_named(gone)} will be dropped with the next run")
    return f"{'; '.join(said)}." if said else None


def _is_whole(version: Version) -> bool:
    return version.materialize is None or version.materialize.partitions is None


def _named(found: Sequence[str]) -> str:
    if list(found) == [UNPARTITIONED]:
        return "the whole asset"
    if len(found) == 1:
        return f"the partition {found[0]}"
    return f"{len(found):,} partitions ({found[0]} … {found[-1]})"
