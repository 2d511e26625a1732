"""run, materialize, status: what a version answers, and from where."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from tests.cli.conftest import SQL, YAML, Run, write_endpoint

EU = [["2026-01-01", 3], ["2026-01-02", 4]]


def state(run: Run, key: str) -> str:
    (row,) = json.loads(run("status", key, "--json").stdout)
    return str(row["state"])


def test_from_nothing_to_the_asset_and_back_to_live(run: Run, project: Path) -> None:
    before = json.loads(run("run", "daily_sales", "-v", "region=EU", "--json").stdout)
    assert (before["source"], before["reason"], before["results"]) == ("live", "missing", EU)
    assert state(run, "daily_sales@2") == "missing"

    done = run("materialize", "daily_sales", "--json")
    assert done.exit_code == 0, done.stderr
    (outcome,) = map(json.loads, done.stdout.splitlines())
    assert (outcome["outcome"], outcome["snapshot"], outcome["rows"], outcome["error"]) == (
        "published",
        1,
        3,
        None,
    )
    assert outcome["run_id"]
    assert outcome["bytes"] > 0

    after = json.loads(run("run", "daily_sales", "-v", "region=EU", "--json").stdout)
    assert (after["source"], after["reason"]) == ("asset", None)
    assert after["execution_id"] == outcome["run_id"]
    for field in ("columns", "types", "results", "hasMore"):
        assert after[field] == before[field]
    (row,) = json.loads(run("status", "daily_sales@2", "--json").stdout)
    assert (row["state"], row["snapshot"], row["rows"]) == ("fresh", 1, 3)
    assert datetime.fromisoformat(row["last_refresh"]).tzinfo is not None

    yaml = project / "endpoint_defs" / "daily_sales" / "endpoint.yaml"
    yaml.write_text(yaml.read_text().replace("ge: 0", "ge: 5"))
    failed = run("materialize", "daily_sales", "--json")
    assert failed.exit_code == 1
    assert json.loads(failed.stdout)["outcome"] == "failed"
    assert "total" in json.loads(failed.stdout)["error"]
    done = run("status", "--json")
    assert done.exit_code == 1
    states = {(row["endpoint"], row["version"]): row["state"] for row in json.loads(done.stdout)}
    assert states == {("daily_sales", 1): "live_only", ("daily_sales", 2): "breached"}
    breached = json.loads(run("run", "daily_sales", "-v", "region=EU", "--json").stdout)
    assert (breached["source"], breached["reason"], breached["results"]) == ("live", "breached", EU)

    (project / "data" / "sales.parquet").unlink()
    stale = json.loads(run("run", "daily_sales", "-v", "region=EU", "--json").stdout)
    assert (stale["source"], stale["reason"], stale["results"]) == ("stale", "breached", EU)


def test_pages(run: Run) -> None:
    first = json.loads(run("run", "daily_sales", "-v", "region=EU", "--json", "--limit", "1").stdout)
    assert (first["results"], first["hasMore"], first["limit"]) == (EU[:1], True, 1)
    rest = json.loads(run("run", "daily_sales", "-v", "region=EU", "--json", "--offset", "1").stdout)
    assert (rest["results"], rest["hasMore"]) == (EU[1:], False)


def test_people_and_csv(run: Run) -> None:
    shown = run("run", "daily_sales@1", "-v", "region=US")
    assert "total" in shown.stdout
    assert "not_materialized" in shown.stderr
    assert (
        run("run", "daily_sales@1", "-v", "region=US", "--csv").stdout_bytes
        == b"day,total\r\n2026-01-02,9\r\n"
    )


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ([], "region"),
        (["-v", "region=APAC"], "region"),
        (["-v", "region=EU", "-v", "continent=Europe"], "continent"),
        (["-v", "region"], "NAME=VALUE"),
        (["-v", "region=EU", "-v", "region=US"], "region"),
        (["-v", "region=EU' OR 1 = 1 --"], "region"),
        (["-v", "region=EU", "--limit", "50001"], "max_rows"),
    ],
)
def test_what_is_asked_wrongly_is_named(run: Run, variables: list[str], said: str) -> None:
    done = run("run", "daily_sales", *variables)
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stdout == ""


def test_a_version_that_never_runs_live(run: Run, project: Path) -> None:
    write_endpoint(
        project, "careful", YAML.replace("    freshness", "    live_when: []\n    freshness"), SQL, SQL
    )
    for extra in ((), ("--live",)):
        done = run("run", "careful", "-v", "region=EU", *extra)
        assert done.exit_code == 1
        assert "live" in done.stderr


def test_materialize_wants_to_be_told_what(run: Run) -> None:
    assert run("materialize").exit_code == 2
    assert run("materialize", "daily_sales", "--all").exit_code == 2


def test_files_that_cannot_be_read(run: Run, project: Path) -> None:
    """The API's rule: live, unless the version never runs live."""
    write_endpoint(
        project, "careful", YAML.replace("    freshness", "    live_when: []\n    freshness"), SQL, SQL
    )
    for name in ("daily_sales", "careful"):
        assert run("materialize", name).exit_code == 0
    for file in (project / "lake" / "endpoints").rglob("*.parquet"):
        file.write_bytes(b"not parquet")
    done = run("run", "daily_sales", "-v", "region=EU", "--json")
    assert (done.exit_code, json.loads(done.stdout)["source"], json.loads(done.stdout)["reason"]) == (
        0,
        "live",
        "corrupt",
    )
    done = run("run", "careful", "-v", "region=EU", "--json")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "corrupt" in done.stderr
