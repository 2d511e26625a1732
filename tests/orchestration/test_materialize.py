"""The path of a materialization: what is published, and that nothing else ever is."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from endpoints.errors import AssetTooLarge, ContractBreach, OverLimit, WarehouseError, WarehouseUnavailable
from endpoints.lake.layout import version_folder
from endpoints.lake.manifest import UNPARTITIONED, Manifest, PartitionEntry
from endpoints.settings import Settings
from endpoints.warehouse import open_warehouse
from endpoints.warehouse.protocol import Caps, Result, Statement, Warehouse
from orchestration.making import Materialized, NotMaterializable, Progress
from orchestration.materialize import materialize

if TYPE_CHECKING:
    from tests.orchestration.conftest import Project

CONTRACT = {"columns": {"orders": {"type": "UInt64", "ge": 1}}, "unique": ["item"], "rows": {"min": 1}}
HOURLY = {"schedule": "hourly"}


def run(project: Project, warehouse: Warehouse, name: str = "sales", run_id: str = "run-1") -> Materialized:
    return materialize(project.version(name), warehouse, project.lake, project.settings, run_id=run_id)


def head(project: Project, name: str = "sales") -> Manifest:
    manifest = project.lake.head(name, 1)
    assert manifest is not None
    return manifest


def stored(project: Project, entry: PartitionEntry) -> pl.DataFrame:
    lake = Path(project.settings.lake_url.removeprefix("file://")) / version_folder("sales", 1)
    table = pl.concat(pl.DataFrame(pq.read_table(lake / file.path)) for file in entry.files)
    return table.with_columns(pl.col(pl.Binary).cast(pl.String))


def test_publishes_the_rows_of_every_variable_value(project: Project, warehouse: Warehouse) -> None:
    version = project.define("sales", materialize=HOURLY, contract=CONTRACT)
    before = warehouse.server().now
    done = run(project, warehouse)
    entry = head(project).partitions[UNPARTITIONED]
    rows = stored(project, entry)
    expected = (
        project.sales.group_by("shop", "item")
        .agg(orders=pl.len(), total=pl.col("amount").sum())
        .sort("shop", "item")
    )
    shop = next(name for name in rows.columns if name.startswith("__"))
    assert rows.select(shop, "item", "orders", "total").rows() == expected.rows()
    assert (entry.rows, entry.run_id, entry.fingerprint) == (3, "run-1", version.fingerprint)
    assert before <= entry.as_of <= warehouse.server().now
    assert [check.name for check in entry.checks] == ["orders.type", "orders.ge", "unique", "rows"]
    assert (done.manifest.number, done.superseded, done.preview.num_rows) == (1, False, 3)
    assert head(project).server.version == warehouse.server().version


def test_the_clock_is_bound_to_the_moment_that_the_asset_is_of(
    project: Project, warehouse: Warehouse
) -> None:
    sql = "SELECT item, now64(6) AS at, today() AS day FROM sales WHERE shop = {shop:String} GROUP BY item"
    project.define("sales", sql, materialize=HOURLY, clock="as_of")
    done = run(project, warehouse)
    rows = stored(project, done.entry)
    assert rows["at"].unique().to_list() == [done.entry.as_of]
    assert rows["day"].unique().to_list() == [done.entry.as_of.date()]
    assert done.parity is not None
    assert done.parity.same > 0, "live runs at that moment, too"


def test_the_clock_has_no_one_moment_in_partitions(project: Project, warehouse: Warehouse) -> None:
    sql = "SELECT item, now() AS at FROM sales WHERE shop = {shop:String} GROUP BY item"
    partitions = {"column": "day", "by": "day", "start": "2026-01-01"}
    project.define("sales", sql, materialize=HOURLY | {"partitions": partitions}, clock="as_of")
    with pytest.raises(NotMaterializable, match=r"\[clock\]"):
        run(project, warehouse)


@pytest.mark.parametrize(("pace", "reports"), [(0, 1), (3600, 0)])
def test_progress_is_reported_and_paced(
    project: Project, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, pace: float, reports: int
) -> None:
    monkeypatch.setattr("orchestration.making.PROGRESS_EVERY", pace)
    version = project.define("sales", materialize=HOURLY)
    seen: list[Progress] = []
    materialize(version, warehouse, project.lake, project.settings, run_id="r", watch=seen.append)
    assert [progress.rows for progress in seen] == [3] * reports


def test_a_breach_keeps_the_old_snapshot(project: Project, warehouse: Warehouse) -> None:
    project.define("sales", materialize=HOURLY, contract={"columns": {"total": {"lt": 100}}})
    good = run(project, warehouse).entry
    project.sell(project.sales.with_columns(amount=pl.lit(100, pl.UInt32)))
    with pytest.raises(ContractBreach, match=r"total: 3 values not allowed by \[lt\], for example"):
        run(project, warehouse, run_id="run-2")
    manifest = head(project)
    assert manifest.outcome == "breached"
    assert manifest.partitions[UNPARTITIONED] == good
    failure = manifest.failures[UNPARTITIONED]
    assert (failure.outcome, failure.run_id) == ("breached", "run-2")
    assert "[lt]" in failure.error


def test_success_clears_the_failure(project: Project, warehouse: Warehouse) -> None:
    project.define("sales", materialize=HOURLY, contract={"rows": {"max": 2}})
    with pytest.raises(ContractBreach, match="3 rows, more than 2"):
        run(project, warehouse)
    project.sell(project.sales.head(2))
    run(project, warehouse)
    assert head(project).failures == {}
    assert head(project).partitions[UNPARTITIONED].rows == 1


def test_a_column_that_the_result_lacks_is_a_breach(project: Project, warehouse: Warehouse) -> None:
    project.define("sales", materialize=HOURLY, contract={"columns": {"people": {"ge": 1}}})
    with pytest.raises(
        ContractBreach, match="people: not a column of the result, which has item, orders, total"
    ):
        run(project, warehouse)
    assert head(project).failures[UNPARTITIONED].outcome == "breached"


@pytest.mark.parametrize(
    ("sql", "limits", "error"),
    [
        ("SELECT nothing FROM sales", {}, NotMaterializable),
        ("SELECT item FROM absent", {}, NotMaterializable),
        ("SELECT intDiv(1, amount - 3) AS x FROM sales", {}, WarehouseError),
        ("SELECT item FROM sales", {"max_asset_rows": 3}, OverLimit),
    ],
)
def test_a_query_that_fails_ends_as_a_failed_attempt(
    project: Project, warehouse: Warehouse, sql: str, limits: dict[str, int], error: type[Exception]
) -> None:
    project.define("sales", sql, materialize=HOURLY, limits=limits)
    with pytest.raises(error) as raised:
        run(project, warehouse)
    manifest = head(project)
    assert (manifest.outcome, dict(manifest.partitions)) == ("failed", {})
    assert manifest.failures[UNPARTITIONED].error == str(raised.value)[:500]


@pytest.mark.parametrize(
    ("sql", "unservable"),
    [
        ("SELECT item, CAST(shop AS Dynamic) AS d FROM sales", True),  # the plan cannot serve
        ("SELECT item FROM absent", False),  # the query itself cannot run
    ],
)
def test_a_plan_that_the_server_refuses_is_told_from_a_try_that_failed(
    project: Project, warehouse: Warehouse, sql: str, unservable: bool
) -> None:
    project.define("sales", sql, materialize=HOURLY)
    with pytest.raises(NotMaterializable):
        run(project, warehouse)
    assert head(project).failures[UNPARTITIONED].unservable == unservable


class Listening:
    """The warehouse, and the SQL of all that it runs."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse, self.ran = warehouse, list[str]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._warehouse, name)

    def run(self, statement: Statement, caps: Caps, **more: Any) -> Result:
        self.ran.append(statement.sql)
        return self._warehouse.run(statement, caps, **more)

    @property
    def counts(self) -> int:
        return sum("uniq(__d0)" in sql for sql in self.ran)


def written(project: Project) -> list[Path]:
    root = Path(project.settings.lake_url.removeprefix("file://"))
    return [path for path in root.rglob("*.parquet*") if path.is_file()]


BY_SHOP_AND_ITEM = "SELECT amount FROM sales WHERE shop = {shop:String} AND lower(item) = {item:String}"


def test_too_many_rows_are_refused_before_any_is_written_and_the_dimension_is_named(
    project: Project, warehouse: Warehouse
) -> None:
    rows = [{"shop": f"s{n % 5}", "item": f"i{n}", "amount": n} for n in range(50)]
    project.sell(pl.DataFrame(rows))
    project.define("sales", BY_SHOP_AND_ITEM, materialize=HOURLY, limits={"max_asset_rows": 49})
    with pytest.raises(AssetTooLarge) as raised:
        run(project, warehouse)
    message = str(raised.value)
    assert "would store 50 rows, more than the 49 of `max_asset_rows`" in message
    assert "lower(item) has 50 distinct values (shop has 5)" in message
    assert "bucket" in message
    assert written(project) == []
    assert head(project).failures[UNPARTITIONED].error == message[:500]
    project.define("sales", BY_SHOP_AND_ITEM, materialize=HOURLY, limits={"max_asset_rows": 50})
    assert run(project, warehouse).entry.rows == 50


def test_the_setting_holds_where_the_version_says_nothing(project: Project, warehouse: Warehouse) -> None:
    project.define("sales", "SELECT item FROM sales", materialize=HOURLY)
    settings = project.settings.model_copy(update={"max_asset_rows": 3})
    with pytest.raises(AssetTooLarge, match="would store 4 rows, more than the 3"):
        materialize(project.version("sales"), warehouse, project.lake, settings, run_id="r")


def test_rows_are_counted_first_only_where_there_may_be_too_many(
    project: Project, warehouse: Warehouse
) -> None:
    project.sell(pl.concat([project.sales, project.sales]))
    project.define("sales", materialize=HOURLY, limits={"max_asset_rows": 6})
    listening = Listening(warehouse)
    for counts in (1, 1):  # nothing is known of the first; it has 3 rows, the second is not counted
        run(project, listening)  # type: ignore[arg-type]
        assert listening.counts == counts
    project.sell(pl.concat([project.sales.with_columns(item=pl.lit(f"i{n}")) for n in range(4)]))
    with pytest.raises(AssetTooLarge, match="would store 8 rows"):  # seen as they come, then counted
        run(project, listening)  # type: ignore[arg-type]
    assert listening.counts == 2
    assert head(project).partitions[UNPARTITIONED].rows == 3


@pytest.mark.parametrize(
    ("sql", "most", "counts"),
    [
        ("SELECT item FROM sales WHERE shop = {shop:String}", 4, 0),
        (
            "SELECT count() AS c FROM sales WHERE shop = {shop:String} AND item IN (SELECT item FROM sales)",
            8,
            0,
        ),
        ("SELECT count() AS c FROM sales WHERE shop = {shop:String} GROUP BY item", 3, 1),
        ("SELECT item, arrayJoin([1, 2]) AS x FROM sales WHERE shop = {shop:String}", 8, 1),
        ("SELECT a.item FROM sales AS a JOIN sales AS b ON a.shop = b.shop WHERE a.shop = {s:String}", 10, 1),
    ],
)
def test_rows_are_not_counted_where_the_tables_have_no_more(
    project: Project, warehouse: Warehouse, sql: str, most: int, counts: int
) -> None:
    project.define("sales", sql, materialize=HOURLY, limits={"max_asset_rows": most})
    listening = Listening(warehouse)
    run(project, listening)  # type: ignore[arg-type]
    assert listening.counts == counts


def test_a_warehouse_that_is_away_ends_as_a_failed_attempt(project: Project) -> None:
    project.define("sales", materialize=HOURLY)
    settings = Settings(project=project.folder, clickhouse_url="clickhouse://127.0.0.1:1/db")
    warehouse = open_warehouse(settings)
    try:
        with pytest.raises(WarehouseUnavailable):
            run(project, warehouse)
    finally:
        warehouse.close()
    assert head(project).outcome == "failed"


def test_an_interrupted_run_is_a_failed_attempt(
    project: Project, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = project.define("sales", materialize=HOURLY)
    monkeypatch.setattr("orchestration.making.PROGRESS_EVERY", 0)

    def interrupt(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        materialize(version, warehouse, project.lake, project.settings, run_id="r", watch=interrupt)
    assert head(project).failures[UNPARTITIONED].error == "The run was interrupted."


@pytest.mark.parametrize(
    ("sql", "version"),
    [
        ("SELECT item FROM sales", {}),
        ("SELECT rand() AS x FROM sales", {"materialize": HOURLY}),
    ],
)
def test_live_only_versions_are_refused_with_the_reason(
    project: Project, warehouse: Warehouse, sql: str, version: dict[str, object]
) -> None:
    project.define("sales", sql, **version)
    with pytest.raises(NotMaterializable, match="live only"):
        run(project, warehouse)
    assert project.lake.head("sales", 1) is None


def test_runs_at_once_are_all_recorded(project: Project) -> None:
    project.define("sales", materialize=HOURLY)
    warehouse = open_warehouse(project.settings.model_copy(update={"embedded_workers": 4}))
    done: list[Materialized] = []
    threads = [
        threading.Thread(target=lambda n=n: done.append(run(project, warehouse, run_id=f"run-{n}")))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    warehouse.close()
    assert sorted(one.manifest.number for one in done) == [1, 2, 3, 4]
    newest = max(one.entry.as_of for one in done)
    assert head(project).partitions[UNPARTITIONED].as_of == newest


PARTS_SQL = """
SELECT item, count() AS orders, sum(amount) AS total
FROM sales
WHERE shop = {shop:String} AND amount >= {least:UInt32}
GROUP BY item
ORDER BY item
"""


def test_where_parts_are_stored_the_contract_is_held_to_whole_answers(
    project: Project, warehouse: Warehouse
) -> None:
    contract = {"columns": {"total": {"type": "UInt64", "le": 7}}, "unique": ["item"], "rows": {"max": 3}}
    project.define("sales", PARTS_SQL, materialize=HOURLY, contract=contract)
    done = run(project, warehouse)
    assert [c.name for c in done.entry.columns if not c.name.startswith("__")] == []
    assert [check.name for check in done.entry.checks] == ["total.type", "total.le", "unique", "rows"]
    project.sell(pl.concat([project.sales, project.sales]))
    with pytest.raises(
        ContractBreach, match=r"total: 3 values not allowed by \[le\], for example 12; 14; 10"
    ):
        run(project, warehouse)


def test_types_of_the_contract_are_clickhouses(project: Project, warehouse: Warehouse) -> None:
    project.define(
        "sales",
        "SELECT toDate('2026-01-01') AS day, count() AS orders FROM sales GROUP BY day",
        materialize=HOURLY,
        contract={"columns": {"day": {"type": "Date", "ge": "2026-01-01"}, "orders": {"type": "UInt32"}}},
    )
    with pytest.raises(ContractBreach, match=r"orders: has type UInt64, not UInt32 \[type\]") as raised:
        run(project, warehouse)
    assert len(raised.value.failures) == 1
