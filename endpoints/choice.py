"""Which partitions someone means who asks for a version to be made: by key, range, or what they lack."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

from endpoints.definition import Partitions, Version
from endpoints.errors import FieldError, InputError
from endpoints.freshness import outstanding
from endpoints.lake.manifest import UNPARTITIONED, Manifest
from endpoints.partitions import keys, window

Lacking = Literal["missing", "failed", "all"]
_NAMED = 10
"""How many wrong keys one error names."""


def chosen(
    version: Version,
    manifest: Manifest | None,
    now: datetime,
    *,
    partitions: Sequence[str] | None = None,
    first: str | None = None,
    last: str | None = None,
) -> tuple[str, ...]:
    """The keys named, or those from `first` to `last` with both ends; without either what is outstanding.

    In the order of time, each once. A range ends at the newest and begins at the oldest partition where it
    does not say. InputError names `partitions`, `from` or `to`.
    """
    if partitions is not None and (first is not None or last is not None):
        raise _wrong("partitions", "conflict", "Give `partitions`, or `from` and `to`, not both.")
    if partitions is not None:
        return _named(version, partitions, now)
    if first is not None or last is not None:
        return in_range(version, first, last, now)
    found = outstanding(version, manifest, now)
    if not found:
        raise _wrong(
            "partitions", "nothing_due", "Every partition is final: name those to make again, or a range."
        )
    return found


def in_range(version: Version, first: str | None, last: str | None, now: datetime) -> tuple[str, ...]:
    """The keys from `first` to `last`, both included: keys, dates or times. InputError."""
    partitions = version.materialize.partitions if version.materialize else None
    if partitions is None or partitions.start is None:
        field = "from" if first is not None else "to"
        why = "is not sliced by time" if partitions is None else "is sliced by list"
        raise _wrong(field, "no_range", f"{version.key} {why}: a range means nothing to it.")
    known = keys(partitions, now) or []
    low = max(0, _position(partitions, known, "from", first)) if first is not None else 0
    high = _position(partitions, known, "to", last) if last is not None else len(known)
    found = known[low : high + 1]
    if not found:
        least, most = (known[0], known[-1]) if known else ("none", "none")
        raise _wrong(
            "from" if first is not None else "to",
            "empty_range",
            f"There is no partition in this range; they go from {least} to {most}.",
        )
    return tuple(found)


def lacking(
    version: Version, manifest: Manifest | None, wanted: Collection[str], what: Lacking
) -> tuple[str, ...]:
    """Those of `wanted` that have no rows of this definition (`missing`), or whose last try failed."""
    return tuple(key for key in wanted if _lacks(version, manifest, key, what))


def _lacks(version: Version, manifest: Manifest | None, key: str, what: Lacking) -> bool:
    if what == "all":
        return True
    if what == "failed":
        return manifest is not None and key in manifest.failures
    entry = manifest.partitions.get(key) if manifest else None
    return entry is None or entry.fingerprint != version.fingerprint


def _named(version: Version, asked: Sequence[str], now: datetime) -> tuple[str, ...]:
    partitions = version.materialize.partitions if version.materialize else None
    known = keys(partitions, now)
    if known is None:
        known = [UNPARTITIONED]
    wanted, there = set(asked), set(known)
    if not wanted:
        raise _wrong("partitions", "empty", "Names no partition; leave it out for what is due.")
    if wanted <= there:
        return tuple(key for key in known if key in wanted)
    raise InputError(list(_unknown(version, [key for key in asked if key not in there][:_NAMED], known)))


def _unknown(version: Version, wrong: Sequence[str], known: Sequence[str]) -> Iterator[FieldError]:
    there = f"they go from {known[0]} to {known[-1]}" if known else "it has none yet"
    if list(known) == [UNPARTITIONED]:
        there = "it is not partitioned: leave `partitions` out"
    for key in wrong:
        yield FieldError(
            "partitions", "unknown_partition", f"{version.key} has no partition {key[:60]!r}; {there}."
        )


def _position(partitions: Partitions, known: Sequence[str], field: str, text: str) -> int:
    """Where the partition of a key, date or time stands in `known`; -1 is before the first of them."""
    if text in known:
        return known.index(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise _wrong(
            field, "no_time", f"{text[:60]!r} is no partition, date or time: write 2026-01-31."
        ) from None
    if at.tzinfo is None:
        at = at.replace(tzinfo=ZoneInfo(partitions.timezone))
    assert partitions.start is not None
    try:
        key = window(partitions, at).key
    except OverflowError:  # the first or the last day there is
        key = ""
    if key in known:
        return known.index(key)
    return -1 if at < partitions.start else len(known)


def _wrong(field: str, code: str, detail: str) -> InputError:
    return InputError([FieldError(field, code, detail)])
