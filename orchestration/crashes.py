"""Runs that were killed: noticed, ended as failed, and tried again.

Dagster's code server notices when the process of a run dies under it. When the server itself is gone (a
machine, a container) nobody does: the run stays STARTED and keeps its place in the pool. A run shows its life
in the lake (`endpoints.lake.claims`) and in its events; one that shows none for long enough is ended here.

What ended without any step that failed was killed, and is asked for again: up to RETRIES times, each after
twice the time. It goes on where the killed one was (`orchestration.once`). A run with an error of its own is
not tried again: an asset retries by itself what can pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import dagster as dg
import orjson
from dagster import DagsterRunStatus, RunRecord

from endpoints.lake.claims import Claims
from endpoints.lake.publish import Lake
from endpoints.settings import Settings
from orchestration.asks import BY_TAG, RETRIES_TAG, WILL_RETRY_TAG
from orchestration.schedules import MATERIALIZE

RETRIES = 3
REASON_TAG = "dagster/failure_reason"
LEASES_OF_SILENCE = 2
"""For so many leases a run may say nothing: longer than the longest pause between two tries of a step."""
_OWN_ERRORS = frozenset({"STEP_FAILURE", "RUN_EXCEPTION", "JOB_INITIALIZATION_FAILURE"})
# What Dagster writes on a run for itself, and must not be on another.
_OF_ONE_RUN = (
    *("dagster/run_key", "dagster/sensor_name", "dagster/schedule_name", "dagster/tick", REASON_TAG),
    *(WILL_RETRY_TAG, "dagster/auto_retry_run_id", "dagster/step_selection", "dagster/solid_selection"),
)
_OVERLAP = timedelta(minutes=1)
_FORGOTTEN_AFTER = timedelta(days=1)


def crash_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor `killed_runs`, running by default."""

    @dg.sensor(
        name="killed_runs",
        job=MATERIALIZE,
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=max(5, int(settings.run_lease.total_seconds() / 2)),
        description="Ends runs whose process is gone, and asks for killed ones again.",
    )
    def killed_runs(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        lake, now = Lake.open(settings, probe=False), datetime.now(UTC)
        for run in silent_runs(context.instance, lake, settings.run_lease, now):
            end_killed(context.instance, run)
        memory = _Memory.load(context.cursor, now)
        requests = list(memory.due(context.instance, settings.run_lease, now))
        context.update_cursor(memory.dump())
        yield from requests
        if not requests:
            yield dg.SkipReason("No run was killed.")

    return killed_runs


def silent_runs(
    instance: dg.DagsterInstance, lake: Lake, lease: timedelta, now: datetime
) -> Iterator[dg.DagsterRun]:
    """Running runs of endpoint versions that show no life, neither in the lake nor in their events."""
    before = (now - LEASES_OF_SILENCE * lease).timestamp()
    for record in instance.get_run_records(dg.RunsFilter(statuses=[DagsterRunStatus.STARTED])):
        run, began = record.dagster_run, record.start_time
        versions = [found for key in run.asset_selection or () if (found := _version(key))]
        if not versions or began is None or began > before or _last_event(instance, run) > before:
            continue
        claims = (Claims(lake.store, *version, lease=lease).live() for version in versions)
        if not any(claim.holder == run.run_id for live in claims for claim in live):
            yield run


def end_killed(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    """Ends the run as failed, unless it has ended meanwhile."""
    now = instance.get_run_by_id(run.run_id)
    if now is not None and not now.is_finished:
        instance.add_run_tags(run.run_id, {REASON_TAG: "UNEXPECTED_TERMINATION"})  # as Dagster itself says it
        instance.report_run_failed(
            now, "The process of this run is gone: it has shown no sign of life. What it published stays."
        )


def was_killed(run: dg.DagsterRun) -> bool:
    """Whether a run failed with no error of its own."""
    return run.status is DagsterRunStatus.FAILURE and run.tags.get(REASON_TAG) not in _OWN_ERRORS


def next_try(record: RunRecord, lease: timedelta) -> datetime | None:
    """When a run that was killed is tried again; None where it is not."""
    run = record.dagster_run
    tries = len(_killed_before(run))
    if not was_killed(run) or tries >= RETRIES or BY_TAG in run.tags or not run.asset_selection:
        return None
    ended = datetime.fromtimestamp(record.end_time or record.update_timestamp.timestamp(), UTC)
    wait: timedelta = lease / 2 * 2**tries
    return ended + wait


def retry_of(run: dg.DagsterRun) -> dg.RunRequest:
    """What asks for a killed run's work again; the same however often it is asked."""
    before = [*_killed_before(run), run.run_id]
    tags = {
        name: value
        for name, value in run.tags.items()
        if name not in _OF_ONE_RUN and not name.startswith(".dagster")
    }
    return dg.RunRequest(
        run_key=f"again {run.run_id}",
        asset_selection=sorted(run.asset_selection or ()),
        tags={
            **tags,
            RETRIES_TAG: ",".join(before),
            "dagster/parent_run_id": run.run_id,
            "dagster/root_run_id": before[0],
            "dagster/retry_number": str(len(before)),
        },
    )


@dataclass
class _Memory:
    """The sensor's cursor: until when failed runs have been looked at, and when the next tries are due."""

    seen: datetime
    waiting: dict[str, datetime] = field(default_factory=dict)

    @classmethod
    def load(cls, cursor: str | None, now: datetime) -> _Memory:
        if cursor is None:
            return cls(now - _FORGOTTEN_AFTER)
        raw: Mapping[str, Mapping[str, str]] = orjson.loads(cursor)
        waiting = {run_id: datetime.fromisoformat(at) for run_id, at in raw["waiting"].items()}
        return cls(datetime.fromisoformat(str(raw["seen"])), waiting)

    def dump(self) -> str:
        return orjson.dumps({"seen": self.seen, "waiting": self.waiting}).decode()

    def due(self, instance: dg.DagsterInstance, lease: timedelta, now: datetime) -> Iterator[dg.RunRequest]:
        """The next tries whose time has come. Those of long ago (Dagster was down) are asked for too."""
        failed = dg.RunsFilter(statuses=[DagsterRunStatus.FAILURE], updated_after=self.seen - _OVERLAP)
        for record in instance.get_run_records(failed):
            if (at := next_try(record, lease)) is not None:
                self.waiting.setdefault(record.dagster_run.run_id, at)
        self.seen = now
        for run_id in [run_id for run_id, at in self.waiting.items() if at <= now]:
            del self.waiting[run_id]
            if (run := instance.get_run_by_id(run_id)) is not None:
                yield retry_of(run)


def _killed_before(run: dg.DagsterRun) -> list[str]:
    return [run_id for run_id in run.tags.get(RETRIES_TAG, "").split(",") if run_id]


def _last_event(instance: dg.DagsterInstance, run: dg.DagsterRun) -> float:
    records: Iterable[dg.EventLogRecord] = instance.get_records_for_run(
        run.run_id, limit=1, ascending=False
    ).records
    return max((record.timestamp for record in records), default=0.0)


def _version(key: dg.AssetKey) -> tuple[str, int] | None:
    """The endpoint and version that an asset is of."""
    match list(key.path):
        case ["endpoints", endpoint, number] if number[:1] == "v" and number[1:].isdecimal():
            return endpoint, int(number[1:])
    return None
