"""The check of parity: before an asset is published, some answers from it are compared with live ones.

A source that moves on must not look like a wrong asset. So where answers differ, the same plan is run again
for these values alone, between two live runs: if these two agree, the source stood still meanwhile, and an
answer of the plan that is another proves the plan wrong. Where the plan's answer is then live's, either the
source has changed since the asset's query began, and nothing fails; or the asset holds these very rows, and
reading them is what is wrong (docs/decisions/parity-before-publishing.md).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc

from endpoints.definition import Version
from endpoints.errors import EndpointsError, QueryTimeout, Unservable, WarehouseError, WarehouseUnavailable
from endpoints.lake.files import FileCache
from endpoints.lake.filter import scalar_of
from endpoints.lake.manifest import Manifest, PartitionEntry
from endpoints.lake.publish import Lake
from endpoints.lake.read import AssetReader
from endpoints.lake.store import Store
from endpoints.parity import FLOATS, difference
from endpoints.query.bind import Bound, live_statement
from endpoints.query.ordering import ordered
from endpoints.query.plan import Plan
from endpoints.query.plan.describe import Changing, changing
from endpoints.query.slices import Bounds
from endpoints.rows import Rows
from endpoints.scratch import Scratch
from endpoints.settings import Settings
from endpoints.types import show_value, storage_schema
from endpoints.warehouse.finish import Finisher
from endpoints.warehouse.protocol import Caps, Statement, Warehouse
from orchestration.sampling import samples

SECONDS = 30.0
FREE_SECONDS = 0.5
SHARE = 0.1
"""Comparing goes on after its first answer until it has taken `FREE_SECONDS`, and this share of the time that
the asset's rows took: a check on ClickHouse's work must not be a burden of the same size."""
MOST_ROWS = 10_000
"""Rows of one answer that are compared."""
MOST_SCANNED = 5_000_000
"""Rows of an asset that has nothing to seek by: each answer reads them all."""
MOST_COPIED = 2**30
"""Bytes of an asset in a store that is not this machine's disk."""
ROUNDS = 3
# Servers before it take ORDER BY 1 for a constant, so that live rows come in no total order.
_POSITIONS_FROM = (22, 7)


class ParityBreach(EndpointsError):
    """A new asset's answer is not the live query's; the last good asset stays.

    `values` are those of the variables, private ones left out. For operators, never for callers.
    """

    def __init__(self, key: str, values: Mapping[str, object], asset: Rows, live: Rows) -> None:
        self.values, self.asset, self.live = values, asset, live
        rows = f"{asset.table.num_rows} rows from the asset, {live.table.num_rows} live"
        super().__init__(
            f"{key}: the asset's answer is not the live query's for {values or 'no values'}: {rows}."
        )


@dataclass(slots=True)
class Parity:
    """What was compared: sets of values whose answers are the same, and why others tell nothing."""

    same: int = 0
    moved: int = 0
    not_compared: list[str] = field(default_factory=list)
    excluded: tuple[str, ...] = ()

    @property
    def outcome(self) -> str:
        """`same` if any answer was compared, else `inconclusive`. What differs is a ParityBreach."""
        return "same" if self.same else "inconclusive"


def check_parity(
    version: Version,
    plan: Plan,
    manifest: Manifest,
    warehouse: Warehouse,
    lake: Lake,
    settings: Settings,
    bounds: Bounds,
    *,
    took: float,
) -> Parity:
    """Compare some answers from an asset, published or not, with live ones. ParityBreach where one differs.

    The asset is one partition, and `bounds` are its slice's, or all there is, and `bounds` are empty. `took`
    is how many seconds its rows took. Trouble of the warehouse ends the check, not the run. Raises Corrupt or
    StoreUnavailable where the asset's own files cannot be read.
    """
    unknown = changing(version.sql, plan.floats)
    if why := _unsuited(plan, manifest, lake, unknown):
        return Parity(not_compared=[why])
    files = FileCache.open(lake.store, settings)
    finisher = Finisher(workers=1)
    with closing(AssetReader(files, finisher=finisher)) as reader:
        without = unknown.columns or frozenset()
        check = _Check(version, plan, manifest, warehouse, reader, finisher, files, without, bounds)
        now = _only(manifest)[1].as_of
        for bound in samples(version, plan, manifest, files, settings.parity_samples, now):
            if not check.run(bound) or check.seconds > max(FREE_SECONDS, took * SHARE):
                break
    return check.found


def _unsuited(plan: Plan, manifest: Manifest, lake: Lake, unknown: Changing) -> str | None:
    """Why no answer of this asset is compared."""
    _, entry = _only(manifest)
    if unknown.columns is None:
        named = ", ".join((*unknown.functions, *unknown.floats))
        return f"{named} may decide which rows there are, and their order"
    if not plan.seek and plan.dimensions and entry.rows > MOST_SCANNED:
        return f"each answer reads all {entry.rows:,} rows, more than {MOST_SCANNED:,}"
    if lake.store.root is None and entry.bytes > MOST_COPIED:
        return f"the asset has {entry.bytes:,} bytes, more than are copied for this check"
    return None


def _only(manifest: Manifest) -> tuple[str, PartitionEntry]:
    """The one partition that is compared, and its entry."""
    (found,) = manifest.partitions.items()
    return found


class _Check:
    """One asset's check: the ways to an answer, and what has come of it so far."""

    def __init__(
        self,
        version: Version,
        plan: Plan,
        manifest: Manifest,
        warehouse: Warehouse,
        reader: AssetReader,
        finisher: Finisher,
        files: FileCache,
        without: frozenset[int],
        bounds: Bounds,
    ) -> None:
        self._bounds = bounds
        self._partition, self._entry = _only(manifest)
        self._version, self._plan, self._manifest, self._warehouse = version, plan, manifest, warehouse
        self._reader, self._finisher, self._files, self._without = reader, finisher, files, without
        self._which = (version.endpoint, version.number)
        self._page = min(version.limits.max_rows, MOST_ROWS)
        self._ordered = _has_total_order(version, plan, manifest.server.version) and not without
        self._began = time.monotonic()
        self.found = Parity()

    @property
    def seconds(self) -> float:
        """How long the check has taken."""
        return time.monotonic() - self._began

    def run(self, bound: Bound) -> bool:
        """Compare for these values; False where no more should be asked of the warehouse."""
        try:
            self._compare(bound)
        except (WarehouseUnavailable, QueryTimeout) as error:
            self.found.not_compared.append(f"the warehouse: {type(error).__name__}")
            return False
        except Unservable as error:
            self.found.not_compared.append(f"the asset: {error.reason}")
        except WarehouseError as error:
            self.found.not_compared.append(f"the live query: {type(error).__name__}")
        return self.seconds < SECONDS

    def _compare(self, bound: Bound) -> None:
        asset, live = self._from(self._reader, self._manifest, bound), self._live(bound)
        self.found.excluded = tuple(asset.columns[at].name for at in sorted(self._without))
        if not self._is_ordered(live) and (asset.has_more or live.has_more):
            self.found.not_compared.append(f"more than {self._page:,} rows without a total order")
        elif not self._differ(asset, live):
            self.found.same += 1
        elif self._proves_wrong(bound):
            raise ParityBreach(self._version.key, self._shown(bound), asset, live)
        else:
            self.found.moved += 1

    def _proves_wrong(self, bound: Bound) -> bool:
        """While live answers the same twice, the plan, run again, does not; or it does, and of the very rows
        that are stored.
        """
        for _ in range(ROUNDS):
            before, (again, rows), after = self._live(bound), self._again(bound), self._live(bound)
            if not self._differ(before, after):
                return self._differ(again, after) or self._holds(rows, bound)
        return False

    def _holds(self, rows: Rows, bound: Bound) -> bool:
        """The asset's rows of the sought values are these, found by a scan of all its files."""
        import pyarrow.dataset as ds  # takes pandas with it: not for loading a code location

        entry = self._entry
        if entry.rows > MOST_SCANNED:
            return False
        types = {column.name: column.type for column in entry.columns}
        sought = pc.scalar(True)
        for d in self._plan.seek:
            assert d.variable is not None
            variable, value = self._version.variables[d.variable].type, bound.values[d.variable]
            scalar = None if value is None else scalar_of(types[d.column], variable, value)
            sought &= pc.scalar(False) if scalar is None else pc.field(d.column) == scalar
        paths = [self._files.local(*self._which, file) for file in entry.files]
        found = ds.dataset(paths).to_table(filter=sought)
        stored = Rows(rows.columns, found, rows.timezone, False)
        return difference(stored, rows, floats=FLOATS, ordered=False) is None

    def _differ(self, one: Rows, other: Rows) -> bool:
        ordered_ = self._is_ordered(other)
        why = difference(one, other, floats=FLOATS, ordered=ordered_, without=self._without)
        return why is not None

    def _is_ordered(self, rows: Rows) -> bool:
        floats = rows.has_more and any("Float" in column.type.text for column in rows.columns)
        return self._ordered and not floats

    def _from(self, reader: AssetReader, manifest: Manifest, bound: Bound) -> Rows:
        return reader.read(manifest, self._plan, bound, limit=None, offset=0, max_rows=self._page)

    def _live(self, bound: Bound) -> Rows:
        statement = live_statement(
            bound, total_order=self._plan.width, at_most=self._page + 1, slice_bounds=self._bounds
        )
        caps = Caps(timeout=self._timeout(), max_memory=self._version.limits.max_memory)
        batches: list[pa.RecordBatch] = []
        with self._warehouse.run(statement, caps) as result:
            for batch in result:
                batches.append(batch)
                if sum(one.num_rows for one in batches) > self._page:
                    break
            columns, timezone = result.columns, result.timezone
        table = pa.Table.from_batches(batches, storage_schema(columns))
        return Rows(columns, table.slice(0, self._page), timezone, table.num_rows > self._page)

    def _again(self, bound: Bound) -> tuple[Rows, Rows]:
        """The plan's answer of this moment, in a lake of its own, and the rows that it is made of."""
        with closing(Scratch("parity")) as scratch:
            lake, version = Lake(Store(f"file://{scratch.path}")), self._version
            fingerprint = version.fingerprint
            attempt = lake.begin(version.endpoint, version.number, fingerprint=fingerprint, run_id="")
            sort = [dimension.column for dimension in self._plan.seek]
            caps = Caps(timeout=self._timeout(), max_rows=MOST_SCANNED)
            with (
                self._warehouse.run(self._slice(bound), caps) as result,
                attempt.writer(self._partition, result.columns, sort=sort) as writer,
            ):
                batches = list(result)
                for batch in batches:
                    writer.write(batch)
                files = writer.close()
            entry = attempt.entry(files, result.columns, as_of=self._entry.as_of)
            manifest = replace(self._manifest, partitions={self._partition: entry})
            # Not closed: its finisher is the check's.
            reader = AssetReader(FileCache(lake.store, scratch.path, 2**30), finisher=self._finisher)
            table = pa.Table.from_batches(batches, storage_schema(entry.columns))
            rows = Rows(entry.columns, table, self._manifest.server.timezone, False)
            return self._from(reader, manifest, bound), rows

    def _slice(self, bound: Bound) -> Statement:
        plan, variables = self._plan, self._version.variables
        if not plan.seek:
            return Statement(plan.materialize_sql, self._bounds)
        equal = [f"{d.column} = {{{d.variable}:{d.type_text}}}" for d in plan.seek]
        sql = f"SELECT * FROM (\n{plan.materialize_sql}\n) WHERE {' AND '.join(equal)}"  # noqa: S608  (the plan's own text)
        sought = [d.variable for d in plan.seek if d.variable is not None]
        values = {name: (variables[name].type, bound.values[name]) for name in sought}
        return Statement(sql, {**values, **self._bounds})

    def _timeout(self) -> timedelta:
        left = timedelta(seconds=max(1.0, SECONDS - self.seconds))
        return min(self._version.limits.timeout, left)

    def _shown(self, bound: Bound) -> dict[str, object]:
        variables = bound.version.variables
        return {
            name: show_value(variables[name].type, value)
            for name, value in bound.values.items()
            if not variables[name].private
        }


def _has_total_order(version: Version, plan: Plan, server: str) -> bool:
    numbers = tuple(map(int, re.findall(r"\d+", server)[:2]))
    assert plan.width is not None, "the plan has been checked"
    return numbers >= _POSITIONS_FROM and ordered(version.sql, plan.width).unordered is None
