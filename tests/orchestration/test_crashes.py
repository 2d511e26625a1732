"""The rules by which runs are taken for killed and asked for again; test_killed_runs.py kills real ones."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from dagster import DagsterEvent, DagsterEventType, DagsterRunStatus
from dagster._core.events import JobFailureData, RunFailureReason

from endpoints.definition import Version
from endpoints.lake.claims import Claims
from orchestration.asks import BY_TAG, REQUEST_TAG, RETRIES_TAG
from orchestration.assets import asset_key
from orchestration.crashes import RETRIES, crash_sensor, end_killed, silent_runs
from orchestration.definitions import compose
from orchestration.schedules import MATERIALIZE

if TYPE_CHECKING:
    from tests.orchestration.conftest import Project

LEASE = timedelta(seconds=60)
LATER = timedelta(minutes=10)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def sales(project: Project) -> Version:
    return project.define("sales", materialize={"schedule": "hourly"})


def started(project: Project, instance: dg.DagsterInstance, **tags: str) -> dg.DagsterRun:
    run = instance.create_run_for_job(
        compose(project.settings).resolve_job_def(MATERIALIZE.name),
        asset_selection=frozenset({asset_key("sales", 1)}),
        tags=tags,
    )
    report(instance, run, DagsterEventType.PIPELINE_START)
    return run


def report(
    instance: dg.DagsterInstance,
    run: dg.DagsterRun,
    kind: DagsterEventType,
    reason: RunFailureReason | None = None,
) -> None:
    data = JobFailureData(error=None, failure_reason=reason) if reason else None
    event = DagsterEvent(kind.value, run.job_name, event_specific_data=data)
    instance.report_dagster_event(event, run.run_id)


def silent(project: Project, instance: dg.DagsterInstance, after: timedelta = LATER) -> list[str]:
    found = silent_runs(instance, project.lake, LEASE, datetime.now(UTC) + after)
    return [run.run_id for run in found]


def test_a_run_without_a_sign_of_life_is_ended(
    project: Project, instance: dg.DagsterInstance, sales: Version
) -> None:
    run = started(project, instance)
    assert silent(project, instance, timedelta()) == []
    assert silent(project, instance) == [run.run_id]
    end_killed(instance, run)
    ended = instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert (ended.status, ended.tags["dagster/failure_reason"]) == (
        DagsterRunStatus.FAILURE,
        "UNEXPECTED_TERMINATION",
    )
    assert silent(project, instance) == []


def test_a_run_that_shows_its_life_in_the_lake_goes_on(
    project: Project, instance: dg.DagsterInstance, sales: Version
) -> None:
    run = started(project, instance)
    with Claims(project.lake.store, "sales", 1).hold(run.run_id) as holding:
        holding.take(["all"], 0)
        holding.release()  # it waits for another one
        # The claim is as old for the test's "later" as the run is: only its being there can tell.
        now = datetime.now(UTC) + 3 * LEASE
        assert [r.run_id for r in silent_runs(instance, project.lake, LEASE, now)] == []
    assert silent(project, instance) == [run.run_id]


def test_a_run_that_has_ended_meanwhile_stays_as_it_is(
    project: Project, instance: dg.DagsterInstance, sales: Version
) -> None:
    run = started(project, instance)
    report(instance, run, DagsterEventType.PIPELINE_SUCCESS)
    end_killed(instance, run)
    ended = instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status is DagsterRunStatus.SUCCESS


class Sensor:
    """The sensor, ticking over an instance, with its cursor."""

    def __init__(self, project: Project, instance: dg.DagsterInstance, lease: float = 1) -> None:
        settings = project.settings.model_copy(update={"run_lease": timedelta(seconds=lease)})
        self.sensor, self.definitions = crash_sensor(settings), compose(project.settings)
        self.instance, self.cursor = instance, ""

    def tick(self) -> list[dg.RunRequest]:
        context = dg.build_sensor_context(
            self.instance, cursor=self.cursor or None, definitions=self.definitions
        )
        data = self.sensor.evaluate_tick(context)
        self.cursor = data.cursor or ""
        return list(data.run_requests or ())

    def until_asked(self) -> dg.RunRequest:
        deadline = datetime.now(UTC) + timedelta(seconds=20)
        while datetime.now(UTC) < deadline:
            if requests := self.tick():
                (request,) = requests
                return request
        raise AssertionError("it was not asked for again")


def test_a_killed_run_is_asked_for_again_once_and_after_a_while(
    project: Project, instance: dg.DagsterInstance, sales: Version
) -> None:
    sensor = Sensor(project, instance)
    run = started(project, instance, **{REQUEST_TAG: "r", "dagster/partition": "a", "dagster/run_key": "k"})
    assert sensor.tick() == []
    report(instance, run, DagsterEventType.PIPELINE_FAILURE)
    assert sensor.tick() == []  # half a lease has not passed
    request = sensor.until_asked()
    assert request.asset_selection == [asset_key("sales", 1)]
    assert request.run_key == f"again {run.run_id}"
    assert request.tags == {
        REQUEST_TAG: "r",
        "dagster/partition": "a",
        RETRIES_TAG: run.run_id,
        "dagster/parent_run_id": run.run_id,
        "dagster/root_run_id": run.run_id,
        "dagster/retry_number": "1",
        **{name: value for name, value in request.tags.items() if name == "dagster/sensor_name"},
    }
    # Asked again within the overlap it has the same key, by which Dagster knows it.
    assert {one.run_key for one in sensor.tick()} <= {request.run_key}


@pytest.mark.parametrize(
    "reason", [RunFailureReason.STEP_FAILURE, RunFailureReason.RUN_EXCEPTION], ids=lambda reason: reason.value
)
def test_a_run_with_an_error_of_its_own_is_not(
    project: Project, instance: dg.DagsterInstance, sales: Version, reason: RunFailureReason
) -> None:
    report(instance, started(project, instance), DagsterEventType.PIPELINE_FAILURE, reason)
    sensor = Sensor(project, instance)
    sensor.tick()
    assert '"waiting":{}' in sensor.cursor


def test_neither_is_one_that_somebody_waits_for_or_that_was_killed_too_often(
    project: Project, instance: dg.DagsterInstance, sales: Version
) -> None:
    often = ",".join(f"run-{number}" for number in range(RETRIES))
    for tags in ({BY_TAG: "terminal"}, {RETRIES_TAG: often}):
        report(instance, started(project, instance, **tags), DagsterEventType.PIPELINE_FAILURE)
    sensor = Sensor(project, instance)
    sensor.tick()
    assert '"waiting":{}' in sensor.cursor


def test_what_was_killed_while_dagster_was_down_is_found(
    project: Project, instance: dg.DagsterInstance, sales: Version
) -> None:
    run = started(project, instance)
    report(instance, run, DagsterEventType.PIPELINE_FAILURE)
    assert Sensor(project, instance, lease=0.001).until_asked().run_key == f"again {run.run_id}"
