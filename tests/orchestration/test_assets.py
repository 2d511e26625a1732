"""Versions as Dagster assets: what the UI shows of them, and what their runs record."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl
import pytest

from endpoints.definition import load_definitions
from endpoints.lake.manifest import UNPARTITIONED
from orchestration.assets import POOL, asset_key, version_asset
from orchestration.catalog import listed
from orchestration.checks import CONTRACT_CHECK
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


def run(project: Project, instance: dg.DagsterInstance, key: dg.AssetKey = KEY) -> dg.ExecuteInProcessResult:
    """Run one asset by the code location's own job, as the daemon would."""
    job = compose(project.settings).resolve_job_def(MATERIALIZE.name)
    return job.execute_in_process(instance=instance, asset_selection=[key], raise_on_error=False)


def check_passed(instance: dg.DagsterInstance, key: dg.AssetKey = KEY) -> list[bool]:
    """Whether the contract's check passed, for each time it was evaluated, newest first."""
    history = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(key, CONTRACT_CHECK), limit=10
    )
    return [
        evaluation.passed
        for record in history
        if (evaluation := record.event.dagster_event.asset_check_evaluation_data)
    ]


def specs(project: Project) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in compose(project.settings).resolve_all_asset_specs()}


def test_every_version_is_an_asset_and_tables_are_upstream(project: Project) -> None:
    live: dict[str, object] = {"deprecated": "2026-01-01", "sunset": "2027-01-01"}
    sql = "SELECT item FROM db.stock JOIN sales USING (item)"
    project.define_versions(
        "stock-levels",
        {1: (sql, live), 2: (sql, {"materialize": HOURLY, "freshness": "2h"})},
        owner="growth@example.com",
        tags=["customer facing", "eu"],
    )
    found = specs(project)
    assert sorted(key for key in found if not key.startswith("housekeeping/")) == [
        "clickhouse/db/stock",
        "clickhouse/sales",
        "endpoints/stock-levels/v1",
        "endpoints/stock-levels/v2",
    ]
    first, second = found["endpoints/stock-levels/v1"], found["endpoints/stock-levels/v2"]
    assert {dep.asset_key.to_user_string() for dep in second.deps} == {
        "clickhouse/db/stock",
        "clickhouse/sales",
    }
    assert (first.kinds, second.kinds) == ({"clickhouse"}, {"clickhouse", "parquet"})
    assert second.group_name == "customer_facing"
    assert set(second.owners) == {"growth@example.com"}
    assert {"customer_facing", "eu"} <= set(second.tags)
    assert second.description == "About stock-levels."
    assert second.code_version == project.version("stock-levels").lock_fingerprint
    assert second.freshness_policy == dg.FreshnessPolicy.time_window(timedelta(hours=2))
    assert sql in second.metadata["sql"].value
    assert "no `materialize:`" in first.metadata["live only"]
    assert first.metadata["sunset"] == "2027-01-01"
    assert "live only" not in second.metadata


def test_only_what_can_be_materialized_is_executable(project: Project) -> None:
    project.define("random", "SELECT rand() AS x FROM sales", materialize=HOURLY)
    project.define("live", "SELECT item FROM sales")
    project.define("sales", materialize=HOURLY)
    graph = compose(project.settings).resolve_asset_graph()
    assert {key for key in graph.executable_asset_keys if key.path[0] == "endpoints"} == {KEY}
    assert "nondeterministic" in specs(project)["endpoints/random/v1"].metadata["live only"]


def test_a_broken_endpoint_is_shown_and_the_others_load(project: Project) -> None:
    project.define("sales", materialize=HOURLY)
    folder = project.settings.defs / "half-done"
    folder.mkdir()
    (folder / "endpoint.yaml").write_text("versions: {1: {colour: red}}\n")
    found = specs(project)
    assert "endpoints/sales/v1" in found
    broken = found["endpoints/half-done/broken"]
    assert broken.group_name == "broken"
    assert "endpoint.yaml:1" in broken.metadata["problems"].value


def test_dagster_takes_any_owner_and_tag(project: Project) -> None:
    owners = ["growth@example.com", "team:growth", "The Growth Team", "ann@a.technology", "äöü"]
    for number, owner in enumerate(owners):
        tags = ["a-b", "Ünder score", "x" * 80, "-"][number % 4 :]
        project.define_versions(f"e{number}", {1: ("SELECT item FROM sales", {})}, owner=owner, tags=tags)
    compose(project.settings).resolve_asset_graph()


def test_names_that_differ_by_a_hyphen_are_two_assets(project: Project, instance: dg.DagsterInstance) -> None:
    project.define("a-b", materialize=HOURLY)
    project.define("a_b", materialize=HOURLY)
    assert run(project, instance, asset_key("a-b", 1)).success
    assert instance.get_latest_materialization_event(asset_key("a_b", 1)) is None


def test_a_run_records_what_was_published(project: Project, instance: dg.DagsterInstance) -> None:
    project.define("sales", materialize=HOURLY, contract={"columns": {"orders": {"ge": 1}}})
    result = run(project, instance)
    assert result.success
    event = instance.get_latest_materialization_event(KEY)
    assert event is not None
    assert event.asset_materialization is not None
    shown = event.asset_materialization.metadata
    manifest = project.lake.head("sales", 1)
    assert manifest is not None
    entry = manifest.partitions[UNPARTITIONED]
    assert entry.run_id == result.run_id
    assert shown["dagster/row_count"].value == 3
    assert shown["snapshot"].value == 1
    assert shown["bytes"].value == entry.bytes
    assert shown["as_of"].value == entry.as_of.timestamp()
    assert shown["lake"].value == f"{project.settings.lake_url}/endpoints/sales/v1"
    columns = shown["dagster/column_schema"].value.columns
    assert [(c.name, c.type) for c in columns] == [
        ("item", "String"),
        ("orders", "UInt64"),
        ("total", "UInt64"),
    ]
    assert "| tea | 2 | 7 |" in shown["preview"].value
    assert check_passed(instance) == [True]


def test_a_breach_is_a_failed_check_and_a_failed_run(project: Project, instance: dg.DagsterInstance) -> None:
    project.define(
        "sales", materialize=HOURLY, contract={"columns": {"total": {"lt": 8}}, "rows": {"min": 1}}
    )
    assert run(project, instance).success
    project.sell(project.sales.with_columns(amount=pl.lit(9, pl.UInt32)))
    before = instance.get_latest_materialization_event(KEY)
    result = run(project, instance)
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert (
        "total: 3 values not allowed by [lt], for example 9" in failure.step_failure_data.error_display_string
    )
    assert result.get_asset_materialization_events() == []
    assert instance.get_latest_materialization_event(KEY) == before
    assert check_passed(instance) == [False, True]
    (evaluation,) = result.get_asset_check_evaluations()
    assert "| total | lt | 3 | 9, 18 |" in evaluation.metadata["failures"].value
    assert not any(event.event_type_value == "STEP_UP_FOR_RETRY" for event in result.all_events)


def away(project: Project) -> Any:
    return project.settings.model_copy(update={"clickhouse_url": "clickhouse://127.0.0.1:1/db"})


@pytest.mark.parametrize(("reachable", "retries"), [(False, 1), (True, 0)])
def test_only_what_passes_by_itself_is_retried(
    project: Project, instance: dg.DagsterInstance, reachable: bool, retries: int
) -> None:
    version = project.define("sales", "SELECT nothing FROM sales", materialize=HOURLY)
    settings = project.settings if reachable else away(project)
    definitions = load_definitions(settings.defs)
    chosen = listed(definitions.endpoints["sales"], version, definitions.sources)
    asset = version_asset(chosen, settings, retry=dg.RetryPolicy(max_retries=1))
    result = dg.materialize([asset], instance=instance, raise_on_error=False)
    assert not result.success
    assert [event.event_type_value for event in result.all_events].count("STEP_UP_FOR_RETRY") == retries
    failed = project.lake.head("sales", 1)
    assert failed is not None
    assert (failed.number, failed.outcome) == (1 + retries, "failed")


def test_assets_share_a_pool_and_retry(project: Project) -> None:
    project.define("sales", materialize=HOURLY)
    asset = compose(project.settings).resolve_assets_def(KEY)
    assert asset.op.pool == POOL
    assert asset.op.retry_policy is not None
