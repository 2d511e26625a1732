"""Requests in the lake become one run each, and their outcome is written back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster import DagsterEvent, DagsterEventType
from dagster._core.events import JobFailureData, RunFailureReason

from endpoints.definition import Version
from endpoints.lake.manifest import Server
from endpoints.lake.requests import Request, Requests
from orchestration.asks import PARTITION_TAG, RANGE_TAGS, REQUEST_TAG
from orchestration.assets import asset_key
from orchestration.definitions import compose
from orchestration.schedules import MATERIALIZE

if TYPE_CHECKING:
    from tests.orchestration.conftest import Project

KEYS = ("all",)


class Desk:
    """The sensor over an instance, and the runs that Dagster would make of what it asks for."""

    def __init__(self, project: Project, instance: dg.DagsterInstance) -> None:
        self.project, self.instance, self.cursor = project, instance, ""
        self.left = Requests(project.lake)

    def ask(self, version: Version, *keys: str, **more: Any) -> Request:
        said = {"by": "api", "asked_by": "ops", "fingerprint": version.fingerprint, **more}
        return self.left.leave(version.endpoint, version.number, partitions=keys or KEYS, **said)

    def tick(self) -> list[dg.RunRequest]:
        definitions = compose(self.project.settings)
        context = dg.build_sensor_context(self.instance, cursor=self.cursor or None, definitions=definitions)
        (sensor,) = (one for one in definitions.sensors or () if one.name == "requests")
        data = sensor.evaluate_tick(context)
        self.cursor = data.cursor or ""
        return list(data.run_requests or ())

    def run(self, request: dg.RunRequest) -> dg.DagsterRun:
        job = compose(self.project.settings).resolve_job_def(MATERIALIZE.name)
        selection = frozenset(request.asset_selection or ())
        run = self.instance.create_run_for_job(job, asset_selection=selection, tags=dict(request.tags))
        return run

    def end(self, run: dg.DagsterRun, kind: DagsterEventType, reason: RunFailureReason | None = None) -> None:
        data = JobFailureData(error=None, failure_reason=reason) if reason else None
        event = DagsterEvent(kind.value, run.job_name, event_specific_data=data)
        self.instance.report_dagster_event(event, run.run_id)

    def found(self, request: Request) -> Request:
        found = self.left.find(request.id)
        assert found is not None
        return found


@pytest.fixture
def desk(project: Project) -> Iterator[Desk]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Desk(project, instance)


@pytest.fixture
def sales(project: Project) -> Version:
    return project.define("sales", materialize={})


def publish(project: Project, version: Version, run_id: str, *keys: str) -> None:
    attempt = project.lake.begin(
        version.endpoint,
        version.number,
        fingerprint=version.fingerprint,
        run_id=run_id,
        partitions=keys or KEYS,
    )
    entry = attempt.entry((), (), as_of=datetime.now(UTC))
    attempt.publish(dict.fromkeys(attempt.partitions, entry), Server())


def test_a_request_becomes_one_run(desk: Desk, sales: Version) -> None:
    request = desk.ask(sales)
    (asked,) = desk.tick()
    assert asked.asset_selection == [asset_key("sales", 1)]
    assert (asked.run_key, asked.tags[REQUEST_TAG]) == (request.id, request.id)
    (again,) = desk.tick()  # killed before the run was made: Dagster knows it by its key
    assert again.run_key == asked.run_key
    run = desk.run(asked)
    assert desk.tick() == []
    assert desk.found(request).run_id == run.run_id


def test_ranges_are_one_run(desk: Desk, sales: Version) -> None:
    desk.ask(sales, "a", "b", "c")
    desk.ask(sales, "d")
    tags = sorted((dict(asked.tags) for asked in desk.tick()), key=len)
    assert tags[0][PARTITION_TAG] == "d"
    assert [tags[1][tag] for tag in RANGE_TAGS] == ["a", "c"]


def test_the_outcome_is_written_back(desk: Desk, project: Project, sales: Version) -> None:
    request = desk.ask(sales)
    run = desk.run(desk.tick()[0])
    publish(project, sales, run.run_id)
    desk.end(run, DagsterEventType.PIPELINE_SUCCESS)
    desk.tick()
    assert (desk.found(request).failed, list(desk.left.open())) == ({}, [])
    assert desk.found(request).ended is not None


def test_partitions_that_failed_say_why(desk: Desk, project: Project, sales: Version) -> None:
    request = desk.ask(sales, "a", "b", "c")
    run = desk.run(desk.tick()[0])
    publish(project, sales, run.run_id, "a")
    attempt = project.lake.begin(
        "sales", 1, fingerprint=sales.fingerprint, run_id=run.run_id, partitions=["b"]
    )
    attempt.fail("breached", "total: 1 NULL")
    desk.end(run, DagsterEventType.PIPELINE_FAILURE, RunFailureReason.STEP_FAILURE)
    desk.tick()
    failed = desk.found(request).failed
    assert failed == {"b": "total: 1 NULL", "c": f"Run {run.run_id} failed before it came to this partition."}


def test_a_killed_run_leaves_it_open_for_the_next_try(desk: Desk, project: Project, sales: Version) -> None:
    request = desk.ask(sales)
    asked = desk.tick()[0]
    killed = desk.run(asked)
    desk.end(killed, DagsterEventType.PIPELINE_FAILURE)
    assert desk.tick() == []
    assert desk.found(request).ended is None
    again = desk.run(asked)
    desk.tick()
    assert desk.found(request).run_id == again.run_id


def test_what_cannot_be_run_is_told(desk: Desk, project: Project, sales: Version) -> None:
    gone = desk.ask(sales, fingerprint="another")
    unknown = Requests(project.lake).leave("nope", 3, "f", KEYS, by="api", asked_by="ops")
    live = desk.ask(project.define("live", "SELECT item FROM sales"))
    assert desk.tick() == []
    errors = [(desk.found(request).failed or {})["all"] for request in (gone, unknown, live)]
    assert "another definition" in errors[0]
    assert errors[1] == "Dagster knows no nope@3."
    assert "live only" in errors[2]


def test_requests_of_the_command_line_are_its_own(desk: Desk, sales: Version) -> None:
    request = desk.ask(sales, by="cli")
    assert desk.tick() == []
    assert desk.found(request).ended is None
