"""The path of a materialization, top to bottom: plan, check the plan, run, write and audit, compare, publish.

Knows nothing of Dagster: `assets.py` turns what happens here into Dagster's events. Nothing a reader can see
changes before `publish`, and every attempt ends as a manifest, a failed one as well.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa

from endpoints.cardinality import measure, sources_fit, too_large
from endpoints.definition import Contract, Source, Version
from endpoints.errors import CheckBreach, ContractBreach, EndpointsError
from endpoints.lake.files import FileCache
from endpoints.lake.manifest import UNPARTITIONED, CheckResult, Manifest, PartitionEntry, Server
from endpoints.lake.publish import Attempt, Lake, Superseded
from endpoints.query.plan import Plan, Refusal, Refused, check_plan, make_plan, plan_at
from endpoints.query.plan.check import live_example
from endpoints.query.widest import widest
from endpoints.settings import Settings
from endpoints.types import Column, storage_schema
from endpoints.warehouse.protocol import Caps, ServerInfo, Statement, Warehouse
from orchestration.causes import cause_of
from orchestration.own_checks import check_rows, check_warehouse
from orchestration.parity import Parity, ParityBreach, check_parity
from orchestration.upstream import ask_sources

PROGRESS_EVERY = 0.5
PREVIEW_ROWS = 10

log = logging.getLogger(__name__)


class NotMaterializable(EndpointsError):
    """The version has no asset: its definition says so, or its query cannot be answered from one exactly."""


class QueryRefused(NotMaterializable):
    """ClickHouse refuses the query itself, as it would live."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: rows and bytes (of Arrow) that have come from the warehouse, and seconds."""

    rows: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Materialized:
    """What is published now, and the columns of the answers that are read from it.

    `superseded`: a run that began later had published before this one. `parity` is None where no answers were
    to be compared.
    """

    version: Version
    columns: tuple[Column, ...]
    manifest: Manifest
    partition: str
    entry: PartitionEntry
    preview: pa.Table
    superseded: bool
    parity: Parity | None


Watch = Callable[[Progress], None]


def materialize(
    version: Version,
    warehouse: Warehouse,
    lake: Lake,
    settings: Settings,
    *,
    run_id: str,
    sources: Sequence[Source] = (),
    watch: Watch = lambda progress: None,
) -> Materialized:
    """Run the version's query, hold its rows to the contract and its answers to live's, and publish them.

    `sources` are asked for their newest row first. Raises NotMaterializable, ContractBreach, ParityBreach,
    CheckBreach, a WarehouseError (AssetTooLarge where there are more rows than allowed) or a LakeError; the
    asset that was there stays.
    """
    plan = plan_of(version)
    most = version.limits.max_asset_rows or settings.max_asset_rows
    attempt = lake.begin(version.endpoint, version.number, fingerprint=version.fingerprint, run_id=run_id)
    with _recorded(attempt):
        plan = _checked(plan, version, warehouse)
        columns = warehouse.describe(live_example(version))
        if _may_be_too_large(lake.head(version.endpoint, version.number), version, most):
            _refuse_too_large(version, plan, warehouse, most)
        info = warehouse.server()
        plan = plan_at(plan, version.clock, info.now)
        checks = check_warehouse(version, warehouse)
        upstream = ask_sources(sources, warehouse, info.now)
        entry, preview = _write(version, plan, warehouse, info, attempt, most, _paced(watch))
        entry = upstream.mark(entry)
        server = Server(info.version, info.timezone)
        checks += check_rows(version, plan, entry, server, warehouse, FileCache.open(lake.store, settings))
        entry = replace(entry, checks=entry.checks + checks)
        parity = None
        if settings.parity_samples:
            parity = check_parity(version, plan, attempt.draft(entry, server), warehouse, lake, settings)
        published = attempt.publish({UNPARTITIONED: entry}, server)
    return Materialized(
        version,
        columns,
        published.manifest,
        UNPARTITIONED,
        published.manifest.partitions[UNPARTITIONED],
        preview,
        superseded=isinstance(published, Superseded),
        parity=parity,
    )


def plan_of(version: Version) -> Plan:
    """The version's plan, from its text alone. NotMaterializable with the reason where there is none."""
    if version.materialize is None:
        raise NotMaterializable(f"{version.key} is live only: its definition has no `materialize:`.")
    plan = make_plan(version)
    if isinstance(plan, Refused):
        raise NotMaterializable(_why(version, plan.reasons))
    return plan


def _checked(plan: Plan, version: Version, warehouse: Warehouse) -> Plan:
    checked = check_plan(plan, version, warehouse)
    if isinstance(checked, Refused):
        refused = any(reason.code == "query" for reason in checked.reasons)
        raise (QueryRefused if refused else NotMaterializable)(_why(version, checked.reasons))
    return checked


def _why(version: Version, reasons: tuple[Refusal, ...]) -> str:
    return f"{version.key} runs live only: " + "; ".join(map(str, reasons))


@contextmanager
def _recorded(attempt: Attempt) -> Iterator[None]:
    """However the block ends but well, the attempt ends as a manifest that says so; the error goes on."""
    try:
        yield
    except BaseException as error:  # an interrupted run is a failed attempt as well
        try:
            breached = isinstance(error, ContractBreach | ParityBreach | CheckBreach)
            unservable = isinstance(error, NotMaterializable) and not isinstance(error, QueryRefused)
            cause, summary = cause_of(error)
            attempt.fail(
                "breached" if breached else "failed",
                _sentence(error),
                unservable=unservable,
                cause=cause,
                summary=summary,
            )
        except EndpointsError:
            log.exception("the failure of attempt %s could not be recorded", attempt.attempt_id)
        raise


def _sentence(error: BaseException) -> str:
    if not isinstance(error, Exception):
        return "The run was interrupted."
    return str(error) if isinstance(error, EndpointsError) else f"{type(error).__name__}: {error}"


def _may_be_too_large(head: Manifest | None, version: Version, most: int) -> bool:
    """Whether to count before writing: not where the rows of before, of this definition, were far fewer.

    Counting costs a part of what materializing does (docs/decisions/rows-are-counted-first.md).
    """
    entry = head.partitions.get(UNPARTITIONED) if head else None
    return entry is None or entry.fingerprint != version.fingerprint or entry.rows > most // 2


def _refuse_too_large(version: Version, plan: Plan, warehouse: Warehouse, most: int) -> None:
    if sources_fit(plan, warehouse, most):
        return
    found = measure(plan, warehouse)
    if found.rows > most:
        raise too_large(version, found, most)


def _write(
    version: Version,
    plan: Plan,
    warehouse: Warehouse,
    server: ServerInfo,
    attempt: Attempt,
    most: int,
    watch: Watch,
) -> tuple[PartitionEntry, pa.Table]:
    """Stream the rows into the lake and through the audit at once; both hold a batch at a time."""
    # pandera takes most of a second to import: not for loading a code location, which every run does.
    from endpoints.contract import Audit

    contract, checks = version.contract or Contract(), tuple[CheckResult, ...]()
    if plan.finish_sql is not None:  # what is stored are parts of answers
        checks, contract = _audit_answers(version, plan, warehouse, server.now), Contract()
    began, rows, size = time.monotonic(), 0, 0
    first: list[pa.RecordBatch] = []
    with warehouse.run(Statement(plan.materialize_sql), Caps()) as result:
        within = _within(plan)
        audit = Audit(contract, result.columns, unique_within=within, timezone=result.timezone)
        with audit, attempt.writer(UNPARTITIONED, result.columns, sort=tuple(within)) as writer:
            for batch in result:
                if rows + batch.num_rows > most:  # it has grown since it was last counted
                    result.close()
                    raise too_large(version, measure(plan, warehouse), most)
                writer.write(batch)
                audit.add(batch)
                first += [batch.slice(0, PREVIEW_ROWS)] if rows < PREVIEW_ROWS else []
                rows, size = rows + batch.num_rows, size + batch.nbytes
                watch(Progress(rows, size, time.monotonic() - began))
            files = writer.close()
            checks += audit.finish()
        entry = attempt.entry(files, result.columns, as_of=server.now, checks=checks)
    return entry, pa.Table.from_batches(first, storage_schema(result.columns)).slice(0, PREVIEW_ROWS)


def _audit_answers(
    version: Version, plan: Plan, warehouse: Warehouse, moment: datetime
) -> tuple[CheckResult, ...]:
    """Hold the contract to whole answers, in a query of its own: the widest for each set of seek values."""
    from endpoints.contract import Audit

    if version.contract is None:
        return ()
    answers = make_plan(widest(version, _within(plan).values()))
    if isinstance(answers, Refused) or answers.finish_sql is not None:
        why = "its contract cannot be checked: leave out `contract`, or `materialize`"
        raise NotMaterializable(f"{version.key} runs live only: {why}.")
    answers = plan_at(answers, version.clock, moment)
    with warehouse.run(Statement(answers.materialize_sql), Caps()) as result:
        within = _within(answers)
        with Audit(version.contract, result.columns, unique_within=within, timezone=result.timezone) as audit:
            for batch in result:
                audit.add(batch)
            return audit.finish()


def _within(plan: Plan) -> dict[str, str]:
    """The seek dimensions: hidden column → variable."""
    return {d.column: d.variable for d in plan.seek if d.variable is not None}


def _paced(watch: Watch) -> Watch:
    """At most one call every half second: a run of millions of rows is thousands of batches."""
    last = 0.0

    def paced(progress: Progress) -> None:
        nonlocal last
        if progress.seconds - last >= PROGRESS_EVERY:
            last = progress.seconds
            watch(progress)

    return paced
