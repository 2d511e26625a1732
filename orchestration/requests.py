"""Requests that were left in the lake become runs, and what comes of the runs is written back.

Each request is one run, found again by its tag: a sensor that is restarted at any moment asks for none twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster import DagsterRunStatus, RunRecord

from endpoints.lake.publish import Lake
from endpoints.lake.requests import Request, Requests, is_done
from endpoints.settings import Settings
from orchestration.asks import REQUEST_TAG, partition_tags
from orchestration.assets import asset_key
from orchestration.catalog import Listed
from orchestration.crashes import next_try
from orchestration.schedules import MATERIALIZE

SECONDS = 5
_TIDY_EVERY = timedelta(hours=1)
# If nobody asks for a killed run again (its sensor is switched off), the request is over after all.
_PATIENCE = timedelta(minutes=10)


def request_sensor(versions: Iterable[Listed], settings: Settings) -> dg.SensorDefinition:
    """The sensor `requests`, running by default."""
    known = {(one.version.endpoint, one.version.number): one for one in versions}

    @dg.sensor(
        name="requests",
        job=MATERIALIZE,
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=SECONDS,
        description="Runs what was asked for over HTTP, and writes back what came of it.",
    )
    def requests(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        lake, now = Lake.open(settings, probe=False), datetime.now(UTC)
        left = Requests(lake)
        waiting = [request for request in left.open() if request.by == "api"]
        asked = list(_Desk(left, lake, known, settings.run_lease, now).handle(waiting, context.instance))
        if context.cursor is None or now - datetime.fromisoformat(context.cursor) > _TIDY_EVERY:
            left.tidy(now)
            context.update_cursor(now.isoformat())
        yield from asked
        if not asked:
            yield dg.SkipReason(f"Nothing new is asked for; {len(waiting)} requests are open.")

    return requests


class _Desk:
    """Handles the open requests, at one moment."""

    def __init__(
        self,
        left: Requests,
        lake: Lake,
        known: dict[tuple[str, int], Listed],
        lease: timedelta,
        now: datetime,
    ) -> None:
        self._left, self._lake, self._known, self._lease, self._now = left, lake, known, lease, now

    def handle(self, waiting: Sequence[Request], instance: dg.DagsterInstance) -> Iterator[dg.RunRequest]:
        runs = _runs(instance, waiting)
        for request in waiting:
            if request.id in runs:
                self._follow(request, runs[request.id])
            elif why := self._refusal(request):
                self._left.close(request, dict.fromkeys(request.partitions, why))
            else:
                yield _run_request(request)

    def _refusal(self, request: Request) -> str | None:
        """Why no run can do what is asked; None where one can."""
        listed = self._known.get((request.endpoint, request.version))
        key = f"{request.endpoint}@{request.version}"
        if listed is None:
            return f"Dagster knows no {key}."
        if listed.live_only:
            return listed.live_only
        if listed.version.fingerprint != request.fingerprint:
            return f"Dagster has another definition of {key} than was asked for: ask again once it is loaded."
        return None

    def _follow(self, request: Request, records: Sequence[RunRecord]) -> None:
        newest = records[-1]
        request = self._left.started(request, newest.dagster_run.run_id)
        if newest.dagster_run.is_finished and not self._is_tried_again(newest):
            self._left.close(request, self._failed(request, newest))

    def _is_tried_again(self, record: RunRecord) -> bool:
        at = next_try(record, self._lease)
        return at is not None and self._now < at + _PATIENCE

    def _failed(self, request: Request, record: RunRecord) -> dict[str, str]:
        head = self._lake.head(request.endpoint, request.version)
        failed = {}
        for key in request.partitions:
            if not is_done(request, head, key):
                failure = head.failures.get(key) if head else None
                own = failure is not None and failure.at >= request.asked_at
                failed[key] = failure.error if failure is not None and own else _ended(record)
        return failed


def _runs(instance: dg.DagsterInstance, waiting: Sequence[Request]) -> dict[str, list[RunRecord]]:
    """The runs of each request, the newest last."""
    found: dict[str, list[RunRecord]] = defaultdict(list)
    if waiting:
        mine = dg.RunsFilter(tags={REQUEST_TAG: [request.id for request in waiting]})
        for record in instance.get_run_records(mine, ascending=True):
            found[record.dagster_run.tags[REQUEST_TAG]].append(record)
    return found


def _run_request(request: Request) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=request.id,
        asset_selection=[asset_key(request.endpoint, request.version)],
        tags={**partition_tags(request.partitions), REQUEST_TAG: request.id},
    )


def _ended(record: RunRecord) -> str:
    ends = {
        DagsterRunStatus.CANCELED: "was cancelled",
        DagsterRunStatus.FAILURE: "failed before it came to this partition",
    }
    run = record.dagster_run
    return f"Run {run.run_id} {ends.get(run.status, 'ended without it')}."
