"""One schedule per cadence, and what its ticks ask for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from endpoints.definition import Version
from endpoints.lake.layout import manifest_key
from endpoints.lake.manifest import Server, encode
from endpoints.lake.publish import Lake
from endpoints.warehouse.protocol import Warehouse
from orchestration.asks import DUE_TAG, PARTITION_TAG, RANGE_TAGS, partition_tags
from orchestration.assets import asset_key
from orchestration.definitions import compose
from orchestration.materialize import materialize
from orchestration.schedules import Cadence, run_requests, runs_under_way

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
    cadences = {s.name: s.cron_schedule for s in schedules if not s.name.startswith("housekeeping")}
    assert cadences == {
        "cadence_hourly": "0 * * * *",
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


def daily(project: Project, **partitions: object) -> Version:
    """A version of daily partitions from the first of January on, the last two of them open."""
    slices = {"column": "day", "by": "day", "start": "2026-01-01", "refresh": 2, **partitions}
    sql = "SELECT toDate('2026-01-01') AS day, count() AS n FROM sales GROUP BY day"
    return project.define("daily", sql, materialize={"schedule": "hourly", "partitions": slices})


def published(version: Version, lake: Lake, keys: Iterable[str], as_of: datetime) -> None:
    attempt = lake.begin(
        version.endpoint, version.number, fingerprint=version.fingerprint, run_id="r", partitions=tuple(keys)
    )
    attempt.publish({key: attempt.entry((), (), as_of=as_of) for key in attempt.partitions}, Server())


def asks(
    version: Version, lake: Lake, at: datetime, *, under_way: Mapping[str, str] | None = None
) -> list[dg.RunRequest]:
    with dg.DagsterInstance.ephemeral() as instance:
        if under_way is not None:
            instance.add_run(run_of(version, under_way))
        runs = runs_under_way(instance)
    return list(run_requests(Cadence("0 * * * *", (version,)), lake, at, runs))


def run_of(version: Version, tags: Mapping[str, str]) -> dg.DagsterRun:
    return dg.DagsterRun(
        job_name="materialize_endpoints",
        status=dg.DagsterRunStatus.STARTED,
        asset_selection=frozenset({asset_key(version.endpoint, version.number)}),
        tags=dict(tags),
    )


def test_days_of_downtime_are_caught_up_by_one_run(project: Project) -> None:
    version = daily(project)
    at = datetime(2026, 1, 10, 12, tzinfo=UTC)
    published(version, project.lake, [f"2026-01-0{day}" for day in range(1, 6)], at - timedelta(days=4))
    (request,) = asks(version, project.lake, at)  # the fifth was open when it was last made
    assert request.tags == {**partition_tags(["2026-01-05", "2026-01-10"]), DUE_TAG: "1"}


def test_what_is_being_made_is_not_asked_for_again(project: Project) -> None:
    version = daily(project)
    at = datetime(2026, 1, 3, 12, tzinfo=UTC)
    history = partition_tags(["2026-01-01", "2026-01-02"])
    (request,) = asks(version, project.lake, at, under_way=history)
    assert request.tags[PARTITION_TAG] == "2026-01-03"
    assert asks(version, project.lake, at, under_way=partition_tags(["2026-01-01", "2026-01-03"])) == []
    plain = project.define("plain", PLAIN, materialize={"schedule": "hourly"})
    assert len(asks(plain, project.lake, at)) == 1
    assert asks(plain, project.lake, at, under_way={}) == []


def test_a_long_history_does_not_hold_up_the_newest(project: Project) -> None:
    newest, history = asks(daily(project), project.lake, datetime(2026, 6, 1, 12, tzinfo=UTC))
    assert [newest.tags[tag] for tag in RANGE_TAGS] == ["2026-05-31", "2026-06-01"]
    assert [history.tags[tag] for tag in RANGE_TAGS] == ["2026-01-01", "2026-05-30"]
    assert "dagster/priority" not in newest.tags
    assert history.tags["dagster/priority"] == "-1"
    assert newest.run_key != history.run_key


def test_paused_versions_are_skipped(project: Project) -> None:
    project.define("sales", PLAIN, materialize={"schedule": "hourly", "paused": True})
    assert not tick(project).run_requests


def test_a_snapshot_that_cannot_be_read_leaves_the_others_alone(project: Project) -> None:
    define(project)
    project.lake.store.put(manifest_key("a", 1, 1), b"{}")
    assert asked(project) == [[asset_key("b", 1)]]


def crowd(project: Project, many: int) -> Cadence:
    version = project.define("sales", PLAIN, materialize={"schedule": "hourly"})
    return Cadence("0 * * * *", tuple(replace(version, endpoint=f"e{number}") for number in range(many)))


def test_few_versions_begin_at_once_and_many_over_some_minutes(project: Project) -> None:
    assert crowd(project, 50).ticks == "0 * * * *"
    assert crowd(project, 1000).ticks == "0-19 * * * *"
    assert crowd(project, 5000).ticks == "0-29 * * * *"
    late = replace(crowd(project, 1000), cron="55 3 * * 1")
    assert late.ticks == "55-59 3 * * 1"
    assert replace(late, cron="*/10 * * * *").ticks == "*/10 * * * *"


def test_each_version_has_its_own_minute_always_the_same(project: Project) -> None:
    cadence = crowd(project, 1000)
    minutes = [cadence.at(AT + timedelta(minutes=minute))[0] for minute in range(20)]
    assert sorted(v.endpoint for versions in minutes for v in versions) == sorted(
        v.endpoint for v in cadence.versions
    )
    assert all(20 < len(versions) < 90 for versions in minutes)
    assert cadence.at(AT)[0] == crowd(project, 1000).at(AT + timedelta(days=1))[0]


def test_the_last_minute_asks_for_those_that_were_missed(project: Project) -> None:
    cadence, lake = crowd(project, 60), project.lake
    first, last = AT, AT + timedelta(minutes=1)
    early, own = cadence.at(first)[0], cadence.at(last)[0]
    made, failed, running, *missed = early
    published(made, lake, ["all"], first + timedelta(seconds=20))
    lake.begin(failed.endpoint, 1, fingerprint=failed.fingerprint, run_id="r").fail("failed", "no")
    requests = list(run_requests(cadence, lake, last, [run_of(running, {})]))
    assert [request.asset_selection for request in requests] == [
        [asset_key(version.endpoint, 1)] for version in (*own, *missed)
    ]
