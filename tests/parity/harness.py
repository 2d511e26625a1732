"""Asset against live: one version materialized for real, then asked both ways with the same values."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from endpoints.definition import Version
from endpoints.definition.model import Limits, Materialize, Partitions, Variable
from endpoints.errors import Unaligned
from endpoints.freshness import standing
from endpoints.lake.files import FileCache
from endpoints.lake.manifest import Manifest, Server
from endpoints.lake.publish import Lake, Published
from endpoints.lake.read import AssetReader
from endpoints.lake.store import Store
from endpoints.lake.touched import touched
from endpoints.parity import difference
from endpoints.partitions import keys
from endpoints.query.bind import Bound, bind, live_statement
from endpoints.query.plan import Plan, Refused, check_plan, make_plan, plan_at
from endpoints.query.plan.slices import sliced_column
from endpoints.query.slices import partition_bounds
from endpoints.query.variables import placeholders
from endpoints.rows import Rows
from endpoints.types import parse_type, storage_schema
from endpoints.warehouse.embedded import EmbeddedWarehouse
from endpoints.warehouse.finish import Finisher
from endpoints.warehouse.protocol import Caps, Statement, Warehouse

NOW = datetime(2026, 2, 2, 13, 7, 31, 123456, tzinfo=UTC)
"""Amid the times of `data`, so that clocks tell rows apart."""
PAGES = ((2, 0), (3, 1), (1, 2), (100, 0))
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Case:
    """A query, which of its variables are optional, and the sets of values to ask for.

    `buckets` of variables; with the values of `unaligned` no asset may answer. `clock` is the definition's.
    """

    sql: str
    given: Sequence[Mapping[str, object]] = ({},)
    optional: frozenset[str] = frozenset()
    buckets: Mapping[str, str] = field(default_factory=dict)
    unaligned: Sequence[Mapping[str, object]] = ()
    clock: str | None = None
    partitions: Partitions | None = None
    now: datetime = NOW
    missing: frozenset[int] = frozenset()
    """Of the partitions that have begun at `now`, the places of those that are not published."""


@dataclass
class Outcome:
    """What came of a case: why it was refused, or how many answers were compared, and those that differ.

    `pruned` answers read some partitions only, `live` ones could not be had: a partition is missing.
    """

    refused: Refused | None = None
    compared: int = 0
    pruned: int = 0
    live: int = 0
    differences: list[str] = field(default_factory=list)


def version_of(
    sql: str,
    optional: frozenset[str] = frozenset(),
    buckets: Mapping[str, str] | None = None,
    clock: str | None = None,
    partitions: Partitions | None = None,
) -> Version:
    """A version with that SQL, as loading would give it."""
    variables: dict[str, Variable] = {}
    for place in placeholders(sql):
        drop = place.name in optional
        type_, bucket = parse_type(place.type_text), (buckets or {}).get(place.name)
        variable = Variable(place.name, type_, not drop, drop, bucket=bucket, line=place.line)
        variables.setdefault(place.name, variable)
    number = next(_numbers)
    return Version(
        endpoint="parity",
        number=number,
        sql=sql,
        sql_file=Path("v1.sql"),
        variables=variables,
        freshness=timedelta(0),
        cache=timedelta(hours=1),
        live_when=frozenset(),
        materialize=Materialize(None, None, partitions),
        contract=None,
        limits=Limits(),
        deprecated=None,
        sunset=None,
        public=False,
        clock=clock,
        description=None,
        fingerprint="f",
        lock_parts={},
        lock_fingerprint="f",
    )


class Bench:
    """A warehouse and a lake, and the two ways to an answer."""

    def __init__(self, warehouse: Warehouse, folder: Path) -> None:
        self.warehouse = warehouse
        self.lake = Lake(Store(f"file://{folder}"))
        self.finisher = Finisher(workers=1)
        files = FileCache(self.lake.store, folder / "cache", 2**30)
        self.reader = AssetReader(files, finisher=self.finisher)

    @classmethod
    def over(cls, data: Path, lake: Path) -> Bench:
        """Embedded ClickHouse over a folder of files, and an empty lake."""
        return cls(EmbeddedWarehouse(data, workers=1), lake)

    def close(self) -> None:
        """End the workers."""
        self.reader.close()
        self.warehouse.close()

    def plan(self, version: Version) -> Plan | Refused:
        planned = make_plan(version)
        return (
            planned
            if isinstance(planned, Refused)
            else check_plan(planned, version, self.warehouse, self.finisher)
        )

    def materialize(self, version: Version, plan: Plan, row_group_rows: int | None = None) -> Manifest:
        attempt = self.lake.begin(version.endpoint, version.number, fingerprint="f", run_id="r")
        plan = plan_at(plan, version.clock, NOW)
        with self.warehouse.run(Statement(plan.materialize_sql), Caps()) as result:
            sort = [dimension.column for dimension in plan.seek]
            with attempt.writer("all", result.columns, sort=sort) as writer:
                for batch in result:
                    writer.write(batch)
            entry = attempt.entry(writer.close(), result.columns, as_of=NOW)
            server = Server("26.9", result.timezone)
        published = attempt.publish({"all": entry}, server)
        assert isinstance(published, Published)
        return published.manifest

    def materialize_partitions(self, version: Version, plan: Plan, case: Case) -> Manifest:
        """Each partition by itself, all published together; a manifest even where there are none."""
        assert case.partitions is not None
        every = keys(case.partitions, case.now) or []
        known = [key for n, key in enumerate(every) if n not in case.missing] or every[:1]
        attempt = self.lake.begin(version.endpoint, version.number, fingerprint="f", run_id="r")
        sort = [dimension.column for dimension in plan.seek]
        assert plan.slicing is not None
        (sliced,) = self.warehouse.describe(sliced_column(plan.slicing))
        entries, zone = {}, "UTC"
        for key in known:
            bounds = partition_bounds(case.partitions, key, case.now)
            assert bounds is not None
            with self.warehouse.run(Statement(plan.materialize_sql, bounds), Caps()) as result:
                with attempt.writer(key, result.columns, sort=sort) as writer:
                    for batch in result:
                        writer.write(batch)
                entries[key] = attempt.entry(writer.close(), result.columns, as_of=case.now)
                zone = result.timezone
        published = attempt.publish(entries, Server("26.9", zone, sliced.type.text))
        assert isinstance(published, Published)
        return published.manifest

    def live(self, bound: Bound, width: int) -> Rows:
        """All rows of the live query, in the total order that pages have."""
        with self.warehouse.run(live_statement(bound, total_order=width), Caps()) as result:
            table = pa.Table.from_batches(list(result), storage_schema(result.columns))
            return Rows(result.columns, table, result.timezone, False)

    def run(self, case: Case) -> Outcome:
        """Every set of values both ways, whole and as some page."""
        outcome = Outcome()
        version = version_of(case.sql, case.optional, case.buckets, case.clock, case.partitions)
        plan = self.plan(version)
        if isinstance(plan, Refused):
            outcome.refused = plan
            return outcome
        manifest = (
            self.materialize(version, plan)
            if case.partitions is None
            else self.materialize_partitions(version, plan, case)
        )
        assert plan.width is not None
        for given in case.given:
            bound = bind(version, given, now=case.now)
            needed = touched(plan, bound, manifest, case.now)
            outcome.pruned += needed is not None
            if not standing(version, manifest, case.now, needed).usable:
                outcome.live += 1
                continue
            live = self.live(bound, plan.width)
            for limit, offset in ((None, 0), PAGES[len(live.table) % len(PAGES)]):
                asset = self.reader.read(manifest, plan, bound, limit=limit, offset=offset, max_rows=100_000)
                outcome.compared += 1
                why = difference(asset, page(live, limit, offset))
                if why:
                    outcome.differences.append(f"{case.sql}\n{given} limit={limit} offset={offset}: {why}")
        for given in case.unaligned:
            try:
                bound = bind(version, given, now=case.now)
                self.reader.read(manifest, plan, bound, limit=None, offset=0, max_rows=100_000)
            except Unaligned:
                continue
            outcome.differences.append(f"{case.sql}\n{given}: answered within a bucket")
        return outcome


def page(live: Rows, limit: int | None, offset: int) -> Rows:
    """That page of all the rows."""
    size = live.table.num_rows if limit is None else limit
    follows = live.table.num_rows > offset + size
    return Rows(live.columns, live.table.slice(offset, size), live.timezone, follows)
