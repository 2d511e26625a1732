"""Dagster runs of one asset that share work: what each says of partitions that another has made."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl
import pytest

from endpoints.lake.claims import Claims
from endpoints.lake.requests import Requests
from orchestration.asks import DUE_TAG, REQUEST_TAG, RETRIES_TAG, partition_tags
from orchestration.definitions import compose
from orchestration.schedules import MATERIALIZE

if TYPE_CHECKING:
    from tests.orchestration.conftest import Project

DAYS = ["2026-01-01", "2026-01-02", "2026-01-03"]
SQL = """
SELECT toDate(day) AS date, sum(amount) AS total
FROM sales WHERE shop = {shop:String} GROUP BY date ORDER BY date
"""


def daily(project: Project) -> None:
    project.sell(
        pl.DataFrame(
            {"shop": ["north"] * 3, "day": DAYS, "amount": [1, 2, 3]}, schema_overrides={"amount": pl.UInt32}
        ).with_columns(pl.col("day").str.to_datetime(time_unit="ms", time_zone="UTC"))
    )
    slices = {"column": "day", "by": "day", "start": DAYS[0], "end": "2026-01-04"}
    project.define("daily", SQL, materialize={"partitions": slices})


def run(
    project: Project, instance: dg.DagsterInstance, name: str = "daily", **tags: str
) -> dg.ExecuteInProcessResult:
    job = compose(project.settings).resolve_job_def(MATERIALIZE.name)
    return job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(["endpoints", name, "v1"])],
        tags=tags,
        raise_on_error=False,
    )


def outcomes(result: dg.ExecuteInProcessResult) -> dict[str | None, object]:
    assert result.success
    events = [e.step_materialization_data.materialization for e in result.get_asset_materialization_events()]
    return {event.partition: event.metadata["outcome"].value for event in events}


@pytest.mark.filterwarnings(
    "ignore"
)  # Python's filters, by which Dagster silences its own, are not for threads
def test_two_runs_at_once_make_each_partition_once(project: Project) -> None:
    daily(project)
    with dg.DagsterInstance.local_temp(str(project.folder)) as instance, ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: run(project, instance, **partition_tags(DAYS)), range(2)))
    told = [outcomes(result) for result in done]
    assert [sorted(one) for one in told] == [DAYS, DAYS]
    assert sorted(str(word) for one in told for word in one.values()) == ["published"] * 3 + ["shared"] * 3
    head = project.lake.head("daily", 1)
    assert head is not None
    assert {entry.run_id for entry in head.partitions.values()} <= {result.run_id for result in done}


def test_a_run_that_goes_on_for_a_killed_one_makes_the_rest(project: Project) -> None:
    daily(project)
    with dg.DagsterInstance.ephemeral() as instance:
        killed = run(project, instance, **partition_tags(DAYS[:2]))
        again = run(project, instance, **partition_tags(DAYS), **{RETRIES_TAG: killed.run_id})
    assert outcomes(again) == {DAYS[0]: "shared", DAYS[1]: "shared", DAYS[2]: "published"}


def test_a_request_names_its_partitions_and_what_counts(project: Project) -> None:
    daily(project)
    fingerprint = project.version("daily").fingerprint
    with dg.DagsterInstance.ephemeral() as instance:
        left = Requests(project.lake).leave(
            "daily", 1, fingerprint, [DAYS[0], DAYS[2]], by="cli", asked_by="test"
        )
        run(project, instance, **partition_tags(DAYS[:1]))
        done = run(project, instance, **partition_tags(left.partitions), **{REQUEST_TAG: left.id})
        assert outcomes(done) == {DAYS[0]: "shared", DAYS[2]: "published"}
        project.define("daily", SQL.replace("sum", "max"), materialize={"partitions": {
            "column": "day", "by": "day", "start": DAYS[0], "end": "2026-01-04"}})  # fmt: skip
        late = run(project, instance, **partition_tags(left.partitions), **{REQUEST_TAG: left.id})
    assert not late.success
    assert "ask again" in str(late.all_events)


def test_a_scheduled_run_makes_what_is_still_due(project: Project) -> None:
    daily(project)
    with dg.DagsterInstance.ephemeral() as instance:
        run(project, instance, **partition_tags(DAYS[:2]))  # final: these days are over
        assert outcomes(run(project, instance, **partition_tags(DAYS), **{DUE_TAG: "0"})) == {
            DAYS[2]: "published"
        }
        nothing = run(project, instance, **partition_tags(DAYS), **{DUE_TAG: "0"})
    assert outcomes(nothing) == {}


def test_an_asset_in_one_piece_is_shared_too(project: Project) -> None:
    project.define("sales", materialize={})
    with dg.DagsterInstance.ephemeral() as instance:
        first = run(project, instance, "sales")
        assert outcomes(first) == {None: "published"}
        again = run(project, instance, "sales", **{RETRIES_TAG: first.run_id})
        assert outcomes(again) == {None: "shared"}
        (event,) = again.get_asset_materialization_events()
        assert event.step_materialization_data.materialization.metadata["made by"].value == first.run_id
        assert outcomes(run(project, instance, "sales")) == {None: "published"}  # asked for later
    assert Claims(project.lake.store, "sales", 1).live() == []
