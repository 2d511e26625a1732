"""A run's work in turns, and what it says of partitions that another run has made or failed to make."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from datetime import UTC

import dagster as dg

from endpoints.definition import Version
from endpoints.errors import EndpointsError
from endpoints.lake.manifest import Manifest, PartitionEntry
from endpoints.lake.publish import Lake
from endpoints.settings import Settings
from endpoints.types import storage_schema
from orchestration.asks import ask_of
from orchestration.making import Materialized
from orchestration.materialize import Unmade
from orchestration.once import Turn, turns
from orchestration.parity import Parity


class FailedElsewhere(EndpointsError):
    """The run that made the partition at the same time failed; the same would fail again."""


def work_of(
    context: dg.AssetExecutionContext,
    version: Version,
    partitions: Sequence[str],
    lake: Lake,
    settings: Settings,
) -> AbstractContextManager[Generator[Turn, None, None]]:
    """The turns of a Dagster run over `partitions`; its claim ends with the block. Outdated."""
    run = context.run
    record = context.instance.get_run_record_by_id(run.run_id)
    assert record is not None, "a run that executes is recorded"
    created_at = record.create_timestamp
    if created_at.tzinfo is None:
        created_at = created_at.replace(tzinfo=UTC)
    ask = ask_of(version, run, created_at, partitions, lake)
    return closing(turns(version, ask, lake, settings, run_id=run.run_id, say=context.log.info))


def settled(version: Version, turn: Turn, settings: Settings) -> Iterator[Materialized | Unmade]:
    """What a turn has found made, or failed, already."""
    for key, entry in turn.made.items():
        assert turn.manifest is not None
        yield _found(version, turn.manifest, key, entry, settings)
    for key, failure in turn.failed.items():
        yield Unmade(key, FailedElsewhere(f"{failure.error} (run {failure.run_id})"))


def final(version: Version, partitions: Sequence[str], lake: Lake, settings: Settings) -> list[Materialized]:
    """What there is of partitions that need no run: others have made them since this one was asked for."""
    head = lake.head(version.endpoint, version.number)
    known = head.partitions if head else {}
    return [_found(version, head, key, known[key], settings) for key in partitions if head and key in known]


def _found(
    version: Version, manifest: Manifest, key: str, entry: PartitionEntry, settings: Settings
) -> Materialized:
    compared = Parity(not_compared=[f"Run {entry.run_id} has made it."]) if settings.parity_samples else None
    return Materialized(
        version=version,
        columns=entry.columns,
        manifest=manifest,
        partition=key,
        entry=entry,
        preview=storage_schema(entry.columns).empty_table(),
        superseded=False,
        parity=compared,
        written="another run",
        made_by=entry.run_id,
    )
