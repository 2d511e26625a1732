"""The Dagster code location: composes, nothing more."""

from __future__ import annotations

import gc
from collections.abc import Collection

import dagster as dg

from endpoints.definition import load_project
from endpoints.garbage import collection_paused
from endpoints.settings import Settings, load_settings
from orchestration.alerts import alert_sensor
from orchestration.assets import broken_assets, version_assets
from orchestration.catalog import catalog
from orchestration.crashes import crash_sensor
from orchestration.housekeeping import housekeeping
from orchestration.requests import request_sensor
from orchestration.rollback import rollback_jobs
from orchestration.schedules import MATERIALIZE, cadence_schedules
from orchestration.sources import source_assets
from orchestration.verdicts import Verdicts
from orchestration.worker import selected_endpoints


def compose(settings: Settings, only: Collection[str] | None = None) -> dg.Definitions:
    """Everything Dagster needs to know of a project, or of `only` these endpoints.

    Endpoints whose files are wrong are shown as broken.
    """
    definitions = load_project(settings, only=only)
    for problem in definitions.problems:
        dg.get_dagster_logger("endpoints").error(str(problem))
    verdicts = Verdicts(settings.cache_dir)
    versions = catalog(definitions, verdicts)
    if only is None:
        verdicts.keep()
    keeping, keeping_schedules = housekeeping(settings)
    return dg.Definitions(
        assets=[
            *version_assets(versions, settings),
            *broken_assets(definitions),
            *source_assets(versions),
            *keeping,
        ],
        jobs=[MATERIALIZE, *rollback_jobs(settings)],
        schedules=[*cadence_schedules(versions, settings), *keeping_schedules],
        sensors=[
            request_sensor(versions, settings),
            crash_sensor(settings),
            alert_sensor(versions, settings),
        ],
        # A run of one asset takes half a second in one process, five with a process for each step.
        executor=dg.in_process_executor,
    )


with collection_paused():
    defs = compose(load_settings(), selected_endpoints())
# What is loaded stays, and Dagster makes as much again: the collector need not look at it so often.
gc.freeze()
gc.set_threshold(100_000, 50, 100)
