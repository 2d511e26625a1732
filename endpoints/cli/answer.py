"""The way of one question on the command line, top to bottom: bind, decide, read the asset or run live.

The same parts answer over HTTP, by the same rule; there they are shared by many callers at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pyarrow as pa

from endpoints.decision import Decision, Source, decide
from endpoints.definition import Version
from endpoints.errors import Corrupt, StoreUnavailable, Unservable, WarehouseError
from endpoints.lake.files import FileCache
from endpoints.lake.publish import Lake
from endpoints.lake.read import AssetReader
from endpoints.query.bind import Bound, bind, live_statement
from endpoints.query.plan import Plan, make_plan
from endpoints.rows import Rows
from endpoints.settings import Settings
from endpoints.types import storage_schema
from endpoints.warehouse import open_warehouse
from endpoints.warehouse.protocol import Caps, Warehouse


@dataclass(frozen=True, slots=True)
class Question:
    """A version, its variables as text, and which page of the answer. `direct`: never from the asset."""

    version: Version
    given: Mapping[str, object]
    limit: int
    offset: int = 0
    direct: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows and where they came from; `reason` says why not from the fresh asset."""

    rows: Rows
    source: Source
    reason: str | None
    last_refresh: datetime | None
    execution_id: str


def answer(settings: Settings, question: Question, now: datetime) -> Answer:
    """The answer. InputError, NoAsset, WarehouseError, StoreUnavailable."""
    version, made = question.version, make_plan(question.version)
    plan = made if isinstance(made, Plan) else None
    lake = Lake.open(settings, probe=False)
    manifest = lake.head(version.endpoint, version.number)
    reader = AssetReader(FileCache.open(lake.store, settings), budget=settings.asset_memory_bytes)
    with closing(open_warehouse(settings)) as warehouse, closing(reader):
        timezone = manifest.server.timezone if manifest else warehouse.server().timezone
        bound = bind(version, question.given, now=now, timezone=timezone)
        decision = decide(version, plan, manifest, bound, now, direct=question.direct)
        if decision.source != "live":
            try:
                return _asset(reader, plan, decision, question, bound)
            except (Corrupt, StoreUnavailable):
                decision = decision.live_instead(version, "corrupt")
            except Unservable as error:
                decision = decision.live_instead(version, error.reason)
        try:
            return _live(warehouse, question, bound, decision.reason)
        except WarehouseError as error:
            if not decision.fallback:
                raise
            try:
                return _asset(reader, plan, replace(decision, source="stale"), question, bound)
            except (Corrupt, StoreUnavailable, Unservable):
                raise error from None


def _asset(
    reader: AssetReader, plan: Plan | None, decision: Decision, question: Question, bound: Bound
) -> Answer:
    """One page of the published rows. Corrupt, StoreUnavailable, Unservable."""
    manifest, stands = decision.manifest, decision.standing
    assert manifest is not None, "only a version that has an asset is read"
    assert plan is not None
    rows = reader.read(
        manifest, plan, bound, limit=question.limit, offset=question.offset, max_rows=question.limit
    )
    run_id = stands.run_id or manifest.run_id
    return Answer(rows, decision.source, decision.reason, stands.last_refresh, run_id)


def _live(warehouse: Warehouse, question: Question, bound: Bound, reason: str | None) -> Answer:
    """One page of the query's own rows, in the order in which the asset has them. WarehouseError."""
    limits = question.version.limits
    started = datetime.now(UTC)
    columns = warehouse.describe(live_statement(bound))
    last = question.offset + question.limit
    statement = live_statement(bound, total_order=len(columns), at_most=last + 1)
    pages: list[pa.RecordBatch] = []
    seen = 0
    caps = Caps(timeout=limits.timeout, max_rows=None, max_memory=limits.max_memory)
    with warehouse.run(statement, caps) as result:
        for batch in result:
            first = max(question.offset - seen, 0)
            if first < batch.num_rows and seen < last:
                pages.append(batch.slice(first, min(batch.num_rows, last - seen) - first))
            seen += batch.num_rows
            if seen > last:  # one row more is known: leaving stops the query
                break
        table = pa.Table.from_batches(pages, storage_schema(result.columns))
        rows = Rows(result.columns, table, result.timezone, has_more=seen > last)
        return Answer(rows, "live", reason, started, result.query_id)
