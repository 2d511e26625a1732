"""`checks:` of a version: queries that must give no rows before new ones are published."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl
import pytest

from endpoints.errors import BadQuery, CheckBreach
from endpoints.lake.manifest import UNPARTITIONED, Manifest
from endpoints.warehouse.protocol import Warehouse
from orchestration.assets import asset_key
from orchestration.definitions import compose
from orchestration.materialize import materialize, materialize_partitions
from orchestration.schedules import MATERIALIZE

if TYPE_CHECKING:
    from tests.orchestration.conftest import Project

HOURLY = {"schedule": "hourly"}
KEY = asset_key("sales", 1)
# A range waits for the request: what is stored are parts of answers.
PARTS = """
SELECT item, sum(amount) AS total, uniq(shop) AS shops FROM sales
WHERE shop = {shop:String} AND amount >= {least:UInt32} GROUP BY item ORDER BY item
"""


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def head(project: Project) -> Manifest:
    found = project.lake.head("sales", 1)
    assert found is not None
    return found


def found(project: Project, warehouse: Warehouse, *checks: str, sql: str | None = None) -> list[str]:
    """What checks of severity `warn` found, in words; `no rows` where nothing."""
    own = {f"check_{n}": {"sql": text, "severity": "warn"} for n, text in enumerate(checks)}
    given = {} if sql is None else {"sql": sql}
    version = project.define("sales", **given, materialize=HOURLY, checks=own)  # type: ignore[arg-type]
    done = materialize(version, warehouse, project.lake, project.settings, run_id="r")
    return [check.detail for check in done.entry.checks if check.name.startswith("check:")]


def test_a_check_reads_the_new_rows_and_their_variables(project: Project, warehouse: Warehouse) -> None:
    assert found(
        project,
        warehouse,
        "SELECT * FROM asset WHERE orders > 1",
        "SELECT shop, item FROM asset WHERE shop = 'south'",
        "WITH big AS (SELECT item FROM asset WHERE total > 100) SELECT * FROM big",
        "SELECT item FROM asset WHERE total = 5 UNION ALL SELECT item FROM asset WHERE total = 60;",
        "(SELECT count() AS n FROM asset) UNION ALL (SELECT toUInt64(orders) FROM asset WHERE orders = 9)",
        "SELECT toTypeName(orders) AS t FROM asset WHERE toTypeName(orders) != 'UInt64'",
        "SELECT item FROM asset a JOIN asset b USING (item, shop) GROUP BY item HAVING count() > 1"
        " SETTINGS join_use_nulls = 1",
    ) == [
        "1 row, for example item=tea, orders=2, total=7, shop=north",
        "1 row, for example shop=south, item=tea",
        "no rows",
        "1 row, for example item=tea",
        "1 row, for example n=3",
        "no rows",
        "1 row, for example item=tea",
    ]


def test_a_check_reads_the_warehouse(project: Project, warehouse: Warehouse) -> None:
    """Before the version's own query: what is wrong with the source is known before it is read."""
    assert found(project, warehouse, "SELECT shop FROM sales WHERE amount > 5") == [
        "1 row, for example shop=north"
    ]


def test_whole_answers_are_checked_where_parts_are_stored(project: Project, warehouse: Warehouse) -> None:
    assert found(
        project, warehouse, "SELECT item, total, shop FROM asset WHERE total > 5 ORDER BY item", sql=PARTS
    ) == ["2 rows, for example item=jam, total=6, shop=north; item=tea, total=7, shop=north"]


def test_an_asset_without_rows_is_checked(project: Project, warehouse: Warehouse) -> None:
    project.sell(project.sales.clear())
    assert found(project, warehouse, "SELECT * FROM asset", "SELECT count() AS n FROM asset") == [
        "no rows",
        "1 row, for example n=0",
    ]


def test_many_rows_are_not_counted_to_the_end(project: Project, warehouse: Warehouse) -> None:
    check = "SELECT number FROM asset, numbers(1000000000) AS n"
    [said] = found(project, warehouse, check)
    assert said.startswith("1,000 rows or more, for example number=0")


def test_rows_stop_publishing(project: Project, warehouse: Warehouse) -> None:
    project.define("sales", materialize=HOURLY)
    first = materialize(project.version("sales"), warehouse, project.lake, project.settings, run_id="1")
    checks = {
        "quiet": {"sql": "SELECT * FROM asset WHERE orders = 1", "severity": "warn"},
        "cheap": {"sql": "SELECT item, total FROM asset WHERE total > 6"},
    }
    version = project.define("sales", materialize=HOURLY, checks=checks)
    assert version.fingerprint == first.version.fingerprint
    assert version.lock_fingerprint == first.version.lock_fingerprint
    with pytest.raises(CheckBreach, match="cheap: 1 row, for example item=tea, total=7") as raised:
        materialize(version, warehouse, project.lake, project.settings, run_id="2")
    assert raised.value.summary == "The check cheap found 1 row."
    now = head(project)
    assert now.outcome == "breached"
    assert now.partitions == first.manifest.partitions
    failure = now.failures[UNPARTITIONED]
    assert (failure.cause, failure.summary) == ("check", "The check cheap found 1 row.")


def test_a_partition_is_checked_by_itself(project: Project, warehouse: Warehouse) -> None:
    """What is stored are parts (a range waits for the request): `asset` holds answers of its slice alone."""
    days = [datetime(2026, 1, day, 12, tzinfo=UTC) for day in (1, 1, 2, 2)]
    project.sell(project.sales.with_columns(at=pl.Series(days)))
    partitions = {"column": "at", "by": "day", "start": "2026-01-01", "end": "2026-01-03"}
    checks = {"dear": {"sql": "SELECT item, total FROM asset WHERE total IN (6, 13)"}}
    version = project.define(
        "sales", PARTS, materialize={"schedule": "daily", "partitions": partitions}, checks=checks
    )
    done = materialize_partitions(
        version,
        warehouse,
        project.lake,
        project.settings,
        run_id="r",
        partitions=["2026-01-01", "2026-01-02"],
    )
    assert {type(one).__name__ for one in done} == {"Materialized", "Unmade"}
    now = head(project)
    assert set(now.partitions) == {"2026-01-01"}
    assert now.failures["2026-01-02"].summary == "The check dear found 1 row."


@pytest.mark.parametrize("severity", ["error", "warn"])
def test_a_check_that_cannot_be_run(project: Project, warehouse: Warehouse, severity: str) -> None:
    checks = {"typo": {"sql": "SELECT nothing FROM asset", "severity": severity}}
    version = project.define("sales", materialize=HOURLY, checks=checks)
    if severity == "error":
        with pytest.raises(BadQuery, match="The check typo could not be run"):
            materialize(version, warehouse, project.lake, project.settings, run_id="r")
        assert head(project).outcome == "failed"
    else:
        done = materialize(version, warehouse, project.lake, project.settings, run_id="r")
        [said] = [check for check in done.entry.checks if check.name == "check:typo"]
        assert not said.passed
        assert "could not be run" in said.detail


def test_dagster_shows_each_check(project: Project, instance: dg.DagsterInstance) -> None:
    checks = {
        "cheap": {"sql": "SELECT item FROM asset WHERE total > 7", "description": "Too dear."},
        "few": {"sql": "SELECT item FROM asset WHERE orders < 2", "severity": "warn"},
    }
    project.define("sales", materialize=HOURLY, checks=checks)
    job = compose(project.settings).resolve_job_def(MATERIALIZE.name)

    def said() -> dict[str, tuple[bool, str | None]]:
        result = job.execute_in_process(instance=instance, asset_selection=[KEY], raise_on_error=False)
        return {
            one.check_name: (one.passed, one.description)
            for one in result.get_asset_check_evaluations()
            if one.check_name in checks
        }

    first = said()
    assert first["cheap"] == (True, None)
    assert first["few"] == (False, "2 rows, for example item=jam; item=tea")
    project.sell(project.sales.with_columns(amount=pl.lit(8, pl.UInt32)))
    assert said() == {"cheap": (False, "3 rows, for example item=jam; item=tea; item=tea")}
