"""Column lineage as Dagster gets it: from embedded ClickHouse, and through the views of a real server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from clickhouse_driver import Client

from endpoints.warehouse.native import NativeWarehouse
from endpoints.warehouse.protocol import Statement, Warehouse
from orchestration.assets import asset_key
from orchestration.definitions import compose
from orchestration.lineage import lineage_metadata, view_query
from orchestration.making import plan_of
from orchestration.schedules import MATERIALIZE

if TYPE_CHECKING:
    from tests.orchestration.conftest import Project

KEY = asset_key("sales", 1)


def shown(lineage: dg.TableColumnLineage) -> dict[str, list[str]]:
    return {
        column: [f"{dep.asset_key.to_user_string()} {dep.column_name}" for dep in deps]
        for column, deps in lineage.deps_by_column.items()
    }


def test_a_run_tells_the_columns_that_it_is_made_of(project: Project) -> None:
    project.define("sales", materialize={"schedule": "hourly"})
    with dg.DagsterInstance.ephemeral() as instance:
        job = compose(project.settings).resolve_job_def(MATERIALIZE.name)
        job.execute_in_process(instance=instance, asset_selection=[KEY])
        event = instance.get_latest_materialization_event(KEY)
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    assert shown(metadata["dagster/column_lineage"].value) == {
        "item": ["clickhouse/sales item"],
        "total": ["clickhouse/sales amount"],
    }
    assert "views" not in metadata


def test_a_table_that_is_not_there_tells_nothing(project: Project, warehouse: Warehouse) -> None:
    version = project.define("sales", "SELECT a FROM nowhere", materialize={"schedule": "hourly"})
    plan_of(version)
    assert lineage_metadata(version, (), warehouse) == {}


@pytest.fixture
def server(clickhouse_url: str) -> Iterator[tuple[Client, NativeWarehouse]]:
    """A database of its own on the server."""
    name, address = f"lineage_{uuid.uuid4().hex[:8]}", clickhouse_url.removeprefix("clickhouse://")
    host, _, port = address.partition(":")
    admin = Client(host, port=int(port))
    admin.execute(f"CREATE DATABASE {name}")
    client = Client(host, port=int(port), database=name)
    warehouse = NativeWarehouse(f"{clickhouse_url}/{name}")
    yield client, warehouse
    warehouse.close()
    client.disconnect()
    admin.execute(f"DROP DATABASE {name}")
    admin.disconnect()


@pytest.mark.clickhouse
def test_views_are_resolved_to_their_tables(project: Project, server: tuple[Client, NativeWarehouse]) -> None:
    client, warehouse = server
    client.execute("CREATE TABLE events (day Date, user String, amount UInt32) ENGINE = Memory")
    client.execute(
        "CREATE VIEW paid AS SELECT day, user AS who, amount * 2 AS double FROM events WHERE amount > 0"
    )
    client.execute("CREATE VIEW daily AS SELECT day, sum(double) AS total FROM paid GROUP BY day")
    client.execute(
        "CREATE MATERIALIZED VIEW kept ENGINE = Memory AS "
        "SELECT day, count() AS n, max(user) AS last FROM events GROUP BY day"
    )
    version = project.define("sales", "SELECT day, total AS t, n, last FROM daily JOIN kept USING (day)")
    columns = warehouse.describe(Statement(version.sql))
    metadata: dict[str, Any] = lineage_metadata(version, columns, warehouse)
    assert shown(metadata["dagster/column_lineage"]) == {
        "t": ["clickhouse/events amount"],
        "last": ["clickhouse/events user"],
    }
    assert metadata["views"].value == {"daily": ["paid"], "kept": ["events"], "paid": ["events"]}


@pytest.mark.parametrize(
    ("create", "query"),
    [
        ("CREATE VIEW here.v (`a` UInt8) AS SELECT a FROM here.t", "SELECT a FROM t"),
        (
            "CREATE VIEW v AS (SELECT t.a AS here FROM there.here AS t)",
            "( SELECT t . a AS here FROM there . here AS t )",
        ),
        ("CREATE MATERIALIZED VIEW here.v TO here.x AS WITH 1 AS y SELECT y", "WITH 1 AS y SELECT y"),
        ("CREATE TABLE t (a UInt8) ENGINE = Memory", None),
    ],
)
def test_the_query_of_a_view(create: str, query: str | None) -> None:
    assert view_query(create, "here") == query
