"""The way of one question on the command line, top to bottom: bind, decide, read the asset or run live.

The same parts answer over HTTP, by the same rule; there they are shared by many callers at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Literal

import pyarrow as pa

from endpoints import freshness
from endpoints.definition import Version
from endpoints.errors import Corrupt, EndpointsError, Unservable, WarehouseError
from endpoints.freshness import Standing
from endpoints.lake.files import FileCache
from endpoints.lake.manifest import Manifest
from endpoints.lake.publish import Lake
from endpoints.lake.read import AssetReader
from endpoints.lake.touched import touched
from endpoints.query.bind import Bound, bind, live_statement
from endpoints.query.plan import Plan, Refused, make_plan
from endpoints.rows import Rows
from endpoints.settings import Settings
from endpoints.types import storage_schema
from endpoints.warehouse import open_warehouse
from endpoints.warehouse.protocol import Caps, Warehouse

Source = Literal["asset", "live", "stale"]


class NoAnswer(EndpointsError):
    """Neither the asset nor a live run may answer."""


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
    """The answer. InputError, NoAnswer, WarehouseError, StoreUnavailable."""
    version, plan = question.version, make_plan(question.version)
    lake = Lake.open(settings, probe=False)
    manifest = lake.head(version.endpoint, version.number)
    reader = AssetReader(FileCache.open(lake.store, settings), budget=settings.asset_memory_bytes)
    with closing(open_warehouse(settings)) as warehouse, closing(reader):
        timezone = manifest.server.timezone if manifest else warehouse.server().timezone
        bound = bind(version, question.given, now=now, timezone=timezone)
        live = partial(_live, warehouse, question, bound)
        never = _why_never(question, plan)
        if never is not None or isinstance(plan, Refused):
            return live(never)
        stands = freshness.standing(version, manifest, now, touched(plan, bound, manifest, now))
        asset = partial(_asset, reader, manifest, plan, stands, question, bound)
        reason = stands.state.reason
        match freshness.route(version, stands):
            case freshness.FromAsset():
                try:
                    return asset("asset")
                except Corrupt:
                    return live("corrupt")
                except Unservable as error:
                    _check_live(version)
                    return live(error.reason)
            case freshness.FromAssetStale():
                try:
                    return asset("stale")
                except Unservable as error:
                    _check_live(version)
                    return live(error.reason)
            case freshness.Live(fallback=fallback):
                try:
                    return live(reason)
                except WarehouseError:
                    if not fallback:
                        raise
                    return asset("stale")
            case freshness.Refuse():
                raise NoAnswer(f"{version.key} has no asset ({reason}), and does not run live then.")


def _why_never(question: Question, plan: Plan | Refused) -> str | None:
    """Why no asset can answer, whatever is in the lake. NoAnswer where live may not either."""
    version = question.version
    if version.materialize is None:
        return "not_materialized"
    if not question.direct and isinstance(plan, Plan):
        return None
    _check_live(version)
    return "direct" if question.direct else "unservable"


def _check_live(version: Version) -> None:
    if not version.live_when:
        raise NoAnswer(f"{version.key} never runs live (`live_when: []`).")


def _asset(
    reader: AssetReader,
    manifest: Manifest | None,
    plan: Plan,
    stands: Standing,
    question: Question,
    bound: Bound,
    source: Source,
) -> Answer:
    """One page of the published rows. Corrupt, StoreUnavailable."""
    assert manifest is not None, "only a version that has an asset is read"
    rows = reader.read(
        manifest, plan, bound, limit=question.limit, offset=question.offset, max_rows=question.limit
    )
    run_id = stands.run_id or manifest.run_id
    return Answer(rows, source, stands.state.reason, stands.last_refresh, run_id)


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
