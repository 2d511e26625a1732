"""The sensor `alerts`: on a real Dagster instance and a real lake, with a webhook that really receives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl
import pytest

from endpoints.lake.rollback import release, roll_back
from orchestration.alerts import NAME
from orchestration.assets import asset_key
from orchestration.checks import FRESHNESS_CHECK
from orchestration.definitions import compose
from orchestration.schedules import MATERIALIZE

if TYPE_CHECKING:
    from tests.conftest import Webhook
    from tests.orchestration.conftest import Project

KEY = asset_key("sales", 1)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


class Daemon:
    """A code location, its runs and its sensor's ticks, as Dagster's daemon drives them."""

    def __init__(self, project: Project, instance: dg.DagsterInstance, url: str = "") -> None:
        alerts = (url,) if url else ()
        settings = project.settings.model_copy(update={"alerts": alerts, "parity_samples": 0})
        self.definitions, self.instance = compose(settings), instance
        self.cursor: str | None = None

    def run(self) -> dg.ExecuteInProcessResult:
        job = self.definitions.resolve_job_def(MATERIALIZE.name)
        return job.execute_in_process(instance=self.instance, asset_selection=[KEY], raise_on_error=False)

    def tick(self) -> dg.SensorResult:
        sensor = self.definitions.resolve_sensor_def(NAME)
        with dg.build_sensor_context(self.instance, cursor=self.cursor) as context:
            result = sensor(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        for event in result.asset_events or ():
            self.instance.report_runless_asset_event(event)
        return result

    def freshness(self) -> bool:
        """What the check `freshness` said last."""
        [record] = self.instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(KEY, FRESHNESS_CHECK), limit=1
        )
        evaluation = record.event.dagster_event.asset_check_evaluation_data  # type: ignore[union-attr]
        assert evaluation is not None
        return bool(evaluation.passed)


def test_it_runs_by_default(project: Project, instance: dg.DagsterInstance) -> None:
    sensor = Daemon(project, instance).definitions.resolve_sensor_def(NAME)
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING


def test_a_breach_and_its_recovery_arrive(
    project: Project, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    contract = {"columns": {"total": {"lt": 8}}}
    project.define("sales", materialize={"schedule": "hourly"}, contract=contract)
    daemon = Daemon(project, instance, webhook.url)
    assert daemon.run().success
    daemon.tick()
    assert not webhook.posts
    project.sell(project.sales.with_columns(amount=pl.lit(9, pl.UInt32)))
    failed = daemon.run()
    assert not failed.success
    said = daemon.tick()
    assert "1 begun, 0 over; 1 messages delivered" in str(said.skip_reason)
    [post] = webhook.posts
    assert post["title"] == "sales@1: contract broken"
    assert post["message"].startswith("The contract was broken: total [lt].\n")
    assert "9" not in post["message"].splitlines()[0], "values stay with operators"
    assert f"/runs/{failed.run_id}" in post["message"]
    daemon.tick()
    project.sell(project.sales)
    assert daemon.run().success
    daemon.tick()
    assert webhook.titles == [
        "sales@1: contract broken",
        "sales@1: recovered (contract broken)",
    ]


def test_a_run_that_is_killed_is_told_of(
    project: Project, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    """Nothing is in the lake: Dagster alone knows, from its run monitoring."""
    project.define("sales", materialize={"schedule": "hourly"})
    daemon = Daemon(project, instance, webhook.url)
    assert daemon.run().success
    daemon.tick()
    job = daemon.definitions.resolve_job_def(MATERIALIZE.name)
    run = instance.create_run_for_job(
        job.get_subset(asset_selection={KEY}),
        asset_selection=frozenset({KEY}),
        status=dg.DagsterRunStatus.STARTED,
    )
    instance.report_run_failed(run, "killed")
    daemon.tick()
    assert webhook.titles == ["sales@1: failed"]
    assert f"/runs/{run.run_id}" in webhook.posts[0]["message"]
    assert daemon.run().success
    daemon.tick()
    assert webhook.titles == ["sales@1: failed", "sales@1: recovered (failed)"]


def test_the_freshness_check_is_kept_true_between_runs(
    project: Project, instance: dg.DagsterInstance
) -> None:
    project.define("sales", materialize={"schedule": "hourly"}, freshness="10ms")
    daemon = Daemon(project, instance)
    daemon.run()
    said = daemon.tick()
    assert "ENDPOINTS_ALERTS is not set: nobody is told." in str(said.skip_reason)
    assert not daemon.freshness()
    assert not daemon.tick().asset_events, "said once"
    project.define("sales", materialize={"schedule": "hourly"}, freshness="1h")
    fresh = Daemon(project, instance)
    fresh.cursor = daemon.cursor
    fresh.tick()
    assert fresh.freshness()


def test_a_rollback_by_the_command_is_on_the_assets_page(
    project: Project, instance: dg.DagsterInstance
) -> None:
    version = project.define("sales", materialize={"schedule": "hourly"})
    daemon = Daemon(project, instance)

    def observed() -> list[tuple[Any, ...]]:
        """What the page shows, oldest first, after the sensor has looked twice."""
        daemon.tick()
        daemon.tick()
        records = instance.fetch_observations(KEY, limit=10, ascending=True).records
        shown = [record.asset_observation for record in records]
        names = ("outcome", "snapshot", "held", "content of snapshot")
        return [
            tuple(one.metadata[n].value if n in one.metadata else None for n in names) for one in shown if one
        ]

    for _ in range(3):
        assert daemon.run().success
    assert observed() == []
    roll_back(project.lake, version)
    expected: list[tuple[Any, ...]] = [("rolled_back", 4, True, 2)]
    assert observed() == expected
    roll_back(project.lake, version)
    expected.append(("rolled_back", 5, True, 1))
    assert observed() == expected
    release(project.lake, version)
    expected.append(("released", 6, False, None))
    assert observed() == expected
    assert daemon.run().success
    assert observed() == expected, "a publish is a materialization"

    config = {"ops": {"serve_older_snapshot": {"config": {"version": "sales", "to": 1}}}}
    job = daemon.definitions.resolve_job_def("roll_back")
    assert job.execute_in_process(instance=instance, run_config=config).success
    expected.append(("rolled_back", 8, True, 1))
    assert observed() == expected, "the job has said so itself"


def test_a_lake_that_does_not_answer_fails_no_tick(
    project: Project, instance: dg.DagsterInstance, webhook: Webhook
) -> None:
    project.define("sales", materialize={"schedule": "hourly"})
    (project.folder / "lake").write_text("not a folder")
    daemon = Daemon(project, instance, webhook.url)
    daemon.cursor = json.dumps({"runs_until": datetime.now(UTC).isoformat(), "states": {}})
    before = daemon.cursor
    assert "does not answer" in str(daemon.tick().skip_reason)
    assert daemon.cursor == before


def test_a_cursor_of_old_is_no_trouble(project: Project, instance: dg.DagsterInstance) -> None:
    project.define("sales", materialize={"schedule": "hourly"})
    daemon = Daemon(project, instance)
    daemon.cursor = "nonsense"
    daemon.tick()
    assert daemon.cursor is not None
    since = datetime.fromisoformat(json.loads(daemon.cursor)["runs_until"])
    assert datetime.now(UTC) - since < timedelta(hours=2)
