"""One schedule per cadence, not per endpoint.

A thousand assets load in 3 s with one job and a few schedules, in 16 s with a job and a schedule each. A tick
asks for one run per version, of every partition that is due: what was missed while Dagster was down is due at
the next tick. Versions of a crowded cadence begin over some minutes, each at its own.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg
from dagster import DagsterRunStatus

from endpoints.definition import Version
from endpoints.errors import Corrupt
from endpoints.freshness import due, resting
from endpoints.lake.manifest import Manifest
from endpoints.lake.publish import Lake
from endpoints.settings import Settings
from orchestration.asks import DUE_TAG, covered, partition_tags
from orchestration.assets import asset_key
from orchestration.catalog import Listed

# The one job: runs of any selection of assets are runs of it.
MATERIALIZE = dg.define_asset_job(
    "materialize_endpoints",
    dg.AssetSelection.key_prefixes("endpoints"),
    description="Materialize endpoint versions.",
)
PER_MINUTE = 50
"""Versions of one cadence that begin in the same minute, up to LONGEST_SPREAD minutes of them."""
LONGEST_SPREAD = 30
CATCH_UP = 48
"""More partitions than this are made by a run apart, so that the newest do not wait for them."""
_READERS = 16
_SIGNS = {"*": "x", "/": "_every_", ",": "_and_", "-": "_to_", " ": "_"}
_UNDER_WAY = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
]


@dataclass(frozen=True, slots=True)
class Cadence:
    """A cron line, and the versions that have it."""

    cron: str
    versions: tuple[Version, ...]

    @property
    def minutes(self) -> int:
        """Over how many minutes its versions begin: one where few have it, or the cron has several."""
        minute = self.cron.partition(" ")[0]
        if not minute.isdecimal():
            return 1
        return max(1, min(-(-len(self.versions) // PER_MINUTE), LONGEST_SPREAD, 60 - int(minute)))

    @property
    def ticks(self) -> str:
        """The cron line with a tick for each of the minutes."""
        minute, _, rest = self.cron.partition(" ")
        return self.cron if self.minutes == 1 else f"{minute}-{int(minute) + self.minutes - 1} {rest}"

    def at(self, tick: datetime) -> tuple[list[Version], list[Version]]:
        """The versions whose minute it is; at the last tick, to be sure, those whose minute has passed."""
        if self.minutes == 1:
            return list(self.versions), []
        minute = tick.minute - int(self.cron.partition(" ")[0])
        mine = {version.key: _minute(version, self.minutes) for version in self.versions}
        late = range(minute) if minute == self.minutes - 1 else ()
        return (
            [version for version in self.versions if mine[version.key] == minute],
            [version for version in self.versions if mine[version.key] in late],
        )


def cadence_schedules(versions: Iterable[Listed], settings: Settings) -> list[dg.ScheduleDefinition]:
    """A schedule, running by default, for each cron line that any version has."""
    return [
        dg.ScheduleDefinition(
            name=_name(cadence),
            job=MATERIALIZE,
            cron_schedule=cadence.ticks,
            execution_timezone="UTC",
            execution_fn=_tick(cadence, settings),
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description=f"Materializes {len(cadence.versions)} endpoint versions at `{cadence.cron}` UTC.",
        )
        for cadence in cadences(versions)
    ]


def cadences(versions: Iterable[Listed]) -> list[Cadence]:
    """The cadences of the versions that have an asset and a schedule."""
    found: dict[str, list[Version]] = defaultdict(list)
    for version in (listed.version for listed in versions if listed.live_only is None):
        if version.materialize and version.materialize.cron:
            found[version.materialize.cron].append(version)
    return [Cadence(cron, tuple(found[cron])) for cron in sorted(found)]


def _tick(
    cadence: Cadence, settings: Settings
) -> Callable[[dg.ScheduleEvaluationContext], Iterator[dg.RunRequest | dg.SkipReason]]:
    def tick(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        lake, at = Lake.open(settings, probe=False), context.scheduled_execution_time
        under_way = runs_under_way(context.instance) if context.instance_ref else ()
        asked = 0
        for request in run_requests(cadence, lake, at, under_way, context.log.info):
            asked += 1
            yield request
        if not asked:
            yield dg.SkipReason(
                "Every version of this cadence is held, paused, past its sunset, or being made."
            )

    return tick


def run_requests(
    cadence: Cadence,
    lake: Lake,
    at: datetime,
    under_way: Iterable[dg.DagsterRun] = (),
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[dg.RunRequest]:
    """What a tick asks for: of each version whose turn it is what is due and not being made already."""
    mine, late = cadence.at(at)
    begun = at - timedelta(minutes=cadence.minutes - 1)
    covering = _covering(under_way, [*mine, *late], at)
    with ThreadPoolExecutor(_READERS, thread_name_prefix="head") as readers:
        heads = readers.map(lambda version: _head(lake, version, say), [*mine, *late])
        for number, (version, head) in enumerate(zip([*mine, *late], heads, strict=True)):
            if isinstance(head, Corrupt):
                continue
            if why := resting(version, head, at):
                say(f"{version.key} {why}")
                continue
            wanted = [key for key in due(version, head, at) if key not in covering[version.key]]
            if number >= len(mine):
                wanted = [key for key in wanted if not _tried(head, key, begun)]
            yield from _requests(version, wanted, head, at)


def _requests(
    version: Version, wanted: Sequence[str], head: Manifest | None, at: datetime
) -> Iterator[dg.RunRequest]:
    """One run; two where there is much to catch up on."""
    refresh = _refresh(version)
    parts = [wanted] if len(wanted) <= CATCH_UP else [wanted[-refresh:], wanted[:-refresh]]
    for history, part in enumerate(parts):
        if part:
            yield dg.RunRequest(
                run_key=f"{version.key} {at.isoformat()}{' history' if history else ''}",
                asset_selection=[asset_key(version.endpoint, version.number)],
                tags={
                    **partition_tags(part),
                    DUE_TAG: str(head.number if head else 0),
                    **({"dagster/priority": "-1"} if history else {}),
                },
            )


def _refresh(version: Version) -> int:
    partitions = version.materialize.partitions if version.materialize else None
    return max(partitions.refresh, 1) if partitions else 1


def runs_under_way(instance: dg.DagsterInstance) -> Sequence[dg.DagsterRun]:
    """The runs that wait or run."""
    return instance.get_runs(dg.RunsFilter(statuses=_UNDER_WAY))


def _covering(
    runs: Iterable[dg.DagsterRun], versions: Iterable[Version], at: datetime
) -> Mapping[str, Collection[str]]:
    """Of each version, by its key, the partitions that runs will make."""
    assets = {asset_key(version.endpoint, version.number): version for version in versions}
    found: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        for key in run.asset_selection or ():
            if version := assets.get(key):
                found[version.key] |= covered(version, run.tags, at)
    return found


def _head(lake: Lake, version: Version, say: Callable[[str], None]) -> Manifest | Corrupt | None:
    try:
        return lake.head(version.endpoint, version.number)
    except Corrupt as error:  # the others are made all the same
        say(f"{version.key} is left out: {error}")
        return error


def _tried(head: Manifest | None, key: str, since: datetime) -> bool:
    entry, failure = (head.partitions.get(key), head.failures.get(key)) if head else (None, None)
    return (entry is not None and entry.as_of >= since) or (failure is not None and failure.at >= since)


def _minute(version: Version, minutes: int) -> int:
    """The version's own minute, always the same: a share of the spread, by the hash of its name."""
    return int.from_bytes(hashlib.sha256(version.key.encode()).digest()[:8]) * minutes >> 64


def _name(cadence: Cadence) -> str:
    """The cadence's own word (`hourly`) where it has one, else the cron line in words."""
    words = {version.materialize.schedule for version in cadence.versions if version.materialize}
    word = words.pop() if len(words) == 1 else None
    if word and re.fullmatch(r"[a-z0-9]+", word):
        return f"cadence_{word}"
    return "cron_" + "".join(_SIGNS.get(sign, sign) for sign in cadence.cron)
