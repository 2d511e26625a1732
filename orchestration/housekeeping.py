"""Housekeeping, as assets with schedules of their own: the lake's old snapshots, and Dagster's old runs."""

# No `from __future__ import annotations` here: Dagster reads the context's annotation as an object.

from datetime import UTC, datetime

import dagster as dg

from endpoints.errors import LakeError
from endpoints.lake.collect import Collected, collect
from endpoints.lake.publish import Lake
from endpoints.settings import Settings
from endpoints.usage import compact, forget
from orchestration.retention import purge_runs

GROUP = "housekeeping"


def housekeeping(settings: Settings) -> tuple[list[dg.AssetsDefinition], list[dg.ScheduleDefinition]]:
    """The assets, and a schedule for each, running by default."""

    @dg.asset(
        key=[GROUP, "lake"], group_name=GROUP, description="Old snapshots, and the files that only they name."
    )
    def lake(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        done, failed = _collect_all(settings, context.log)
        if failed:
            raise dg.Failure(
                f"{failed} versions could not be collected; the log says why.", allow_retries=False
            )
        return dg.MaterializeResult(
            metadata={
                "versions": len(done),
                "manifests": sum(one.tombstones for one in done),
                "files": sum(one.files + one.segments + one.staging for one in done),
                "bytes": sum(one.bytes for one in done),
            }
        )

    @dg.asset(
        key=[GROUP, "runs"], group_name=GROUP, description="Dagster's old runs, with their events and logs."
    )
    def runs(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        done = purge_runs(context.instance, datetime.now(UTC) - settings.run_retention)
        return dg.MaterializeResult(
            metadata={"deleted": done.deleted, "kept": done.kept, "out of time": done.out_of_time}
        )

    @dg.asset(
        key=[GROUP, "usage"], group_name=GROUP, description="Usage: a file an hour, none that is too old."
    )
    def usage(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        store, now = Lake.open(settings, probe=False).store, datetime.now(UTC)
        forgotten = forget(store, now - settings.usage_retention)
        return dg.MaterializeResult(metadata={"compacted": compact(store, now), "forgotten": forgotten})

    return [lake, runs, usage], [
        _schedule("housekeeping_usage", "compact_usage", "13 * * * *", usage),
        _schedule("housekeeping", "collect_snapshots", "17 3 * * *", lake),
        _schedule("housekeeping_runs", "purge_runs", "47 * * * *", runs),
    ]


def _schedule(name: str, job: str, cron: str, asset: dg.AssetsDefinition) -> dg.ScheduleDefinition:
    return dg.ScheduleDefinition(
        name=name,
        job=dg.define_asset_job(job, [asset], description=asset.descriptions_by_key[asset.key]),
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )


def _collect_all(settings: Settings, log: dg.DagsterLogManager) -> tuple[list[Collected], int]:
    """A pass over every version in the lake; what came of each, and how many failed."""
    lake, done, failed = Lake.open(settings, probe=False), list[Collected](), 0
    for endpoint, version in lake.versions():
        now = datetime.now(UTC)
        try:
            removed = collect(
                lake, endpoint, version, now=now, retention=settings.retention, keep=settings.keep_snapshots
            )
        except LakeError as error:  # the others are collected all the same
            failed += 1
            log.error(f"{endpoint}@{version}: {error}")
            continue
        done.append(removed)
        if removed.files:
            log.info(f"{endpoint}@{version}: {removed.files} files, {removed.bytes:,} bytes")
    return done, failed
