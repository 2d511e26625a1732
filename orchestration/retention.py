"""Retention of Dagster's own records: runs, with their events and captured output.

Dagster deletes old ticks by itself (`retention:` in dagster.yaml), runs never. A run whose materialization is
the latest one of an asset, or of one of its partitions, is kept however old it is: Dagster would take that
partition for missing, and a backfill of what is missing would make it again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import dagster as dg
from dagster import DagsterEventType, DagsterRunStatus

SECONDS = 300.0
"""A pass is over after so long; the next one goes on."""
_ENDED = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]
_PAGE = 200
_IDS = 500


@dataclass(frozen=True, slots=True)
class Purged:
    """Runs deleted, and old ones that were kept for what they made last. `out_of_time`: there may be more."""

    deleted: int
    kept: int
    out_of_time: bool


def purge_runs(instance: dg.DagsterInstance, before: datetime, *, seconds: float = SECONDS) -> Purged:
    """Delete ended runs of before that time, those that ended up old most recently first.

    In that order what a busy day leaves is deleted though there be many that are kept.
    """
    until = time.monotonic() + seconds
    latest: dict[dg.AssetKey, frozenset[str]] = {}
    deleted = kept = 0
    for run_id in _old_runs(instance, before):
        if time.monotonic() >= until:
            return Purged(deleted, kept, True)
        if _made_the_latest(instance, run_id, latest):
            kept += 1
            continue
        _delete(instance, run_id)
        deleted += 1
    return Purged(deleted, kept, False)


def _old_runs(instance: dg.DagsterInstance, before: datetime) -> Iterator[str]:
    """Newest first. By time, not by Dagster's cursor: that is a run, which may be deleted by then."""
    while True:
        wanted = dg.RunsFilter(statuses=_ENDED, created_before=before)
        records = instance.get_run_records(wanted, limit=_PAGE)
        yield from (record.dagster_run.run_id for record in records)
        if len(records) < _PAGE:
            return
        before = records[-1].create_timestamp


def _made_the_latest(
    instance: dg.DagsterInstance, run_id: str, latest: dict[dg.AssetKey, frozenset[str]]
) -> bool:
    """Whether any asset or partition would be without a materialization if the run were deleted."""
    made = instance.get_records_for_run(run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION).records
    for key in {record.asset_key for record in made if record.asset_key}:
        if key not in latest:
            latest[key] = frozenset(_latest_runs(instance, key))
        if run_id in latest[key]:
            return True
    return False


def _latest_runs(instance: dg.DagsterInstance, key: dg.AssetKey) -> Iterator[str]:
    """The runs of the newest materialization of an asset, and of each of its partitions."""
    newest = instance.get_latest_materialization_event(key)
    if newest is not None:
        yield newest.run_id
    ids = instance.event_log_storage.get_latest_storage_id_by_partition(
        key, DagsterEventType.ASSET_MATERIALIZATION
    )
    for some in _batches(sorted(ids.values())):
        wanted = dg.AssetRecordsFilter(key, storage_ids=some)
        yield from (record.run_id for record in instance.fetch_materializations(wanted, limit=_IDS).records)


def _delete(instance: dg.DagsterInstance, run_id: str) -> None:
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    instance.delete_run(run_id)
    # SQLite has a file for each run's events, which Dagster empties and leaves.
    file_of = getattr(instance.event_log_storage, "path_for_shard", None)
    if file_of is not None:
        for end in ("", "-shm", "-wal"):
            Path(f"{file_of(run_id)}{end}").unlink(missing_ok=True)


def _batches(ids: list[int]) -> Iterator[list[int]]:
    return (ids[start : start + _IDS] for start in range(0, len(ids), _IDS))
