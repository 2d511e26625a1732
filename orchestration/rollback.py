"""Rollback and release as jobs, for whoever works in Dagster's UI; the commands do the same.

The commands ask the lake alone. The sensor `alerts` sees what they did and tells the asset's page of it.
"""

# No `from __future__ import annotations` here: Dagster reads the contexts' annotations as objects.

from typing import Any

import dagster as dg

from endpoints.definition import load_project
from endpoints.errors import EndpointsError
from endpoints.lake.manifest import Manifest
from endpoints.lake.publish import Lake
from endpoints.lake.rollback import release, roll_back
from endpoints.settings import Settings
from orchestration.assets import asset_key

_VERSION = dg.Field(str, description="NAME@V; NAME is the current version.")
_TO = dg.Field(int, is_required=False, description="A snapshot's number. Default: the one before.")


def rollback_jobs(settings: Settings) -> list[dg.JobDefinition]:
    """`roll_back` and `release`, to be started in the launchpad."""

    @dg.op(config_schema={"version": _VERSION, "to": _TO})
    def serve_older_snapshot(context: dg.OpExecutionContext) -> None:
        context.log_event(observation(_roll_back(settings, context.op_config, context.run_id)))

    @dg.op(config_schema={"version": _VERSION})
    def end_hold(context: dg.OpExecutionContext) -> None:
        context.log_event(observation(_release(settings, context.op_config, context.run_id)))

    @dg.job(name="roll_back", description="Serve an older snapshot of a version again, held.")
    def roll_back_job() -> None:
        serve_older_snapshot()

    @dg.job(name="release", description="Let time and schedules count again for a version that is held.")
    def release_job() -> None:
        end_hold()

    return [roll_back_job, release_job]


def _roll_back(settings: Settings, config: dict[str, Any], run_id: str) -> Manifest:
    try:
        version = load_project(settings).version(config["version"])
        return roll_back(Lake.open(settings), version, to=config.get("to"), run_id=run_id)
    except EndpointsError as error:
        raise dg.Failure(str(error), allow_retries=False) from error


def _release(settings: Settings, config: dict[str, Any], run_id: str) -> Manifest:
    try:
        return release(Lake.open(settings), load_project(settings).version(config["version"]), run_id=run_id)
    except EndpointsError as error:
        raise dg.Failure(str(error), allow_retries=False) from error


def observation(done: Manifest) -> dg.AssetObservation:
    """What the asset's page tells of a rollback or release: what is served, and since when."""
    metadata: dict[str, Any] = {"outcome": done.outcome, "snapshot": done.number, "held": done.held}
    if done.restored is not None:
        metadata["content of snapshot"] = done.restored
    metadata["at"] = dg.MetadataValue.timestamp(done.created_at)
    key = asset_key(done.endpoint, done.version)
    return dg.AssetObservation(key, description=done.outcome.replace("_", " "), metadata=metadata)
