"""The code location as a whole: the repository's own definitions, the workspace, the instance's settings."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
import yaml

from endpoints.settings import Settings
from orchestration.definitions import compose
from orchestration.home import LOCATION, WORKSPACE

ROOT = Path(__file__).parents[2]


def test_the_sample_endpoints_load() -> None:
    definitions = compose(Settings(project=ROOT))
    dg.Definitions.validate_loadable(definitions)
    keys = {spec.key.to_user_string() for spec in definitions.resolve_all_asset_specs()}
    assert {
        "clickhouse/events",
        "endpoints/activity_digest/v1",
        "endpoints/customer_usage/v1",
        "endpoints/customer_usage/v2",
        "endpoints/landing_stats/v1",
        "endpoints/daily_activity/v1",
        "endpoints/pageviews_by_os/v1",
    } <= keys
    assert not {key for key in keys if key.endswith("/broken")}


def test_the_workspace_loads_the_code_location() -> None:
    workspace = yaml.safe_load((ROOT / "workspace.yaml").read_text())
    (location,) = workspace["load_from"]
    assert location["python_module"] == {
        "module_name": "orchestration.definitions",
        "location_name": LOCATION,
    }
    assert yaml.safe_load(WORKSPACE.read_text()) == workspace


def test_the_local_instance_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dagster.yaml").write_text((ROOT / "orchestration" / "dagster.yaml").read_text())
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert not instance.telemetry_enabled
        assert instance.run_monitoring_enabled
        assert not instance.run_retries_max_retries


@pytest.mark.parametrize("file", ["orchestration/dagster.yaml", "deploy/dagster.yaml"])
def test_instances_free_places_and_never_retry_twice(file: str) -> None:
    config = yaml.safe_load((ROOT / file).read_text())
    assert config["run_monitoring"]["free_slots_after_run_end_seconds"] > 0
    assert config["run_retries"]["retry_on_asset_or_op_failure"] is False
    assert config["telemetry"]["enabled"] is False
    assert set(config["retention"]) == {"schedule", "sensor"}
