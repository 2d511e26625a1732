"""`python -m orchestration.run`, as the command line calls it: a process, its lines, its exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from orchestration.assets import asset_key
from orchestration.home import prepare_home
from orchestration.run import main

if TYPE_CHECKING:
    from tests.orchestration.conftest import Project

HOURLY = {"schedule": "hourly"}


@pytest.fixture
def home(project: Project, monkeypatch: pytest.MonkeyPatch) -> str:
    """The project's own Dagster instance."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setenv("DAGSTER_HOME", str(project.folder / ".dagster"))
    return str(prepare_home(project.folder))


def lines(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capfd.readouterr().out.splitlines()]


def test_a_process_publishes_and_says_so_in_json(project: Project) -> None:
    project.define("sales", materialize=HOURLY, contract={"rows": {"min": 1}})
    environment = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    done = subprocess.run(
        [sys.executable, "-m", "orchestration.run", "sales", "--json"],
        cwd=project.folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *progress, outcome = map(json.loads, done.stdout.splitlines())
    assert all(line["event"] == "progress" for line in progress)
    manifest = project.lake.head("sales", 1)
    assert manifest is not None
    entry = manifest.partitions["all"]
    assert outcome == {
        "endpoint": "sales",
        "version": 1,
        "partition": "all",
        "outcome": "published",
        "snapshot": 1,
        "rows": 3,
        "bytes": entry.bytes,
        "run_id": entry.run_id,
        "error": None,
    }
    with dg.DagsterInstance.from_config(str(project.folder / ".dagster")) as instance:
        (run,) = instance.get_runs()
        assert run.run_id == outcome["run_id"]
        assert run.asset_selection == {asset_key("sales", 1)}
        assert run.job_name == "materialize_endpoints"
        assert run.tags[".dagster/repository"] == "__repository__@endpoints"
        assert not instance.telemetry_enabled


def test_outcomes_of_several_versions(project: Project, home: str, capfd: pytest.CaptureFixture[str]) -> None:
    project.define("live", "SELECT item FROM sales")
    project.define("sales", materialize=HOURLY, contract={"columns": {"total": {"lt": 7}}})
    assert main(["sales@1", "live", "--json"]) == 1
    sales, live = lines(capfd)
    assert (sales["outcome"], sales["snapshot"]) == ("failed", None)
    assert "total: 1 value not allowed by [lt], for example 7" in sales["error"]
    with dg.DagsterInstance.get() as instance:
        assert [run.run_id for run in instance.get_runs()] == [sales["run_id"]]
        assert [run.status for run in instance.get_runs()] == [dg.DagsterRunStatus.FAILURE]
    assert (live["outcome"], live["run_id"]) == ("failed", None)
    assert "live only" in live["error"]


def test_all_runs_what_can_be_scheduled(
    project: Project, home: str, capfd: pytest.CaptureFixture[str]
) -> None:
    project.define("live", "SELECT item FROM sales")
    project.define("sales", materialize=HOURLY)
    assert main(["--all"]) == 0
    assert capfd.readouterr().out.startswith("sales@1: published 3 rows, ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name what to materialize"),
        (["sales", "--all"], "name what to materialize"),
        (["salse"], "no endpoint 'salse'"),
        (["sales@7"], "no version '7'"),
        (["--colour"], "unrecognized arguments"),
    ],
)
def test_wrong_use_exits_with_2(
    project: Project, home: str, capfd: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    project.define("sales", materialize=HOURLY)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    said = capfd.readouterr()
    assert ended.value.code == 2
    assert message in said.err or message in said.err.lower()
    assert said.out == ""


def test_a_broken_definition_exits_with_1(
    project: Project, home: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (project.settings.defs / "half").mkdir()
    assert main(["half"]) == 1
    assert "broken" in capfd.readouterr().err


def test_the_instance_is_configured_once(project: Project, home: str) -> None:
    config = project.folder / ".dagster" / "dagster.yaml"
    assert "retry_on_asset_or_op_failure: false" in config.read_text()
    config.write_text("telemetry: {enabled: false}\n")
    prepare_home(project.folder)
    assert config.read_text() == "telemetry: {enabled: false}\n"
