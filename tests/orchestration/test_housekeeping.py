"""Housekeeping: what nobody needs is taken out of the lake and out of Dagster, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from endpoints.lake.manifest import Tombstone
from endpoints.warehouse.protocol import Warehouse
from orchestration.definitions import compose
from orchestration.materialize import materialize
from orchestration.retention import purge_runs

if TYPE_CHECKING:
    from tests.orchestration.conftest import Project


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Dagster with SQLite files, as a project has it."""
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def test_old_snapshots_are_collected_by_an_asset(
    project: Project, warehouse: Warehouse, instance: dg.DagsterInstance
) -> None:
    version = project.define("sales", materialize={"schedule": "hourly"})
    for _ in range(3):
        newest = materialize(version, warehouse, project.lake, project.settings, run_id="r").manifest
    eager = project.settings.model_copy(update={"retention": timedelta(0), "keep_snapshots": 1})
    done = compose(eager).resolve_job_def("collect_snapshots").execute_in_process(instance=instance)
    assert done.success
    (event,) = done.get_asset_materialization_events()
    metadata = event.step_materialization_data.materialization.metadata
    assert event.asset_key == dg.AssetKey(["housekeeping", "lake"])
    assert (metadata["manifests"].value, metadata["files"].value) == (2, 2)
    assert project.lake.head("sales", 1) == newest
    assert isinstance(project.lake.manifest("sales", 1, 1), Tombstone)


def test_one_version_that_cannot_be_collected_fails_the_run_and_not_the_others(
    project: Project, warehouse: Warehouse, instance: dg.DagsterInstance
) -> None:
    for name in ("broken", "sales"):
        version = project.define(name, materialize={"schedule": "hourly"})
        for _ in range(2):
            materialize(version, warehouse, project.lake, project.settings, run_id="r")
    project.lake.store.put("endpoints/broken/v1/manifests/00000000000000000002.json", b"{}")
    eager = project.settings.model_copy(update={"retention": timedelta(0), "keep_snapshots": 1})
    job = compose(eager).resolve_job_def("collect_snapshots")
    assert not job.execute_in_process(instance=instance, raise_on_error=False).success
    assert isinstance(project.lake.manifest("sales", 1, 1), Tombstone)


def test_the_job_of_endpoints_leaves_housekeeping_alone(project: Project) -> None:
    project.define("sales", materialize={"schedule": "hourly"})
    nodes = {node.name for node in compose(project.settings).resolve_job_def("materialize_endpoints").nodes}
    assert nodes == {"endpoints__sales__v1"}


@dg.asset
def plain() -> None:
    print("captured")


@dg.asset(partitions_def=dg.StaticPartitionsDefinition(["a", "b"]))
def parted() -> None:
    return


@dg.asset
def failing() -> None:
    raise dg.Failure("no")


def run_of(instance: dg.DagsterInstance, asset: dg.AssetsDefinition, partition: str | None = None) -> str:
    return dg.materialize([asset], instance=instance, partition_key=partition, raise_on_error=False).run_id


def test_runs_go_but_for_those_that_made_what_is_there(instance: dg.DagsterInstance) -> None:
    """Without the run that made it last, a partition would be missing, and be made again."""
    first, second = run_of(instance, plain), run_of(instance, plain)
    a, old_b, b = (run_of(instance, parted, key) for key in "abb")
    failed = run_of(instance, failing)
    files = {path.stem for path in Path(instance.storage_directory(), "..", "history", "runs").glob("*.db")}
    assert first in files
    assert purge_runs(instance, datetime.now(UTC) - timedelta(hours=1)).deleted == 0
    done = purge_runs(instance, datetime.now(UTC) + timedelta(hours=1))
    assert (done.deleted, done.kept, done.out_of_time) == (3, 3, False)
    left = {run.run_id for run in instance.get_runs()}
    assert left == {second, a, b}
    assert instance.get_materialized_partitions(parted.key) == {"a", "b"}
    assert instance.get_latest_materialization_event(plain.key).run_id == second
    files = {path.stem for path in Path(instance.storage_directory(), "..", "history", "runs").glob("*.db")}
    assert not files & {first, old_b, failed}
    assert not list(Path(instance.storage_directory(), first).glob("**/*.out"))


def test_running_runs_stay_and_a_pass_ends_in_time(instance: dg.DagsterInstance) -> None:
    running = instance.create_run_for_job(
        dg.Definitions(assets=[plain]).resolve_implicit_global_asset_job_def(),
        status=dg.DagsterRunStatus.STARTED,
    )
    run_of(instance, plain)
    run_of(instance, plain)
    later = datetime.now(UTC) + timedelta(hours=1)
    assert purge_runs(instance, later, seconds=0).out_of_time
    assert len(instance.get_runs()) == 3
    assert purge_runs(instance, later).deleted == 1
    assert instance.has_run(running.run_id)


def test_the_pass_over_runs_is_an_asset(project: Project, instance: dg.DagsterInstance) -> None:
    run_of(instance, failing)
    eager = project.settings.model_copy(update={"run_retention": timedelta(0)})
    done = compose(eager).resolve_job_def("purge_runs").execute_in_process(instance=instance)
    (event,) = done.get_asset_materialization_events()
    assert event.step_materialization_data.materialization.metadata["deleted"].value == 1


def test_rollback_and_release_in_the_ui(
    project: Project, warehouse: Warehouse, instance: dg.DagsterInstance
) -> None:
    version = project.define("sales", materialize={"schedule": "hourly"})
    for _ in range(2):
        materialize(version, warehouse, project.lake, project.settings, run_id="r")
    defs = compose(project.settings)
    config = {"ops": {"serve_older_snapshot": {"config": {"version": "sales", "to": 1}}}}
    done = defs.resolve_job_def("roll_back").execute_in_process(instance=instance, run_config=config)
    (observed,) = done.get_asset_observation_events()
    assert observed.asset_key == dg.AssetKey(["endpoints", "sales", "v1"])
    head = project.lake.head("sales", 1)
    assert (head.held, head.restored, head.run_id) == (True, 1, done.run_id)
    config = {"ops": {"end_hold": {"config": {"version": "sales@1"}}}}
    assert defs.resolve_job_def("release").execute_in_process(instance=instance, run_config=config).success
    assert not project.lake.head("sales", 1).held
    again = defs.resolve_job_def("release").execute_in_process(
        instance=instance, run_config=config, raise_on_error=False
    )
    assert "not held" in again.failure_data_for_node("end_hold").user_failure_data.description
