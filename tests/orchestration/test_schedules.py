"""One schedule per cadence, and what its ticks ask for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from endpoints.lake.layout import manifest_key
from endpoints.lake.manifest import encode
from endpoints.warehouse.protocol import Warehouse
from orchestration.assets import asset_key
from orchestration.definitions import compose
from orchestration.materialize import materialize

if TYPE_CHECKING:
    from tests.orchestration.conftest import Project

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
PLAIN = "SELECT item FROM sales ORDER BY item"


def define(project: Project) -> None:
    project.define("a", materialize={"schedule": "hourly"})
    project.define("b", materialize={"schedule": "hourly"})
    project.define("c", materialize={"schedule": "*/10 6-8 * * 1,3"})
    project.define("on_demand", materialize={})
    project.define("live", PLAIN)
    project.define("refused", "SELECT rand() AS x FROM sales", materialize={"schedule": "weekly"})


def tick(project: Project, name: str = "cadence_hourly", at: datetime = AT) -> dg.SensorExecutionData:
    schedule = compose(project.settings).resolve_schedule_def(name)
    with dg.DagsterInstance.ephemeral() as instance:
        return schedule.evaluate_tick(dg.build_schedule_context(instance, scheduled_execution_time=at))


def asked(project: Project, at: datetime = AT) -> list[list[dg.AssetKey]]:
    return [list(request.asset_selection or ()) for request in tick(project, at=at).run_requests or ()]


def test_one_schedule_per_cadence_running_by_default(project: Project) -> None:
    define(project)
    schedules = compose(project.settings).schedules or ()
    assert {s.name: s.cron_schedule for s in schedules} == {
        "cadence_hourly": "0 * * * *",
        "housekeeping": "17 3 * * *",
        "housekeeping_runs": "47 * * * *",
        "cron_x_every_10_6_to_8_x_x_1_and_3": "*/10 6-8 * * 1,3",
    }
    assert {s.default_status for s in schedules} == {dg.DefaultScheduleStatus.RUNNING}
    assert {s.execution_timezone for s in schedules} == {"UTC"}


def test_a_tick_asks_for_a_run_of_each_version_once(project: Project) -> None:
    define(project)
    first, second = tick(project).run_requests or ()
    assert first.asset_selection == [asset_key("a", 1)]
    assert second.asset_selection == [asset_key("b", 1)]
    assert first.run_key == "a@1 2026-03-01T12:00:00+00:00"


def test_versions_past_their_sunset_are_skipped(project: Project) -> None:
    hourly = {"schedule": "hourly"}
    old: dict[str, object] = {"deprecated": "2026-01-01", "sunset": "2026-03-01", "materialize": hourly}
    project.define_versions("sales", {1: (PLAIN, old), 2: (PLAIN, {"materialize": hourly})})
    assert asked(project) == [[asset_key("sales", 2)]]
    before = datetime(2026, 2, 28, 23, tzinfo=UTC)
    assert asked(project, before) == [[asset_key("sales", 1)], [asset_key("sales", 2)]]


def test_held_versions_are_skipped(project: Project, warehouse: Warehouse) -> None:
    version = project.define("sales", PLAIN, materialize={"schedule": "hourly"})
    lake = project.lake
    published = materialize(version, warehouse, lake, project.settings, run_id="r").manifest
    held = replace(published, number=2, held=True)
    lake.store.put_new(manifest_key("sales", 1, 2), encode(held).body)
    data = tick(project)
    assert not data.run_requests
    assert "held" in (data.skip_message or "")
