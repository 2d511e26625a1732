"""The tags by which a run is told what it is to make, and what they mean when it begins.

A range of partitions goes by Dagster's own tags, so that its UI shows it. Which of them are meant, and since
when what has been published counts, is told by ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import dagster as dg

from endpoints.definition import Version
from endpoints.errors import EndpointsError
from endpoints.freshness import outstanding
from endpoints.lake.manifest import UNPARTITIONED
from endpoints.lake.publish import Lake
from endpoints.lake.requests import Requests
from endpoints.partitions import keys
from orchestration.once import Ask

REQUEST_TAG: Final = "endpoints/request"
"""The id of the request in the lake that names the partitions."""
DUE_TAG: Final = "endpoints/due_after"
"""Only what is due is meant; the newest snapshot when the schedule asked for it."""
RETRIES_TAG: Final = "endpoints/retries"
"""The killed runs that this one goes on for, oldest first."""
BY_TAG: Final = "endpoints/by"
"""`terminal`: somebody waits for it, who would rather hear what is wrong than have it tried again."""
PARTITION_TAG: Final = "dagster/partition"
WILL_RETRY_TAG: Final = "dagster/will_retry"
RANGE_TAGS: Final = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


class Outdated(EndpointsError):
    """What is asked for is not what the definition means any more."""


def partition_tags(wanted: Sequence[str]) -> dict[str, str]:
    """Dagster's tags for a run over these partitions, and those between them."""
    if list(wanted) == [UNPARTITIONED]:
        return {}
    if len(wanted) == 1:
        return {PARTITION_TAG: wanted[0]}
    return dict(zip(RANGE_TAGS, (wanted[0], wanted[-1]), strict=True))


def covered(version: Version, tags: Mapping[str, str], now: datetime) -> frozenset[str]:
    """The partitions that a run with these tags may make."""
    known = keys(version.materialize.partitions, now) if version.materialize else None
    if known is None:
        return frozenset({UNPARTITIONED})
    if PARTITION_TAG in tags:
        return frozenset({tags[PARTITION_TAG]})
    first, last = (tags.get(tag) for tag in RANGE_TAGS)
    if first not in known:
        return frozenset()
    end = known.index(last) if last in known else len(known) - 1
    return frozenset(known[known.index(first) : end + 1])


def ask_of(
    version: Version, run: dg.DagsterRun, created_at: datetime, partitions: Sequence[str], lake: Lake
) -> Ask:
    """What a run is to make: its tags, and the `partitions` that Dagster names. Outdated."""
    lineage = frozenset({run.run_id, *filter(None, run.tags.get(RETRIES_TAG, "").split(","))})
    if request_id := run.tags.get(REQUEST_TAG):
        request = Requests(lake).find(request_id)
        if request is None or request.fingerprint != version.fingerprint:
            raise Outdated(f"{version.key} has changed since request {request_id} was left: ask again.")
        return Ask(request.partitions, lineage, base=request.base)
    if base := run.tags.get(DUE_TAG):
        head = lake.head(version.endpoint, version.number)
        still = set(outstanding(version, head, datetime.now(UTC)))
        return Ask(tuple(key for key in partitions if key in still), lineage, base=int(base))
    return Ask(tuple(partitions), lineage, since=created_at)
