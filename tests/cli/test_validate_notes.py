"""validate tells what changed definitions will have made again, and never fails or waits for it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from endpoints.definition import load_project
from endpoints.lake.manifest import FileEntry, Server
from endpoints.lake.publish import Lake
from endpoints.partitions import keys
from endpoints.settings import load_settings
from endpoints.types import Column, parse_type
from tests.cli.conftest import Run, write_endpoint

YAML = """
current: 1
versions:
  1:
    materialize: {{schedule: daily, partitions: {{column: day, by: {by}, start: {start}, end: 2026-02-01}}}}
"""
SQL = "SELECT day, region FROM sales WHERE region = {region:String}"
FILE = FileEntry("data/a/p-0.parquet", 1, 100, "sha256:0")
COLUMNS = (Column("day", parse_type("Date")), Column("region", parse_type("String")))


def define(project: Path, *, by: str = "day", start: str = "2026-01-01", sql: str = SQL) -> None:
    folder = project / "endpoint_defs" / "daily"
    folder.mkdir(exist_ok=True)
    (folder / "endpoint.yaml").write_text(YAML.format(by=by, start=start))
    (folder / "v1.sql").write_text(sql)


def publish(project: Path, key: str) -> None:
    """A snapshot of everything there is of a version, without its rows."""
    settings = load_settings(project)
    version = load_project(settings).version(key)
    assert version.materialize is not None
    lake, now = Lake.open(settings, probe=False), datetime.now(UTC)
    partitions = keys(version.materialize.partitions, now) or ["all"]
    attempt = lake.begin(version.endpoint, version.number, fingerprint=version.fingerprint, run_id="run")
    attempt.publish(dict.fromkeys(partitions, attempt.entry([FILE], COLUMNS, as_of=now)), Server())


def notes(run: Run) -> list[dict[str, Any]]:
    done = run("validate", "--wait", "60", "--json")
    report = json.loads(done.stdout)
    assert (done.exit_code, report["ok"], report["problems"]) == (0, True, [])
    assert report.get("notes") != [], "where there is nothing to say, nothing is said"
    found: list[dict[str, Any]] = report.get("notes", [])
    return found


def test_what_a_change_has_made_again(
    run: Run, project: Path, lake_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENDPOINTS_LAKE_URL", lake_url)
    define(project)
    assert notes(run) == []
    publish(project, "daily")
    publish(project, "daily_sales")
    assert notes(run) == []

    define(project, start="2026-01-11")
    (note,) = notes(run)
    assert (note["file"], note["line"], note["code"]) == ("endpoint_defs/daily/endpoint.yaml", 4, "rebuild")
    assert note["message"] == (
        "daily@1: 21 partitions (2026-01-11 … 2026-01-31) of another definition will be made again; "
        "10 partitions (2026-01-01 … 2026-01-10) will be dropped with the next run."
    )
    assert "endpoints backfill daily@1" in note["fix"]

    define(project, start="2025-12-31")
    assert notes(run)[0]["message"].endswith("; the partition 2025-12-31 will be made for the first time.")

    define(project, by="hour")
    assert notes(run)[0]["message"] == (
        "daily@1: 744 partitions (2026-01-01-00:00 … 2026-01-31-23:00) will be made for the first time; "
        "31 partitions (2026-01-01 … 2026-01-31) will be dropped with the next run."
    )

    define(project, sql=SQL.replace("day,", "day, amount,"))
    assert "notes" not in json.loads(run("validate", "--wait", "0", "--json").stdout)
    shown = run("validate", "--wait", "60").stdout
    assert "endpoint.yaml:4: note: daily@1: 31 partitions (2026-01-01 … 2026-01-31) of another" in shown

    write_sales = (project / "endpoint_defs" / "daily_sales" / "v2.sql").write_text
    write_sales(SQL)
    assert [note["message"] for note in notes(run)][1:] == [
        "daily_sales@2: the whole asset of another definition will be made again."
    ]
    # No asset can be made of this one: it runs live, and says so elsewhere.
    write_sales("SELECT day, rand() AS chance FROM sales WHERE region = {region:String}")
    assert len(notes(run)) == 1
    define(project)
    assert notes(run) == []


def test_looking_makes_no_lake(run: Run, project: Path) -> None:
    define(project)
    assert notes(run) == []
    assert not (project / "lake").exists()


def test_a_lake_that_does_not_answer(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_endpoint(project, "live", "current: 1\nversions: {1: {}}\n", "SELECT 1 AS one")
    for name, value in {
        "ENDPOINTS_LAKE_URL": "s3://nowhere/at/all",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }.items():
        monkeypatch.setenv(name, value)
    (note,) = notes(run)
    assert (note["code"], note["file"]) == ("lake_unread", "endpoint_defs")
    assert "did not tell of 1 versions in time (listing _heads" in note["message"]
    assert "secret" not in json.dumps(note)
