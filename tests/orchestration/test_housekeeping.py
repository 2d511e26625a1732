"""Housekeeping runs by its own job, and collects what nobody needs."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg

from endpoints.lake.manifest import Tombstone
from endpoints.warehouse.protocol import Warehouse
from orchestration.definitions import compose
from orchestration.materialize import materialize

if TYPE_CHECKING:
    from tests.orchestration.conftest import Project


def test_old_snapshots_are_collected(project: Project, warehouse: Warehouse) -> None:
    version = project.define("sales", materialize={"schedule": "hourly"})
    for _ in range(3):
        newest = materialize(version, warehouse, project.lake, project.settings, run_id="r").manifest
    eager = project.settings.model_copy(update={"retention": timedelta(0), "keep_snapshots": 1})
    job = compose(eager).resolve_job_def("collect_snapshots")
    with dg.DagsterInstance.ephemeral() as instance:
        assert job.execute_in_process(instance=instance).success
    assert project.lake.head("sales", 1) == newest
    assert isinstance(project.lake.manifest("sales", 1, 1), Tombstone)
