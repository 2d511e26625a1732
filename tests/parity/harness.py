"""Asset against live: one version materialized for real, then asked both ways with the same values."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from endpoints.definition import Version
from endpoints.definition.model import Limits, Materialize, Variable
from endpoints.errors import Unaligned
from endpoints.lake.files import FileCache
from endpoints.lake.manifest import Manifest, Server
from endpoints.lake.publish import Lake, Published
from endpoints.lake.read import AssetReader
from endpoints.lake.store import Store
from endpoints.parity import difference
from endpoints.query.bind import Bound, bind, live_statement
from endpoints.query.plan import Plan, Refused, check_plan, make_plan, plan_at
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


@dataclass
class Outcome:
    """What came of a case: why it was refused, or how many answers were compared, and those that differ."""

    refused: Refused | None = None
    compared: int = 0
    differences: list[str] = field(default_factory=list)


def version_of(
    sql: str,
    optional: frozenset[str] = frozenset(),
    buckets: Mapping[str, str] | None = None,
    clock: str | None = None,
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
        freshness=timedelta(hours=1),
        cache=timedelta(hours=1),
        live_when=frozenset(),
        materialize=Materialize(None, None),
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

    def live(self, bound: Bound, width: int) -> Rows:
        """All rows of the live query, in the total order that pages have."""
        with self.warehouse.run(live_statement(bound, total_order=width), Caps()) as result:
            table = pa.Table.from_batches(list(result), storage_schema(result.columns))
            return Rows(result.columns, table, result.timezone, False)

    def run(self, case: Case) -> Outcome:
        """Every set of values both ways, whole and as some page."""
        outcome = Outcome()
        version = version_of(case.sql, case.optional, case.buckets, case.clock)
        plan = self.plan(version)
        if isinstance(plan, Refused):
            outcome.refused = plan
            return outcome
        manifest = self.materialize(version, plan)
        assert plan.width is not None
        for given in case.given:
            bound = bind(version, given, now=NOW)
            live = self.live(bound, plan.width)
            for limit, offset in ((None, 0), PAGES[len(live.table) % len(PAGES)]):
                asset = self.reader.read(manifest, plan, bound, limit=limit, offset=offset, max_rows=100_000)
                outcome.compared += 1
                why = difference(asset, page(live, limit, offset))
                if why:
                    outcome.differences.append(f"{case.sql}\n{given} limit={limit} offset={offset}: {why}")
        for given in case.unaligned:
            try:
                bound = bind(version, given, now=NOW)
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
