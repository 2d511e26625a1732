"""Partitions, from definition to snapshot: each its own slice, audit and entry."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl
import pyarrow as pa
import pytest

from endpoints.errors import WarehouseUnavailable
from endpoints.freshness import Missing, standing
from endpoints.lake.files import FileCache
from endpoints.lake.manifest import Manifest
from endpoints.lake.read import AssetReader
from endpoints.query.bind import bind
from endpoints.query.plan import Plan, make_plan
from endpoints.query.plan.slices import edges_statement
from endpoints.rebuilding import rebuilding
from endpoints.types import parse_type
from endpoints.warehouse import open_warehouse
from endpoints.warehouse.protocol import Caps, Result, Statement, Warehouse
from orchestration.assets import asset_key
from orchestration.catalog import catalog
from orchestration.definitions import compose
from orchestration.making import Materialized, NotMaterializable
from orchestration.materialize import NoSuchPartition, Unmade, materialize_partitions
from orchestration.partitions import run_tags
from orchestration.run import Wanted
from orchestration.run import run as run_now
from orchestration.schedules import MATERIALIZE

if TYPE_CHECKING:
    from tests.orchestration.conftest import Project

NOW = datetime.now(UTC)
TODAY = NOW.date()
FIRST = TODAY - timedelta(days=5)
DAYS = [(FIRST + timedelta(days=n)).isoformat() for n in range(6)]
BY_DAY = {"column": "at", "by": "day", "start": FIRST.isoformat()}
SQL = """
SELECT toDate(at) AS day, item, count() AS orders
FROM visits
WHERE shop = {shop:String}
GROUP BY day, item
ORDER BY day, item
"""


def visits(days: Sequence[date], of: str = "tea") -> pl.DataFrame:
    """Two visits of the north shop and one of the south at noon of each day."""
    rows = [
        (shop, of, datetime(d.year, d.month, d.day, 12)) for d in days for shop in ("north", "north", "s")
    ]
    return pl.DataFrame(
        rows, schema={"shop": pl.String, "item": pl.String, "at": pl.Datetime("ms", "UTC")}, orient="row"
    )


@pytest.fixture
def sliced(project: Project) -> Project:
    """Five whole days of visits, one before them and one in the future."""
    days = [FIRST - timedelta(days=1), *(date.fromisoformat(day) for day in DAYS), TODAY + timedelta(days=3)]
    visits(days).write_parquet(project.folder / "data" / "visits.parquet")
    return replace(project, settings=project.settings.model_copy(update={"parity_samples": 0}))


def define(project: Project, sql: str = SQL, partitions: dict[str, Any] = BY_DAY, **more: Any) -> None:
    project.define("visits", sql, materialize={"schedule": "daily", "partitions": partitions}, **more)


def run(
    project: Project, warehouse: Warehouse, partitions: Sequence[str], run_id: str = "run-1"
) -> list[Materialized | Unmade]:
    return materialize_partitions(
        project.version("visits"),
        warehouse,
        project.lake,
        project.settings,
        run_id=run_id,
        partitions=partitions,
    )


def head(project: Project) -> Manifest:
    manifest = project.lake.head("visits", 1)
    assert manifest is not None
    return manifest


def answer(project: Project, **given: object) -> list[tuple[Any, ...]]:
    version = project.version("visits")
    plan = make_plan(version)
    assert isinstance(plan, Plan)
    reader = AssetReader(FileCache.open(project.lake.store, project.settings))
    bound = bind(version, given, now=NOW)
    rows = reader.read(head(project), plan, bound, limit=None, offset=0, max_rows=1000)
    reader.close()
    return [tuple(row.values()) for row in rows.table.to_pylist()]


class Counting:
    """A warehouse that keeps what was run, and how many rows each statement gave."""

    def __init__(self, of: Warehouse) -> None:
        self._of, self.ran = of, list[Statement]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of, name)

    def run(self, statement: Statement, caps: Caps, *, query_id: str | None = None) -> Result:
        self.ran.append(statement)
        return self._of.run(statement, caps, query_id=query_id)


def test_each_partition_stores_its_own_slice(sliced: Project, warehouse: Warehouse) -> None:
    define(sliced)
    done = run(sliced, warehouse, DAYS)
    assert [one.partition for one in done] == DAYS
    manifest = head(sliced)
    assert manifest.number == 1, "they are published together"
    assert {key: entry.rows for key, entry in manifest.partitions.items()} == dict.fromkeys(DAYS, 2)
    assert [row[2] for row in answer(sliced, shop="north")] == [2] * 6


def test_one_run_over_a_range_says_so_of_each_partition(sliced: Project) -> None:
    define(sliced)
    with dg.DagsterInstance.ephemeral() as instance:
        job = compose(sliced.settings).resolve_job_def(MATERIALIZE.name)
        key = asset_key("visits", 1)
        result = job.execute_in_process(
            instance=instance, asset_selection=[key], tags=run_tags(DAYS[0], DAYS[2]), raise_on_error=False
        )
        assert result.success
        events = result.get_asset_materialization_events()
        found = {e.partition: e.step_materialization_data.materialization.metadata for e in events}
        assert list(found) == DAYS[:3]
        assert [m["dagster/partition_row_count"].value for m in found.values()] == [2] * 3
        assert set(head(sliced).partitions) == set(DAYS[:3])
        one = job.execute_in_process(instance=instance, asset_selection=[key], partition_key=DAYS[5])
        assert one.success
        assert set(instance.get_materialized_partitions(key)) == {*DAYS[:3], DAYS[5]}


def test_a_run_reads_its_slice_alone(sliced: Project, warehouse: Warehouse) -> None:
    """Rows are read from ClickHouse between the bounds of the partition, which every statement carries."""
    define(sliced, "SELECT shop, item, at FROM visits WHERE shop = {shop:String}")
    counting = Counting(warehouse)
    (done,) = run(sliced, counting, DAYS[1:2])
    assert isinstance(done, Materialized)
    assert done.entry.rows == 3
    start = int(datetime.fromisoformat(f"{DAYS[1]}T00:00:00+00:00").timestamp())
    for statement in counting.ran:
        if "FROM visits" in statement.sql:
            bounds = {name: value for name, (_, value) in statement.parameters.items()}
            assert (bounds["__from"], bounds["__until"]) == (start, start + 86_400)


def test_what_fails_keeps_its_old_rows_and_the_others_are_published(
    sliced: Project, warehouse: Warehouse
) -> None:
    define(sliced, contract={"columns": {"item": {"isin": ["tea"]}}})
    run(sliced, warehouse, DAYS[:3])
    before = head(sliced).partitions[DAYS[1]]
    rows = pl.read_parquet(sliced.folder / "data" / "visits.parquet")
    bad = pl.when(pl.col("at").dt.date() == date.fromisoformat(DAYS[1])).then(pl.lit("mud")).otherwise("item")
    rows.with_columns(item=bad).write_parquet(sliced.folder / "data" / "visits.parquet")
    with closing(open_warehouse(sliced.settings)) as changed:
        done = run(sliced, changed, DAYS[:3], "run-2")
    assert [type(one) for one in done] == [Materialized, Materialized, Unmade]
    manifest = head(sliced)
    assert manifest.partitions[DAYS[1]] == before
    assert {key: failure.outcome for key, failure in manifest.failures.items()} == {DAYS[1]: "breached"}
    assert manifest.partitions[DAYS[2]].run_id == "run-2"


def test_what_a_try_of_the_same_run_has_published_is_not_made_again(
    sliced: Project, warehouse: Warehouse
) -> None:
    define(sliced)
    run(sliced, warehouse, DAYS[:2])
    done = run(sliced, warehouse, DAYS[:3])
    assert [one.partition for one in done] == DAYS[2:3]


def test_a_warehouse_that_goes_away_keeps_what_was_good(sliced: Project, warehouse: Warehouse) -> None:
    define(sliced)

    class Leaving(Counting):
        def run(self, statement: Statement, caps: Caps, *, query_id: str | None = None) -> Result:
            slices = sum("__from" in one.parameters for one in self.ran)
            if slices >= 2 and "__from" in statement.parameters:
                raise WarehouseUnavailable("gone")
            return super().run(statement, caps, query_id=query_id)

    with pytest.raises(WarehouseUnavailable):
        run(sliced, Leaving(warehouse), DAYS)
    manifest = head(sliced)
    assert 0 < len(manifest.partitions) < len(DAYS)
    assert len(manifest.failures) == 1, "those that were never tried are not failed"


@pytest.mark.parametrize(
    ("rows", "partitions", "good"),
    [
        ({"min": 12}, DAYS[:2], True),  # the asset is not complete: too few for now is no breach
        ({"min": 13}, DAYS, False),
        ({"min": 12}, DAYS, True),
        ({"max": 3}, DAYS[:2], False),
        ({"max": 4}, DAYS[:2], True),
    ],
)
def test_rows_of_the_contract_are_of_the_whole_asset(
    sliced: Project, warehouse: Warehouse, rows: dict[str, int], partitions: list[str], good: bool
) -> None:
    define(sliced, contract={"rows": rows})
    done = run(sliced, warehouse, partitions)
    assert all(isinstance(one, Materialized) for one in done) == good
    assert set(head(sliced).failures) == (set() if good else set(partitions))


def test_aggregates_over_partitions_are_merged_when_read(sliced: Project, warehouse: Warehouse) -> None:
    sql = "SELECT item, uniq(shop) AS shops, count() AS n FROM visits GROUP BY item ORDER BY item"
    define(sliced, sql, contract={"columns": {"n": {"ge": 1}}, "unique": ["item"]})
    compared = replace(sliced, settings=sliced.settings.model_copy(update={"parity_samples": 3}))
    done = run(compared, warehouse, DAYS)
    parities = [one.parity for one in done if isinstance(one, Materialized) and one.parity]
    assert [parity.outcome for parity in parities] == ["same"] * len(parities)
    assert 0 < len(parities) < len(DAYS), "some of a run's partitions are compared"
    assert answer(sliced) == [(b"tea", 2, 18)]


def test_zones_whose_clocks_move(sliced: Project, warehouse: Warehouse) -> None:
    sql = SQL.replace("toDate(at)", "toDate(at, 'Europe/Berlin')")
    define(sliced, sql, {**BY_DAY, "timezone": "Europe/Berlin"})
    assert all(isinstance(one, Materialized) for one in run(sliced, warehouse, DAYS[:2]))
    # Rules of another edition: an hour later than the server's.
    later = datetime.combine(FIRST, datetime.min.time(), UTC) - timedelta(minutes=30)
    moved = {"__from": (parse_type("UInt32"), int(later.timestamp()))}
    found = edges_statement(sliced.version("visits"), DAYS[0], {**moved, "__until": moved["__from"]})
    assert found is not None
    with warehouse.run(found, Caps()) as result:
        assert pa.Table.from_batches(list(result)).column(0)[0].as_py() == 0


def test_partitions_that_no_longer_exist_are_dropped_and_named(sliced: Project, warehouse: Warehouse) -> None:
    define(sliced)
    run(sliced, warehouse, DAYS)
    define(sliced, partitions={**BY_DAY, "start": DAYS[2]})
    version = sliced.version("visits")
    said = rebuilding(version, head(sliced), NOW)
    assert said == (
        f"4 partitions ({DAYS[2]} … {DAYS[5]}) of another definition will be made again; "
        f"2 partitions ({DAYS[0]} … {DAYS[1]}) will be dropped with the next run."
    )
    assert standing(version, head(sliced), NOW).state == Missing(changed=True)
    run(sliced, warehouse, DAYS[2:], "run-2")
    assert set(head(sliced).partitions) == set(DAYS[2:])
    assert rebuilding(version, head(sliced), NOW) is None


def test_a_key_that_names_no_partition(sliced: Project, warehouse: Warehouse) -> None:
    define(sliced)
    tomorrow = (TODAY + timedelta(days=1)).isoformat()
    for key in (tomorrow, "2020-01-01", "all"):
        with pytest.raises(NoSuchPartition, match="has no partition"):
            run(sliced, warehouse, [key])


def test_a_day_of_another_zone_is_refused(sliced: Project, warehouse: Warehouse) -> None:
    define(sliced, partitions={**BY_DAY, "timezone": "Asia/Tokyo"})
    with pytest.raises(NotMaterializable, match=r"days of UTC, the partitions those of Asia/Tokyo"):
        run(sliced, warehouse, DAYS[:1])
    define(
        sliced, SQL.replace("toDate(at)", "toDate(at, 'Asia/Tokyo')"), {**BY_DAY, "timezone": "Asia/Tokyo"}
    )
    assert isinstance(run(sliced, warehouse, DAYS[:1], "run-2")[0], Materialized)


def test_the_commands_line_per_partition(sliced: Project) -> None:
    define(sliced)
    target = next(one for one in catalog(sliced.definitions) if one.version.endpoint == "visits")
    lines: list[dict[str, Any]] = []
    with dg.DagsterInstance.ephemeral() as instance:
        run_now(target, sliced.settings, instance, lines.append, Wanted(first=DAYS[1], last=DAYS[2]))
        run_now(target, sliced.settings, instance, lines.append, Wanted(partitions=[DAYS[0], DAYS[4]]))
        run_now(target, sliced.settings, instance, lines.append, Wanted(partitions=["never"]))
    told = [(line["partition"], line["outcome"]) for line in lines if "outcome" in line]
    assert told == [*((DAYS[n], "published") for n in (1, 2, 0, 4)), (None, "failed")]
    assert "no partition 'never'" in lines[-1]["error"]
    assert set(head(sliced).partitions) == {DAYS[n] for n in (0, 1, 2, 4)}
