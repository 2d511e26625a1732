"""Every endpoint version as an asset: materialized ones, live-only ones, broken ones.

Specs are built from the definitions alone: loading asks neither ClickHouse nor the lake, so that a thousand
endpoints load in seconds and a warehouse that is away does not take the code location down.
"""

# No `from __future__ import annotations` here: Dagster reads the context's annotation as an object.

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import timedelta
from typing import Any

import dagster as dg

from endpoints.definition import Definitions, Version
from endpoints.errors import (
    CheckBreach,
    ContractBreach,
    EndpointsError,
    StoreUnavailable,
    WarehouseUnavailable,
)
from endpoints.lake.layout import version_folder
from endpoints.lake.manifest import UNPARTITIONED
from endpoints.lake.publish import Lake
from endpoints.settings import Settings
from endpoints.units import show_duration
from endpoints.warehouse import open_warehouse
from orchestration.catalog import Listed
from orchestration.checks import check_specs, contract_breach, own_breach, parity_breach, passed_checks
from orchestration.lineage import lineage_metadata
from orchestration.making import Materialized, Progress, Watch
from orchestration.markdown import markdown_rows
from orchestration.materialize import Tell, Unmade, materialize, materialize_partitions
from orchestration.once import Turn
from orchestration.parity import ParityBreach
from orchestration.partitions import partitions_def, partitions_of
from orchestration.shared import final, settled, work_of
from orchestration.sources import owner_of, table_key

POOL = "clickhouse"
DATA_VERSION_TAG, CODE_VERSION_TAG = "dagster/data_version", "dagster/code_version"
_SHOWN = 50  # partitions that failed, in one run's metadata
# For what passes by itself; anything else fails at once, since it would fail again.
RETRY = dg.RetryPolicy(max_retries=2, delay=10, backoff=dg.Backoff.EXPONENTIAL)
_PASSES = (WarehouseUnavailable, StoreUnavailable)

Report = Callable[[Version, Progress], None]


def asset_key(endpoint: str, version: int) -> dg.AssetKey:
    """The key of a version's asset, `endpoints/<name>/v<N>`."""
    return dg.AssetKey(["endpoints", endpoint, f"v{version}"])


def version_assets(
    versions: Iterable[Listed], settings: Settings
) -> Iterator[dg.AssetsDefinition | dg.AssetSpec]:
    """One asset for each version that can be materialized, an external one for each that cannot."""
    for listed in versions:
        yield version_spec(listed) if listed.live_only else version_asset(listed, settings)


def broken_assets(definitions: Definitions) -> Iterator[dg.AssetSpec]:
    """An external asset for each endpoint whose files are wrong, with what is wrong."""
    for name, problems in definitions.broken.items():
        if name not in definitions.endpoints:
            listed = "\n".join(f"- {problem}" for problem in problems)
            yield dg.AssetSpec(
                dg.AssetKey(["endpoints", name, "broken"]),
                description="The definition is broken: run `endpoints validate`.",
                group_name="broken",
                metadata={"problems": dg.MetadataValue.md(listed)},
            )


def version_asset(
    listed: Listed,
    settings: Settings,
    *,
    retry: dg.RetryPolicy | None = RETRY,
    report: Report | None = None,
    only: Collection[str] | None = None,
    tell: Tell = lambda outcome: None,
) -> dg.AssetsDefinition:
    """The asset of one version. `report` hears of a run's progress; without it the run's log does.

    Of a version with partitions a run makes those of its range, `only` these of them where that is given;
    `tell` hears of each as soon as it is published.
    """
    if partitions_of(listed.version) is not None:
        return _partitioned_asset(listed, settings, retry, report, only, tell)
    version, spec = listed.version, version_spec(listed)

    @dg.multi_asset(
        name=_op_name(version),
        specs=[spec],
        check_specs=list(check_specs(listed, spec.key, settings)),
        pool=POOL,
        retry_policy=retry,
        can_subset=False,
    )
    def run(context: dg.AssetExecutionContext) -> Any:
        def made(turn: Turn) -> Iterator[Materialized | Unmade]:
            yield from settled(version, turn, settings)
            if turn.mine:
                yield materialize(
                    version,
                    warehouse,
                    lake,
                    settings,
                    sources=listed.sources,
                    run_id=context.run.run_id,
                    watch=_watch(context, version, report),
                )

        try:
            with closing(open_warehouse(settings)) as warehouse:
                lake = Lake.open(settings)
                with work_of(context, version, [UNPARTITIONED], lake, settings) as work:
                    (done,) = [outcome for turn in work for outcome in made(turn)]
                if isinstance(done, Unmade):
                    raise done.error
                lineage = lineage_metadata(version, done.columns, warehouse)
        except ContractBreach as breach:
            yield contract_breach(version, breach)
            # A failed check alone would leave a materialization event and a green run.
            raise dg.Failure(str(breach), allow_retries=False) from breach
        except ParityBreach as breach:
            yield parity_breach(breach)
            raise dg.Failure(str(breach), allow_retries=False) from breach
        except CheckBreach as breach:
            yield from own_breach(breach)
            raise dg.Failure(str(breach), allow_retries=False) from breach
        except EndpointsError as error:
            raise dg.Failure(str(error), allow_retries=isinstance(error, _PASSES)) from error
        yield from passed_checks(listed, [done], lake)
        yield dg.MaterializeResult(
            metadata=_metadata(done, settings) | lineage, data_version=dg.DataVersion(_content(done))
        )

    return run


def _partitioned_asset(
    listed: Listed,
    settings: Settings,
    retry: dg.RetryPolicy | None,
    report: Report | None,
    only: Collection[str] | None,
    tell: Tell,
) -> dg.AssetsDefinition:
    """The asset of a version with partitions: one run makes a whole range, and says so of each partition."""
    version, spec = listed.version, version_spec(listed)

    @dg.multi_asset(
        name=_op_name(version),
        # No output: it would stand for all partitions of the run, those that failed among them.
        specs=[spec.replace_attributes(skippable=True)],
        check_specs=list(check_specs(listed, spec.key, settings)),
        partitions_def=partitions_def(version),
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=POOL,
        retry_policy=retry,
        can_subset=False,
    )
    def run(context: dg.AssetExecutionContext) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult[None]]:
        lineage: dict[str, Any] | None = None  # the same of every partition

        def said(outcome: Materialized | Unmade) -> None:
            nonlocal lineage
            if isinstance(outcome, Materialized):
                if lineage is None:
                    lineage = lineage_metadata(version, outcome.columns, warehouse)
                context.log_event(_partition_event(outcome, spec, settings, lineage))
            else:
                context.log.error(f"{outcome.partition}: {outcome.error}")
            tell(outcome)

        keys = [key for key in context.partition_keys if only is None or key in only]
        outcomes: list[Materialized | Unmade] = []
        try:
            with closing(open_warehouse(settings)) as warehouse:
                lake = Lake.open(settings)
                with work_of(context, version, keys, lake, settings) as work:
                    for turn in work:
                        for outcome in settled(version, turn, settings):
                            said(outcome)
                            outcomes.append(outcome)
                        if turn.mine:
                            outcomes += materialize_partitions(
                                version,
                                warehouse,
                                lake,
                                settings,
                                sources=listed.sources,
                                run_id=context.run.run_id,
                                partitions=turn.mine,
                                watch=_watch(context, version, report),
                                tell=said,
                            )
        except CheckBreach as breach:
            yield from own_breach(breach)
            raise dg.Failure(str(breach), allow_retries=False) from breach
        except EndpointsError as error:
            raise dg.Failure(str(error), allow_retries=isinstance(error, _PASSES)) from error
        failed = [one for one in outcomes if isinstance(one, Unmade)]
        if failed:
            yield from _breaches(version, failed)
            raise _some_failed(version, failed, len(outcomes))
        published = [one for one in outcomes if isinstance(one, Materialized)]
        # A scheduled run may find nothing due any more; Dagster wants to hear of every check all the same.
        yield from passed_checks(listed, published or final(version, keys, lake, settings), lake)

    return run


def _watch(context: dg.AssetExecutionContext, version: Version, report: Report | None) -> Watch:
    """Who hears of a run's progress: `report`, or the run's log."""

    def watch(progress: Progress) -> None:
        if report:
            report(version, progress)
            return
        which = (
            "" if progress.asked == 1 else f"{progress.partition} ({progress.done + 1}/{progress.asked}): "
        )
        context.log.info(f"{which}{progress.rows:,} rows in {progress.seconds:.1f} s")

    return watch


def _partition_event(
    done: Materialized, spec: dg.AssetSpec, settings: Settings, lineage: Mapping[str, Any]
) -> dg.AssetMaterialization:
    """One partition's materialization, with its own metadata."""
    metadata = {**_metadata(done, settings), **lineage}
    metadata["dagster/partition_row_count"] = metadata.pop("dagster/row_count")
    tags = {DATA_VERSION_TAG: _content(done)}
    if spec.code_version:
        tags[CODE_VERSION_TAG] = spec.code_version
    return dg.AssetMaterialization(spec.key, partition=done.partition, metadata=metadata, tags=tags)


def _breaches(version: Version, failed: Sequence[Unmade]) -> Iterator[dg.AssetCheckResult]:
    """The first breach of each kind: a check has one result for a run."""
    errors = [one.error for one in failed]
    for contract in [error for error in errors if isinstance(error, ContractBreach)][:1]:
        yield contract_breach(version, contract)
    for parity in [error for error in errors if isinstance(error, ParityBreach)][:1]:
        yield parity_breach(parity)
    for own in [error for error in errors if isinstance(error, CheckBreach)][:1]:
        yield from own_breach(own)


def _some_failed(version: Version, failed: Sequence[Unmade], asked: int) -> dg.Failure:
    """The end of a run some of whose partitions failed: those that are good are published."""
    first = failed[0]
    which = first.partition if len(failed) == 1 else f"{first.partition} and {len(failed) - 1} more"
    return dg.Failure(
        f"{version.key}: {len(failed)} of {asked} partitions failed: {which}: {first.error}",
        metadata={
            "failed": dg.MetadataValue.json({one.partition: str(one.error) for one in failed[:_SHOWN]})
        },
        allow_retries=False,
    )


def version_spec(listed: Listed) -> dg.AssetSpec:
    """All that Dagster shows of a version before any run."""
    endpoint, version, live_only = listed.endpoint, listed.version, listed.live_only
    metadata: dict[str, Any] = {
        "sql": dg.MetadataValue.md(f"```sql\n{version.sql.strip()}\n```"),
        "current": endpoint.current == version.number,
        "freshness": show_duration(version.freshness),
        "variables": ", ".join(f"{v.name}: {v.type}" for v in version.variables.values()) or "none",
    }
    if version.deprecated:
        metadata["deprecated"] = version.deprecated.isoformat()
    if version.sunset:
        metadata["sunset"] = version.sunset.isoformat()
    if live_only:
        metadata["live only"] = live_only
    return dg.AssetSpec(
        asset_key(endpoint.name, version.number),
        deps=[table_key(table) for table in listed.reads],
        description=version.description or endpoint.description,
        metadata=metadata,
        group_name=_name(endpoint.tags[0]) if endpoint.tags else "endpoints",
        owners=[owner_of(endpoint.owner)] if endpoint.owner else [],
        tags={tag: "" for tag in map(_tag, endpoint.tags) if tag},
        kinds={"clickhouse"} if live_only else {"clickhouse", "parquet"},
        code_version=version.lock_fingerprint,
        freshness_policy=None if live_only else _freshness(version),
    )


def _freshness(version: Version) -> dg.FreshnessPolicy:
    """The promise of `freshness:`; Dagster knows none shorter than a minute."""
    return dg.FreshnessPolicy.time_window(fail_window=max(version.freshness, timedelta(minutes=1)))


# -- what a run tells ---------------------------------------------------------------------------------------


def _metadata(done: Materialized, settings: Settings) -> dict[str, Any]:
    version, entry = done.version, done.entry
    folder = f"{settings.lake_url.rstrip('/')}/{version_folder(version.endpoint, version.number)}"
    return {
        "dagster/row_count": entry.rows,
        "dagster/column_schema": dg.TableSchema(
            [
                dg.TableColumn(
                    c.name, str(c.type), constraints=dg.TableColumnConstraints(nullable=c.type.nullable)
                )
                for c in done.columns
            ]
        ),
        "preview": dg.MetadataValue.md(_preview(done)),
        "snapshot": entry.snapshot,
        "bytes": entry.bytes,
        "as_of": dg.MetadataValue.timestamp(entry.as_of),
        **({"source_max": dg.MetadataValue.timestamp(entry.source_max)} if entry.source_max else {}),
        "outcome": done.outcome,
        "superseded": done.superseded,
        "written": done.written,
        **({"made by": done.made_by} if done.made_by else {}),
        "lake": dg.MetadataValue.path(folder),
        "files": dg.MetadataValue.json([file.path for file in entry.files]),
    }


def _preview(done: Materialized) -> str:
    """The first rows as a Markdown table: answers, or what is stored where answers are made when read."""
    rows, timezone = done.preview, done.manifest.server.timezone
    stored = [column for column in done.entry.columns if column.name in rows.column_names]
    answers = {column.name for column in done.columns}
    columns = [column for column in stored if column.name in answers] or stored
    return markdown_rows(columns, [rows[column.name] for column in columns], timezone)


def _content(done: Materialized) -> str:
    """A hash of the published bytes: the same rows give the same data version."""
    checksums = " ".join(file.checksum for file in done.entry.files)
    return hashlib.sha256(checksums.encode()).hexdigest()


# -- names that Dagster takes -------------------------------------------------------------------------------


def _name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", text)


def _op_name(version: Version) -> str:
    """Unique among all versions: `a-b` and `a_b` would be one name otherwise."""
    mark = f"_{hashlib.sha256(version.endpoint.encode()).hexdigest()[:8]}" if "-" in version.endpoint else ""
    return f"endpoints__{_name(version.endpoint)}__v{version.number}{mark}"


def _tag(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text)[:63].strip("_.-")
