"""What runs tell of rows beside those of before: sources, row counts, columns, freshness, the contract."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl
import pytest
from click.testing import CliRunner

from endpoints.cli import main
from endpoints.lake.manifest import UNPARTITIONED
from orchestration.assets import asset_key
from orchestration.definitions import compose
from orchestration.schedules import MATERIALIZE

if TYPE_CHECKING:
    from tests.orchestration.conftest import Project

HOURLY = {"schedule": "hourly"}
KEY = asset_key("sales", 1)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def run(project: Project, instance: dg.DagsterInstance) -> dict[str, dg.AssetCheckEvaluation]:
    """Run the asset; what each of its checks said."""
    job = compose(project.settings).resolve_job_def(MATERIALIZE.name)
    result = job.execute_in_process(instance=instance, asset_selection=[KEY], raise_on_error=False)
    return {one.check_name: one for one in result.get_asset_check_evaluations()}


def rows(count: int, at: datetime | None = None) -> pl.DataFrame:
    """Sales of `count` items, all at one time."""
    at = at or datetime(2026, 1, 1, tzinfo=UTC)
    return pl.DataFrame(
        {
            "shop": ["north"] * count,
            "item": [f"item {number}" for number in range(count)],
            "amount": [1] * count,
            "at": [at] * count,
        },
        schema_overrides={"amount": pl.UInt32},
    )


def declare(project: Project, text: str) -> None:
    (project.settings.defs / "sources.yaml").write_text(f"tables:\n  sales: {{{text}}}\n")


@pytest.mark.parametrize(("age", "alive"), [(timedelta(minutes=5), True), (timedelta(days=2), False)])
def test_the_newest_source_row_is_kept_and_judged(
    project: Project, instance: dg.DagsterInstance, age: timedelta, alive: bool
) -> None:
    newest = (datetime.now(UTC) - age).replace(microsecond=0)
    project.sell(rows(3, newest))
    declare(project, "timestamp: at, freshness: 1h")
    project.define("sales", materialize=HOURLY)
    said = run(project, instance)
    manifest = project.lake.head("sales", 1)
    assert manifest is not None
    entry = manifest.partitions[UNPARTITIONED]
    assert entry.source_max == newest
    [check] = [check for check in entry.checks if check.name.startswith("source:")]
    assert (check.name, check.passed) == ("source:sales", alive)
    assert said["source"].passed is alive
    assert said["source"].severity is dg.AssetCheckSeverity.WARN
    assert said["freshness"].passed, "the asset itself is fresh"
    shown = CliRunner().invoke(main, ["status", "sales", "--json"])
    assert json.loads(shown.stdout)[0]["source_max"] == newest.isoformat().replace("+00:00", "Z")
    event = instance.get_latest_materialization_event(KEY)
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["source_max"].value == newest.timestamp()


@pytest.mark.parametrize("declared", ["timestamp: nothing, freshness: 1h", "timestamp: item, freshness: 1h"])
def test_a_source_that_cannot_be_asked_fails_its_check_only(
    project: Project, instance: dg.DagsterInstance, declared: str
) -> None:
    project.sell(rows(3))
    declare(project, declared)
    project.define("sales", materialize=HOURLY)
    assert not run(project, instance)["source"].passed
    manifest = project.lake.head("sales", 1)
    assert manifest is not None
    assert manifest.partitions[UNPARTITIONED].source_max is None


def test_no_check_of_sources_where_no_timestamp_is_declared(project: Project) -> None:
    declare(project, "owner: data@example.com, description: Sold.")
    project.define("sales", materialize=HOURLY)
    definitions = compose(project.settings)
    checks = {check.name for check in definitions.resolve_asset_graph().asset_check_keys}
    assert checks == {"freshness", "parity", "row_count", "schema"}
    specs = {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}
    assert specs["clickhouse/sales"].description == "Sold."
    assert list(specs["clickhouse/sales"].owners) == ["data@example.com"]


def test_an_unusual_number_of_rows_is_a_warning(project: Project, instance: dg.DagsterInstance) -> None:
    project.define("sales", materialize=HOURLY)
    for count in (100, 104, 98, 101):
        project.sell(rows(count))
        assert run(project, instance)["row_count"].passed
    project.sell(rows(140))
    assert run(project, instance)["row_count"].passed, "within half of what there was"
    project.sell(rows(20))
    said = run(project, instance)["row_count"]
    assert not said.passed
    assert said.severity is dg.AssetCheckSeverity.WARN
    assert "| all | 20 |" in str(said.metadata["counts"].value)
    head = project.lake.head("sales", 1)
    assert head is not None
    assert head.partitions[UNPARTITIONED].rows == 20, "a warning stops nothing"


def test_other_columns_than_before_are_a_warning(project: Project, instance: dg.DagsterInstance) -> None:
    project.define("sales", "SELECT * FROM sales WHERE shop = {shop:String}", materialize=HOURLY)
    assert run(project, instance)["schema"].passed
    assert run(project, instance)["schema"].passed
    changed = project.sales.with_columns(pl.col("amount").cast(pl.UInt64), new=pl.lit("x")).drop("item")
    project.sell(changed)
    said = run(project, instance)["schema"]
    assert not said.passed
    assert said.metadata["changes"].value == [
        "item is gone",
        "new is new: String",
        "amount is UInt64, was UInt32",
    ]


def test_the_contract_is_told_by_column(project: Project, instance: dg.DagsterInstance) -> None:
    contract = {"columns": {"item": {"type": "String"}, "orders": {"ge": 1, "lt": 5}}, "rows": {"min": 1}}
    project.define("sales", materialize=HOURLY, contract=contract)
    kept = str(run(project, instance)["contract"].metadata["columns"].value)
    assert "| item | type | kept |" in kept
    assert "| orders | ge, lt | kept |" in kept
    assert "| (the whole) | rows | kept |" in kept
    project.sell(pl.concat([project.sales] * 3))
    broken = str(run(project, instance)["contract"].metadata["columns"].value)
    assert "| orders | ge, lt | broken (lt: 1) |" in broken
    assert "| item | type | kept |" in broken
