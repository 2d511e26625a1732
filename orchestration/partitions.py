"""Partitions as Dagster has them: their definition, with our keys, and which of them a run is about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final
from zoneinfo import ZoneInfo

import dagster as dg

from endpoints.definition import Partitions, Version

RANGE_START: Final = "dagster/asset_partition_range_start"
RANGE_END: Final = "dagster/asset_partition_range_end"
_CRON: Final = {"hour": "0 * * * *", "day": "0 0 * * *", "week": "0 0 * * 1", "month": "0 0 1 * *"}
_HOURS, _DAYS = "%Y-%m-%d-%H:%M", "%Y-%m-%d"


def partitions_of(version: Version) -> Partitions | None:
    """How the version is sliced, if it is."""
    return version.materialize.partitions if version.materialize else None


def partitions_def(version: Version) -> dg.PartitionsDefinition[str] | None:
    """The partitions as Dagster's, under the same keys; the current one, which has begun, included."""
    partitions = partitions_of(version)
    if partitions is None:
        return None
    if partitions.start is None:
        return dg.StaticPartitionsDefinition(list(partitions.values))
    zone, fmt = ZoneInfo(partitions.timezone), _HOURS if partitions.by == "hour" else _DAYS
    return dg.TimeWindowPartitionsDefinition(
        start=partitions.start.astimezone(zone),
        end=None if partitions.end is None else partitions.end.astimezone(zone),
        fmt=fmt,
        timezone=partitions.timezone,
        cron_schedule=_CRON[partitions.by],
        end_offset=1,
    )


def run_tags(first: str, last: str) -> dict[str, str]:
    """Tags of the one run that makes all partitions from `first` to `last`."""
    return {RANGE_START: first, RANGE_END: last}


def runs_of(keys: Sequence[str], every: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(first, last) of each run of neighbours among `every`, in their order: one Dagster run each."""
    places = {key: place for place, key in enumerate(every)}
    first = last = None
    for key in sorted((key for key in keys if key in places), key=places.__getitem__):
        if last is not None and places[key] == places[last] + 1:
            last = key
            continue
        if first is not None and last is not None:
            yield first, last
        first = last = key
    if first is not None and last is not None:
        yield first, last
