"""A process that was started for a run loads the endpoints that the run selects, any other loads all."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from dagster_shared.serdes import serialize_value

from orchestration.definitions import compose
from orchestration.worker import selected_endpoints

if TYPE_CHECKING:
    from tests.orchestration.conftest import Project


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def handed(project: Project, instance: dg.DagsterInstance, *keys: str) -> str:
    """What a launcher hands to the process of a run that selects these assets."""
    from dagster._grpc.types import ExecuteRunArgs

    defs = compose(project.settings)
    selection = [dg.AssetKey(key.split("/")) for key in keys]
    job = defs.get_repository_def().get_maybe_subset_job_def(
        "materialize_endpoints", asset_selection=frozenset(selection) or None
    )
    run = instance.create_run_for_job(job, asset_selection=frozenset(selection) or None)
    origin = dg.reconstructable(_job).get_python_origin()
    return serialize_value(ExecuteRunArgs(origin, run.run_id, instance.get_ref()))


@dg.job
def _job() -> None:
    return


def tell(text: str, queue: multiprocessing.Queue[frozenset[str] | None]) -> None:
    import dagster._grpc.types  # noqa: F401  the code server's processes begin there

    queue.put(selected_endpoints())


def in_a_spawned_process(text: str) -> frozenset[str] | None:
    """As the code server starts one: with what it hands over among the arguments."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=tell, args=[text, queue])
    process.start()
    found: frozenset[str] | None = queue.get(timeout=60)
    process.join()
    return found


def test_a_run_of_one_version_loads_its_endpoint_alone(
    project: Project, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sales", "other"):
        project.define(name, materialize={"schedule": "hourly"})
    text = handed(project, instance, "endpoints/sales/v1")
    assert in_a_spawned_process(text) == {"sales"}
    monkeypatch.setattr(sys, "argv", ["dagster", "api", "execute_run", text])
    assert selected_endpoints() == {"sales"}

    keys = {
        spec.key.to_user_string() for spec in compose(project.settings, {"sales"}).resolve_all_asset_specs()
    }
    assert "endpoints/sales/v1" in keys
    assert "endpoints/other/v1" not in keys


def test_other_processes_load_all(
    project: Project, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.define("sales", materialize={"schedule": "hourly"})
    assert selected_endpoints() is None
    monkeypatch.setattr(sys, "argv", ["dagster", "api", "execute_run", handed(project, instance)])
    assert selected_endpoints() is None, "a run of everything"
    for text in ('{"json": "of someone else"}', "{", '{"__class__": "NoSuchThing"}'):
        monkeypatch.setattr(sys, "argv", ["dagster", text])
        assert selected_endpoints() is None


def test_names_that_differ_in_case_are_told_though_one_is_loaded(project: Project) -> None:
    from endpoints.definition import load_project

    for name in ("sales", "Sales"):
        try:
            project.define(name, materialize={"schedule": "hourly"})
        except AssertionError:
            continue
    assert set(load_project(project.settings, only={"sales"}).broken) == {"sales"}
