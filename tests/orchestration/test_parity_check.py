"""The check of parity: right assets pass, wrong ones are never published, moving sources raise no alarm."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl
import pytest

from endpoints.errors import QueryTimeout, WarehouseUnavailable
from endpoints.lake.manifest import UNPARTITIONED
from endpoints.query.plan import Plan, check_plan
from endpoints.warehouse.protocol import Caps, Result, Statement, Warehouse
from orchestration import making as path
from orchestration import parity as checking
from orchestration.assets import asset_key
from orchestration.checks import PARITY_CHECK
from orchestration.definitions import compose
from orchestration.making import Materialized
from orchestration.materialize import materialize
from orchestration.parity import Parity, ParityBreach
from orchestration.schedules import MATERIALIZE

if TYPE_CHECKING:
    from tests.orchestration.conftest import Project

HOURLY = {"schedule": "hourly"}
RANGE_SQL = """
SELECT item, count() AS orders, sum(amount) AS total, uniq(amount) AS amounts
FROM sales
WHERE shop = {shop:String} AND amount >= {least:UInt32} AND item = {item:String}
GROUP BY item
ORDER BY total DESC
"""
FILTERED = "FROM sales WHERE shop = {shop:String} AND item = {item:String}"
ITEM = {"item": {"optional": True}}


@pytest.fixture(autouse=True)
def at_leisure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine compares as many answers as an idle one."""
    monkeypatch.setattr(checking, "FREE_SECONDS", 60.0)


@pytest.fixture
def many(project: Project) -> Project:
    """Sales of 20 shops."""
    chance = random.Random(1)
    rows = [
        (f"shop{chance.randrange(20)}", chance.choice("abcdef"), chance.randrange(50)) for _ in range(2000)
    ]
    project.sell(
        pl.DataFrame(rows, schema={"shop": pl.String, "item": pl.String, "amount": pl.UInt32}, orient="row")
    )
    return project


def run(project: Project, warehouse: Warehouse, name: str = "sales") -> Materialized:
    return materialize(project.version(name), warehouse, project.lake, project.settings, run_id="r")


def parity(project: Project, warehouse: Warehouse, sql: str, **version: Any) -> Parity:
    project.define("sales", sql, materialize=HOURLY, **version)
    found = run(project, warehouse).parity
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("sql", "version", "same"),
    [
        ("SELECT item, count() AS n FROM sales WHERE shop = {shop:String} GROUP BY item", {}, 4),
        (RANGE_SQL, {"variables": ITEM}, 4),
        ("SELECT item, sum(amount) AS n FROM sales GROUP BY item", {}, 1),
        ("SELECT item, amount FROM sales WHERE amount BETWEEN {a:UInt32} AND {b:UInt32}", {}, 4),
        ("SELECT count() AS n FROM sales WHERE item IN {items:Array(String)}", {}, 4),
        ("SELECT shop, amount FROM sales WHERE shop LIKE {s:String} ORDER BY amount LIMIT {n:UInt32}", {}, 4),
        ("SELECT item, avg(amount / 7) AS a FROM sales WHERE shop = {shop:String} GROUP BY item", {}, 4),
    ],
)
def test_right_assets_pass(
    many: Project, warehouse: Warehouse, sql: str, version: dict[str, Any], same: int
) -> None:
    found = parity(many, warehouse, sql, **version)
    assert (found.moved, found.not_compared) == (0, [])
    assert min(same, 2) <= found.same <= same, "rows drawn may ask for the same values"
    assert found.outcome == "same"


def test_comparing_takes_a_share_of_what_making_took(
    many: Project, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql = "SELECT item, count() AS n FROM sales WHERE shop = {shop:String} GROUP BY item"
    monkeypatch.setattr(checking, "FREE_SECONDS", 0.0)
    assert parity(many, warehouse, sql).same in (1, 2), "one always; another one where that was quick"
    monkeypatch.setattr(checking, "SHARE", 0.0)
    assert parity(many, warehouse, sql).same == 1
    monkeypatch.setattr(checking, "SHARE", 1000.0)
    assert parity(many, warehouse, sql).same > 1


def test_values_that_no_caller_may_send_are_not_asked_for(many: Project, warehouse: Warehouse) -> None:
    variables = {"shop": {"enum": ["shop1"]}}
    sql = "SELECT count() AS n FROM sales WHERE shop = {shop:String}"
    found = parity(many, warehouse, sql, variables=variables)
    assert found.same <= 1
    assert found.not_compared == []


def test_columns_that_clickhouse_does_not_reproduce_are_left_out_by_name(
    many: Project, warehouse: Warehouse
) -> None:
    sql = "SELECT item, any(amount) AS one, count() AS n FROM sales WHERE shop = {shop:String} GROUP BY item"
    found = parity(many, warehouse, sql)
    assert found.excluded == ("one",)
    assert found.same >= 1
    ordered = f"{sql} ORDER BY one LIMIT 2"
    many.define("sales", ordered, materialize=HOURLY)
    nothing = run(many, warehouse).parity
    assert nothing is not None
    assert (nothing.same, nothing.outcome) == (0, "inconclusive")
    assert "any may decide" in nothing.not_compared[0]


def test_floats_put_together_from_parts_are_left_out(many: Project, warehouse: Warehouse) -> None:
    """The deviation of what is constant is 0 or 4e-9, by the order in which parts are added."""
    parts = "SELECT item, stddevPop(amount / 3) AS s, count() AS n FROM sales WHERE shop != {shop:String} "
    found = parity(many, warehouse, parts + "GROUP BY item")
    assert found.excluded == ("s",)
    assert found.same > 0
    decided = parity(many, warehouse, parts + "GROUP BY item HAVING s > 1")
    assert decided.not_compared == ["stddevPop(amount / 3) may decide which rows there are, and their order"]


def test_an_asset_without_rows(project: Project, warehouse: Warehouse) -> None:
    found = parity(project, warehouse, RANGE_SQL.replace("FROM sales", "FROM (SELECT * FROM sales WHERE 0)"))
    assert found.outcome == "same"


def test_none_is_compared_where_the_setting_says_so(project: Project, warehouse: Warehouse) -> None:
    project.define("sales", materialize=HOURLY)
    settings = project.settings.model_copy(update={"parity_samples": 0})
    done = materialize(project.version("sales"), warehouse, project.lake, settings, run_id="r")
    assert done.parity is None
    off = replace(project, settings=settings)
    checks = compose(off.settings).resolve_asset_graph().asset_check_keys
    assert PARITY_CHECK not in {check.name for check in checks}


# -- wrong assets -------------------------------------------------------------------------------------------


@pytest.fixture
def wrong_plan(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Has the check of the plan pass one that was tampered with: `old` in its SQL becomes `new`."""
    check = check_plan

    def tamper(old: str, new: str) -> None:
        def tampered(*given: Any) -> Any:
            plan = check(*given)
            assert isinstance(plan, Plan)
            assert old in plan.materialize_sql
            return replace(plan, materialize_sql=plan.materialize_sql.replace(old, new))

        monkeypatch.setattr(path, "check_plan", tampered)

    return tamper


@pytest.mark.parametrize(
    ("sql", "old", "new"),
    [
        (
            "SELECT item, count() AS n FROM sales WHERE shop = {shop:String} GROUP BY item",
            "count()",
            "count() + 1",
        ),
        ("SELECT item, amount FROM sales WHERE shop = {shop:String}", "WHERE 1", "WHERE amount != 7"),
        (RANGE_SQL.replace(" AND item = {item:String}", ""), "sum(amount)", "sum(amount + 1)"),
    ],
)
def test_a_wrong_plan_is_never_published(
    many: Project, warehouse: Warehouse, wrong_plan: Callable[[str, str], None], sql: str, old: str, new: str
) -> None:
    many.define("sales", sql, materialize=HOURLY)
    good = run(many, warehouse)
    wrong_plan(old, new)
    with pytest.raises(ParityBreach, match="sales@1: the asset's answer is not the live query's for"):
        run(many, warehouse)
    head = many.lake.head("sales", 1)
    assert head is not None
    assert (head.outcome, head.partitions[UNPARTITIONED]) == ("breached", good.entry)


def test_rows_that_are_stored_but_not_found_are_a_difference(
    many: Project, warehouse: Warehouse, wrong_plan: Callable[[str, str], None]
) -> None:
    sql = "SELECT item, count() AS n FROM sales WHERE shop = {shop:String} GROUP BY item"
    many.define("sales", sql, materialize=HOURLY)
    wrong_plan("ORDER BY __d0", "ORDER BY cityHash64(__d0)")  # a binary search does not find most of them
    with pytest.raises(ParityBreach):
        run(many, warehouse)


def test_a_difference_fails_the_check_with_both_answers(
    many: Project, wrong_plan: Callable[[str, str], None]
) -> None:
    sql = f"SELECT item, count() AS n {FILTERED} GROUP BY item"
    many.define("sales", sql, materialize=HOURLY, variables={"shop": {"private": True}})
    with dg.DagsterInstance.ephemeral() as instance:
        job = compose(many.settings).resolve_job_def(MATERIALIZE.name)
        key = asset_key("sales", 1)
        good = job.execute_in_process(instance=instance, asset_selection=[key])
        checks = {check.check_name: check for check in good.get_asset_check_evaluations()}
        passed = checks[PARITY_CHECK]
        assert passed.passed
        assert passed.metadata["outcome"].value == "same"
        wrong_plan("count()", "count() + 100")
        bad = job.execute_in_process(instance=instance, asset_selection=[key], raise_on_error=False)
        assert not bad.success
        assert bad.get_asset_materialization_events() == []
        (failed,) = bad.get_asset_check_evaluations()
    assert (failed.check_name, failed.passed) == (PARITY_CHECK, False)
    asset, live = str(failed.metadata["asset"].value), str(failed.metadata["live"].value)
    assert asset.startswith("| item | n |")
    assert live.startswith("| item | n |")
    assert asset != live
    values = failed.metadata["variables"].value
    assert isinstance(values, dict)
    assert set(values) == {"item"}
    assert "shop" not in f"{failed.description}{failed.metadata}", "values of private variables stay out"


# -- sources that move, warehouses that fail ----------------------------------------------------------------


class Eventful:
    """The warehouse, and something that happens before a query: a source that moves, an outage."""

    def __init__(self, warehouse: Warehouse, happens: Callable[[str], None]) -> None:
        self._warehouse, self._happens = warehouse, happens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._warehouse, name)

    def run(self, statement: Statement, caps: Caps, **more: Any) -> Result:
        self._happens(statement.sql)
        return self._warehouse.run(statement, caps, **more)


COUNT_SQL = "SELECT item, sum(amount) AS n FROM sales WHERE shop = {shop:String} GROUP BY item"


def is_live(sql: str) -> bool:
    return "{shop:String}" in sql and "__d0" not in sql


def moves(project: Project, how: Iterator[int]) -> Callable[[str], None]:
    def happens(sql: str) -> None:
        if is_live(sql) and (amount := next(how, 0)):
            project.sell(project.sales.with_columns(amount=pl.lit(amount, pl.UInt32)))

    return happens


@pytest.mark.parametrize("changes", [[9], range(10, 100)], ids=["once", "always"])
def test_a_source_that_moves_raises_no_alarm(project: Project, warehouse: Warehouse, changes: Any) -> None:
    project.define("sales", COUNT_SQL, materialize=HOURLY)
    found = run(project, Eventful(warehouse, moves(project, iter(changes)))).parity
    assert found is not None
    assert found.moved >= 1
    head = project.lake.head("sales", 1)
    assert head is not None
    assert head.outcome == "published"


@pytest.mark.parametrize("error", [WarehouseUnavailable("gone"), QueryTimeout("slow")])
def test_a_warehouse_in_trouble_is_asked_once_and_the_rows_are_published(
    project: Project, warehouse: Warehouse, error: Exception
) -> None:
    asked: list[str] = []

    def fails(sql: str) -> None:
        if is_live(sql):
            asked.append(sql)
            raise error

    project.define("sales", COUNT_SQL, materialize=HOURLY)
    done = run(project, Eventful(warehouse, fails))
    assert done.parity is not None
    assert (len(asked), done.parity.outcome) == (1, "inconclusive")
    assert done.parity.not_compared == [f"the warehouse: {type(error).__name__}"]
    assert done.manifest.outcome == "published"
