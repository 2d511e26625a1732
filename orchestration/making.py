"""The path of a materialization, top to bottom: plan, check, run, write and audit, compare, publish."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa

from endpoints.cardinality import measure, sources_fit, too_large
from endpoints.definition import Contract, Source, Version
from endpoints.errors import EndpointsError
from endpoints.lake.files import FileCache
from endpoints.lake.manifest import UNPARTITIONED, CheckResult, Manifest, PartitionEntry, Server
from endpoints.lake.onserver import server_side, written_rows
from endpoints.lake.publish import Lake, Published
from endpoints.query.plan import Plan, Refusal, Refused, check_plan, make_plan, plan_at
from endpoints.query.plan.check import live_example
from endpoints.query.plan.slices import edges_statement, sliced_column
from endpoints.query.slices import Bounds, only_slice
from endpoints.query.widest import widest
from endpoints.settings import Settings
from endpoints.types import Column, storage_schema
from endpoints.warehouse.protocol import Caps, ServerInfo, Statement, Warehouse
from orchestration.own_checks import check_rows, check_warehouse
from orchestration.parity import Parity, check_parity
from orchestration.upstream import ask_sources

PROGRESS_EVERY = 0.5
PREVIEW_ROWS = 10


class NotMaterializable(EndpointsError):
    """The version has no asset: its definition says so, or its query cannot be answered from one exactly."""


class QueryRefused(NotMaterializable):
    """ClickHouse refuses the query itself, as it would live."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: rows and bytes (of Arrow) that have come from the warehouse, and seconds.

    Of which partition, and how many of all that were asked for are done.
    """

    rows: int
    bytes: int
    seconds: float
    partition: str = UNPARTITIONED
    done: int = 0
    asked: int = 1


@dataclass(frozen=True, slots=True)
class Materialized:
    """What is published now, and the columns of the answers that are read from it.

    `superseded`: a run that began later had published before this one. `parity` is None where no answers were
    to be compared. `written` tells who wrote the files. `made_by`: the other run that made it, for this one
    as well.
    """

    version: Version
    columns: tuple[Column, ...]
    manifest: Manifest
    partition: str
    entry: PartitionEntry
    preview: pa.Table
    superseded: bool
    parity: Parity | None
    written: str
    made_by: str | None = None

    @property
    def outcome(self) -> str:
        """In one word: `published` by this run, `superseded` by a later one, or `shared` with another."""
        return "superseded" if self.superseded else "shared" if self.made_by else "published"


@dataclass(frozen=True, slots=True)
class Made:
    """A partition that is written, not yet published."""

    entry: PartitionEntry
    preview: pa.Table
    parity: Parity | None
    written: str


Watch = Callable[[Progress], None]


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


class Making:
    """One run of a version: what all of its partitions share, and how one is made."""

    def __init__(
        self,
        version: Version,
        warehouse: Warehouse,
        lake: Lake,
        settings: Settings,
        run_id: str,
        partitions: Sequence[str],
        sources: Sequence[Source],
        watch: Watch,
    ) -> None:
        self.version, self.warehouse, self.lake, self.settings = version, warehouse, lake, settings
        self.sources, self.watch = sources, watch
        self.most = version.limits.max_asset_rows or settings.max_asset_rows
        self.plan = plan_of(version)
        self.head = lake.head(version.endpoint, version.number)
        self.attempt = lake.begin(
            version.endpoint,
            version.number,
            fingerprint=version.fingerprint,
            run_id=run_id,
            partitions=partitions,
        )

    def prepare(self) -> None:
        """Check the plan, once for all partitions, and ask how new the sources are."""
        self.plan = _checked(self.plan, self.version, self.warehouse)
        self.columns = self.warehouse.describe(live_example(self.version))
        self.info = self.warehouse.server()
        self.plan = plan_at(self.plan, self.version.clock, self.info.now)
        self.server = Server(self.info.version, self.info.timezone, sliced=self._sliced())
        self.upstream = ask_sources(self.sources, self.warehouse, self.info.now)
        self.checks = check_warehouse(self.version, self.warehouse)
        self.writes = server_side(self.warehouse, self.lake.store, self.settings.lake_collection)

    def make(self, partition: str, bounds: Bounds, *, most: int, compared: bool, done: int = 0) -> Made:
        """One partition's files, audited and compared with live; at most `most` rows."""
        # The one moment that a clock is bound to, or when this partition's query begins.
        info = self.info if self.plan.slicing is None else self.warehouse.server()
        asked = len(self.attempt.partitions)
        self._check_edges(partition, bounds)
        if self._may_be_too_large(partition, most):
            self._refuse_too_large(bounds, most)

        def watch(progress: Progress) -> None:
            self.watch(replace(progress, partition=partition, done=done, asked=asked))

        began = time.monotonic()
        entry, preview, written = self._write(partition, bounds, info, most, watch)
        took = time.monotonic() - began
        entry, parity = self.upstream.mark(entry), None
        files = FileCache.open(self.lake.store, self.settings)
        checks = check_rows(
            only_slice(self.version, bounds), self.plan, entry, self.server, self.warehouse, files
        )
        entry = replace(entry, checks=entry.checks + self.checks + checks)
        if self.settings.parity_samples and compared:
            draft = self.attempt.draft(entry, self.server, partition)
            parity = check_parity(
                self.version, self.plan, draft, self.warehouse, self.lake, self.settings, bounds, took=took
            )
        return Made(entry, preview, parity, written)

    def publish(self, made: Mapping[str, Made], existing: Collection[str] | None) -> tuple[Materialized, ...]:
        """Publish these together; what is published of each now."""
        entries = {partition: one.entry for partition, one in made.items()}
        published = self.attempt.publish(entries, self.server, existing=existing)
        manifest = self.head = published.manifest
        passed_over = published.passed_over if isinstance(published, Published) else tuple(made)
        return tuple(
            Materialized(
                self.version,
                self.columns,
                manifest,
                partition,
                manifest.partitions.get(partition, one.entry),
                one.preview,
                superseded=partition in passed_over,
                parity=one.parity,
                written=one.written,
            )
            for partition, one in made.items()
        )

    def _sliced(self) -> str:
        """The type of the partition column; "" where nothing is sliced."""
        if self.plan.slicing is None:
            return ""
        (column,) = self.warehouse.describe(sliced_column(self.plan.slicing))
        return column.type.text

    def _check_edges(self, partition: str, bounds: Bounds) -> None:
        """A partition that begins where no day of the server does would hold a part of two."""
        statement = edges_statement(self.version, partition, bounds)
        if statement is None:
            return
        with self.warehouse.run(statement, Caps()) as result:
            agreed = pa.Table.from_batches(list(result)).column(0)[0].as_py()
        if not agreed:
            raise NotMaterializable(
                f"{self.version.key}: in ClickHouse {partition} does not begin and end where it does here: "
                "the two know different rules of its time zone. Update tzdata, here or there."
            )

    def _may_be_too_large(self, partition: str, most: int) -> bool:
        """Whether to count before writing: not where the rows of before, of this definition, were far fewer.

        Counting costs a part of what materializing does (docs/decisions/rows-are-counted-first.md). A
        partition is like the largest there is.
        """
        known = self.head.partitions if self.head else {}
        mine = [known[partition]] if partition in known else list(known.values())
        rows = [entry.rows for entry in mine if entry.fingerprint == self.version.fingerprint]
        return not rows or max(rows) > most // 2

    def _refuse_too_large(self, bounds: Bounds, most: int) -> None:
        if sources_fit(self.plan, self.version, self.warehouse, most, bounds):
            return
        found = measure(self.plan, self.warehouse, bounds)
        if found.rows > most:
            raise too_large(self.version, found, most)

    def _write(
        self, partition: str, bounds: Bounds, server: ServerInfo, most: int, watch: Watch
    ) -> tuple[PartitionEntry, pa.Table, str]:
        """Bring the rows into the lake and through the audit, a batch at a time; tell who wrote them."""
        # pandera takes most of a second to import: not for loading a code location, which every run does.
        from endpoints.contract import Audit

        plan, attempt = self.plan, self.attempt
        contract, checks = self.version.contract or Contract(), tuple[CheckResult, ...]()
        if plan.slicing is not None:  # `rows` are of the whole asset
            contract = replace(contract, rows_min=None, rows_max=None)
        if plan.finish_sql is not None:  # what is stored are parts of answers
            checks, contract = self._audit_answers(bounds, server.now), Contract()
        began, rows, size = time.monotonic(), 0, 0
        first: list[pa.RecordBatch] = []
        statement, within = Statement(plan.materialize_sql, bounds), _within(plan)
        with written_rows(
            self.warehouse, self.writes, attempt, partition, statement, tuple(within)
        ) as writing:
            result, writer = writing.rows, writing.files
            audit = Audit(contract, result.columns, unique_within=within, timezone=result.timezone)
            with audit:
                for batch in result:
                    if rows + batch.num_rows > most:  # it has grown since it was last counted
                        result.close()
                        raise too_large(self.version, measure(plan, self.warehouse, bounds), most)
                    writer.write(batch)
                    audit.add(batch)
                    first += [batch.slice(0, PREVIEW_ROWS)] if rows < PREVIEW_ROWS else []
                    rows, size = rows + batch.num_rows, size + batch.nbytes
                    watch(Progress(rows, size, time.monotonic() - began))
                files = writer.close()
                checks += audit.finish()
            entry = attempt.entry(files, result.columns, as_of=server.now, checks=checks)
        preview = pa.Table.from_batches(first, storage_schema(result.columns)).slice(0, PREVIEW_ROWS)
        return entry, preview, writing.how

    def _audit_answers(self, bounds: Bounds, moment: datetime) -> tuple[CheckResult, ...]:
        """Hold the contract to whole answers, in a query of its own: the widest for each set of seek values;
        of a partition, to answers from its slice.
        """
        from endpoints.contract import Audit

        version = self.version
        if version.contract is None:
            return ()
        contract = version.contract
        if self.plan.slicing is not None:
            contract = replace(contract, rows_min=None, rows_max=None)
        answers = make_plan(only_slice(widest(version, _within(self.plan).values()), bounds))
        if isinstance(answers, Refused) or answers.finish_sql is not None:
            why = "its contract cannot be checked: leave out `contract`, or `materialize`"
            raise NotMaterializable(f"{version.key} runs live only: {why}.")
        answers = plan_at(answers, version.clock, moment)
        with self.warehouse.run(Statement(answers.materialize_sql), Caps()) as result:
            within = _within(answers)
            with Audit(contract, result.columns, unique_within=within, timezone=result.timezone) as audit:
                for batch in result:
                    audit.add(batch)
                return audit.finish()


def _within(plan: Plan) -> dict[str, str]:
    """The seek dimensions: hidden column → variable."""
    return {d.column: d.variable for d in plan.seek if d.variable is not None}


def paced(watch: Watch) -> Watch:
    """At most one call every half second: a run of millions of rows is thousands of batches."""
    last = 0.0

    def paced(progress: Progress) -> None:
        nonlocal last
        if progress.seconds - last >= PROGRESS_EVERY:
            last = progress.seconds
            watch(progress)

    return paced
