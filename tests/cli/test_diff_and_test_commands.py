"""diff: what changed between snapshots and versions. test: versions tried out with their own examples."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.cli.conftest import SQL, YAML, Run, write_endpoint

KEYED = YAML.replace(
    "        total: {type: Int64, ge: 0}", "        total: {type: Int64, ge: 0}\n      unique: [day]"
)


def sell(project: Path, *rows: tuple[int, str, int]) -> None:
    """Replace the sales: day of January, region, amount."""
    days = [date(2026, 1, day) for day, _, _ in rows]
    frame = {"day": days, "region": [r for _, r, _ in rows], "amount": [a for _, _, a in rows]}
    pl.DataFrame(frame).write_parquet(project / "data" / "sales.parquet")


@pytest.fixture
def keyed(run: Run, project: Path) -> Run:
    """daily_sales@2, unique by day, with two snapshots: a row changed, one went, one came."""
    write_endpoint(project, "keyed", KEYED, SQL, SQL)
    sell(project, (1, "EU", 3), (2, "EU", 4), (2, "US", 9))
    assert run("materialize", "keyed").exit_code == 0
    sell(project, (1, "EU", 30), (3, "EU", 4), (2, "US", 9))
    assert run("materialize", "keyed").exit_code == 0
    return run


def found(run: Run, *arguments: str) -> dict[str, Any]:
    done = run("diff", *arguments, "--json")
    assert done.exit_code == 0, done.stderr
    line: dict[str, Any] = json.loads(done.stdout)
    return line


def test_rows_that_changed_came_and_went(keyed: Run) -> None:
    line = found(keyed, "keyed")
    assert (line["from"]["snapshot"], line["to"]["snapshot"]) == (1, 2)
    assert line["rows"] == {"compared": True, "added": 1, "removed": 1, "changed": 1}
    assert line["columns"] == {"added": {}, "removed": {}, "changed": {}}
    sample = {row["change"]: row for row in line["sample"]}
    assert (sample["changed"]["from"]["total"], sample["changed"]["to"]["total"]) == (3, 30)
    assert (sample["removed"]["from"]["day"], sample["removed"]["to"]) == ("2026-01-02", None)
    assert (sample["added"]["to"]["day"], sample["added"]["from"]) == ("2026-01-03", None)
    back = found(keyed, "keyed", "--between", "2", "1")
    assert back["rows"]["changed"] == 1
    assert found(keyed, "keyed", "--between", "2", "2")["same"]
    shown = keyed("diff", "keyed")
    assert "rows added 1, removed 1, changed 1" in shown.stderr
    assert "2026-01-03" in shown.stdout


def test_between_versions(keyed: Run, project: Path) -> None:
    two = SQL.replace("AS total", "AS total, count() AS sales")
    asset = "{materialize: {schedule: hourly}}"
    yaml = f"current: 1\nversions: {{1: {asset}, 2: {asset}}}\n"
    write_endpoint(project, "grown", yaml, SQL, two)
    assert keyed("materialize", "grown@1", "grown@2").exit_code == 0
    line = found(keyed, "grown@1", "grown@2")
    assert line["columns"]["added"] == {"sales": "UInt64"}
    assert (line["rows"]["added"], line["rows"]["removed"], line["same"]) == (0, 0, False)


def test_what_cannot_be_compared_is_said(run: Run) -> None:
    assert "has no snapshot" in run("diff", "daily_sales").stderr
    assert run("materialize", "daily_sales").exit_code == 0
    assert "no earlier snapshot" in run("diff", "daily_sales").stderr
    gone = run("diff", "daily_sales", "--between", "1", "9")
    assert gone.exit_code == 1
    assert "no snapshot 9" in gone.stderr
    assert run("diff", "daily_sales", "daily_sales@1", "--between", "1", "1").exit_code == 2


def tried(run: Run, *names: str) -> tuple[int, dict[str, dict[str, Any]]]:
    done = run("test", *names, "--json")
    rows = json.loads(done.stdout)
    return done.exit_code, {f"{row['endpoint']}@{row['version']}": row for row in rows}


def test_examples_are_run_and_compared(run: Run, project: Path) -> None:
    status, rows = tried(run)
    assert (status, rows["daily_sales@1"]["outcome"]) == (0, "skipped")
    assert "region has no example" in rows["daily_sales@1"]["detail"]
    assert (rows["daily_sales@2"]["outcome"], rows["daily_sales@2"]["compared"]) == ("passed", False)
    assert run("materialize", "daily_sales").exit_code == 0
    status, rows = tried(run, "daily_sales")
    assert (status, rows["daily_sales@2"]["compared"], rows["daily_sales@2"]["rows"]) == (0, True, 2)
    assert "the same" in run("test", "daily_sales").stdout

    sell(project, (1, "EU", 5), (2, "EU", 4))
    status, rows = tried(run, "daily_sales")
    assert (status, rows["daily_sales@2"]["outcome"]) == (1, "failed")
    assert "is not the live one" in rows["daily_sales@2"]["detail"]


def test_a_breach_an_error_and_a_broken_definition_fail(run: Run, project: Path) -> None:
    sell(project, (1, "EU", -5))
    status, rows = tried(run, "daily_sales")
    assert (status, rows["daily_sales@2"]["outcome"]) == (1, "failed")
    assert "total" in rows["daily_sales@2"]["detail"]
    (project / "data" / "sales.parquet").unlink()
    assert tried(run, "daily_sales")[0] == 1
    write_endpoint(project, "broken", "current: 1\nversions: {1: }\n")
    status, rows = tried(run)
    assert (status, rows["broken@None"]["outcome"]) == (1, "failed")
