"""One schedule per cadence, not per endpoint.

A thousand assets load in 3 s with one job and a few schedules, in 16 s with a job and a schedule each. A tick
asks for one run per version, so that one that fails fails alone.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

import dagster as dg

from endpoints.definition import Version
from endpoints.lake.publish import Lake
from endpoints.settings import Settings
from orchestration.assets import asset_key
from orchestration.catalog import Listed

# The one job: runs of any selection of assets are runs of it.
MATERIALIZE = dg.define_asset_job(
    "materialize_endpoints",
    dg.AssetSelection.key_prefixes("endpoints"),
    description="Materialize endpoint versions.",
)
_SIGNS = {"*": "x", "/": "_every_", ",": "_and_", "-": "_to_", " ": "_"}


def cadence_schedules(versions: Iterable[Listed], settings: Settings) -> list[dg.ScheduleDefinition]:
    """A schedule, running by default, for each cron line that any version has."""
    cadences: dict[str, list[Version]] = defaultdict(list)
    for version in (listed.version for listed in versions if listed.live_only is None):
        if version.materialize and version.materialize.cron:
            cadences[version.materialize.cron].append(version)
    return [
        dg.ScheduleDefinition(
            name=_name(cron, due),
            job=MATERIALIZE,
            cron_schedule=cron,
            execution_timezone="UTC",
            execution_fn=_tick(due, settings),
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description=f"Materializes {len(due)} endpoint versions at `{cron}` UTC.",
        )
        for cron, due in sorted(cadences.items())
    ]


def _tick(
    versions: Sequence[Version], settings: Settings
) -> Callable[[dg.ScheduleEvaluationContext], Iterator[dg.RunRequest | dg.SkipReason]]:
    def tick(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        at, lake = context.scheduled_execution_time, Lake.open(settings, probe=False)
        asked = 0
        for version in versions:
            if version.sunset is not None and version.sunset <= at.date():
                context.log.info(f"{version.key} is past its sunset")
            elif _held(lake, version):
                context.log.info(f"{version.key} is held: `endpoints release {version.key}` ends that")
            else:
                asked += 1
                yield dg.RunRequest(
                    run_key=f"{version.key} {at.isoformat()}",
                    asset_selection=[asset_key(version.endpoint, version.number)],
                )
        if not asked:
            yield dg.SkipReason("Every version of this cadence is held or past its sunset.")

    return tick


def _held(lake: Lake, version: Version) -> bool:
    manifest = lake.head(version.endpoint, version.number)
    return manifest is not None and manifest.held


def _name(cron: str, versions: Sequence[Version]) -> str:
    """The cadence's own word (`hourly`) where it has one, else the cron line in words."""
    words = {version.materialize.schedule for version in versions if version.materialize}
    word = words.pop() if len(words) == 1 else None
    if word and re.fullmatch(r"[a-z0-9]+", word):
        return f"cadence_{word}"
    return "cron_" + "".join(_SIGNS.get(sign, sign) for sign in cron)
