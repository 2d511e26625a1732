"""Partitions, from definition to snapshot: each its own slice, audit and entry."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl
import pytest

from endpoints.lake.files import FileCache
from endpoints.lake.manifest import Manifest
from endpoints.lake.read import AssetReader
from endpoints.query.bind import bind
from endpoints.query.plan import Plan, make_plan
from endpoints.warehouse.protocol import Caps, Result, Statement, Warehouse
from orchestration.assets import asset_key
from orchestration.definitions import compose
from orchestration.materialize import Materialized, Unmade, materialize_partitions
from orchestration.partitions import run_tags
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
    return project


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
