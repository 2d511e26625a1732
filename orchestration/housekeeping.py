"""Housekeeping: once a day, what no snapshot needs any more is taken out of the lake."""

# No `from __future__ import annotations` here: Dagster reads the context's annotation as an object.

from datetime import UTC, datetime

import dagster as dg

from endpoints.errors import LakeError
from endpoints.lake.collect import collect
from endpoints.lake.publish import Lake
from endpoints.settings import Settings


def housekeeping(settings: Settings) -> dg.ScheduleDefinition:
    """The daily schedule, running by default, and its job."""

    @dg.op(description="Collect old snapshots and the files that only they name.")
    def collect_lake(context: dg.OpExecutionContext) -> None:
        lake, failed = Lake.open(settings, probe=False), 0
        for endpoint, version in lake.versions():
            try:
                removed = collect(
                    lake,
                    endpoint,
                    version,
                    now=datetime.now(UTC),
                    retention=settings.retention,
                    keep=settings.keep_snapshots,
                )
            except LakeError as error:  # the others are collected all the same
                failed += 1
                context.log.error(f"{endpoint}@{version}: {error}")
            else:
                context.log.info(f"{endpoint}@{version}: {removed.files} files, {removed.bytes:,} bytes")
        if failed:
            raise dg.Failure(f"{failed} versions could not be collected; the log says why.")

    @dg.job(description="Take out of the lake what no snapshot needs.")
    def collect_snapshots() -> None:
        collect_lake()

    return dg.ScheduleDefinition(
        name="housekeeping",
        job=collect_snapshots,
        cron_schedule="17 3 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
