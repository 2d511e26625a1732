"""`endpoints backfill`: what it makes, what it keeps when an hour is bad, how it goes on once killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import psutil
import pytest
from click.testing import Result

from endpoints.lake.manifest import Manifest
from endpoints.lake.publish import Lake
from endpoints.lake.requests import Requests
from endpoints.settings import Settings

Run = Callable[..., Result]
SQL = "SELECT toStartOfHour(at) AS hour, sum(amount) AS total FROM events GROUP BY hour ORDER BY hour"
HOURS = 80  # more than are published at once
YAML = """
current: 1
versions:
  1:
    materialize: {{partitions: {{column: at, by: hour, start: 2026-01-01, end: "{end}"}}}}
    contract: {{columns: {{total: {{ge: 0}}}}}}
"""
START = datetime(2026, 1, 1)
pytestmark = pytest.mark.timeout(280)


def sell(project: Path, hours: int, *, bad: int | None = None) -> None:
    amounts = [-1 if hour == bad else hour for hour in range(hours)]
    times = [START + timedelta(hours=hour, minutes=7) for hour in range(hours)]
    table = pl.DataFrame({"at": times, "amount": amounts})
    table.with_columns(pl.col("at").cast(pl.Datetime("ms", "UTC"))).write_parquet(
        project / "data" / "events.parquet"
    )


def define(project: Path, hours: int) -> None:
    folder = project / "endpoint_defs" / "hourly"
    folder.mkdir()
    end = (START + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:00")
    (folder / "endpoint.yaml").write_text(YAML.format(end=end))
    (folder / "v1.sql").write_text(SQL)
    sell(project, hours)
    (project / ".env").write_text("ENDPOINTS_PARITY_SAMPLES=0\nENDPOINTS_RUN_LEASE=1s\n")


def head(project: Path) -> Manifest:
    found = Lake.open(Settings(project=project), probe=False).head("hourly", 1)
    assert found is not None
    return found


def lines(text: str) -> dict[str, dict[str, Any]]:
    found = [json.loads(line) for line in text.splitlines()]
    assert len({line["partition"] for line in found}) == len(found)
    return {line["partition"]: line for line in found}


def key(hour: int) -> str:
    return (START + timedelta(hours=hour)).strftime("%Y-%m-%d-%H:%M")


def working_in(project: Path) -> list[psutil.Process]:
    """The processes in the project's folder, but for our own."""
    found = [p for p in psutil.process_iter(["cwd", "cmdline"]) if p.info["cwd"] == str(project)]
    return [p for p in found if p.pid != os.getpid()]


def test_a_bad_partition_does_not_throw_the_good_ones_away(project: Path, run: Run) -> None:
    define(project, 4)
    sell(project, 4, bad=2)
    done = run("backfill", "hourly", "--from", key(1), "--to", "2026-01-01T03:30", "--json")
    told = lines(done.stdout)
    assert {at: line["outcome"] for at, line in told.items()} == {
        key(1): "published",
        key(2): "failed",
        key(3): "published",
    }
    assert done.exit_code == 1
    assert "total: 1 value" in told[key(2)]["error"]
    assert (told[key(1)]["rows"], told[key(1)]["error"]) == (1, None)
    assert "2 of 3 partitions published" in done.stderr

    sell(project, 4)
    again = run("backfill", "hourly", "--json")  # what is missing: the bad one, and the one before the range
    assert (again.exit_code, list(lines(again.stdout))) == (0, [key(0), key(2)])
    nothing = run("backfill", "hourly", "--failed")
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert "nothing to make" in nothing.stderr


def test_materialize_tells_people_of_each_version_once(project: Path, run: Run) -> None:
    define(project, 4)
    sell(project, 4, bad=2)
    done = run("materialize", "daily_sales", "hourly")
    assert (done.exit_code, done.stdout) == (1, "")
    told = [line for line in done.stderr.splitlines() if "@" in line]
    assert [line.partition(": ")[0] for line in told] == ["daily_sales@2", f"hourly@1 {key(2)}", "hourly@1"]
    assert told[0].startswith("daily_sales@2: 3 rows, ")
    assert told[2].startswith("hourly@1: 3 partitions, 3 rows, ")


def test_killed_and_begun_again_it_goes_on(project: Path) -> None:
    define(project, HOURS)
    command = [sys.executable, "-m", "endpoints.cli", "backfill", "hourly", "--all", "--json"]
    environment = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    with subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.PIPE) as first:
        assert first.stdout
        assert json.loads(first.stdout.readline())["outcome"] == "published"
        family = [*psutil.Process(first.pid).children(recursive=True), psutil.Process(first.pid)]
        for process in family:
            process.kill()
    before = head(project).partitions
    assert 0 < len(before) < HOURS

    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = lines(done.stdout)
    assert sorted(told) == sorted(map(key, range(HOURS)))
    after = head(project).partitions
    assert {at: entry for at, entry in after.items() if at in before} == before
    assert {told[at]["run_id"] for at in before} == {entry.run_id for entry in before.values()}
    assert not list(Requests(Lake.open(Settings(project=project), probe=False)).open())


def test_ctrl_c_keeps_what_is_published_and_ends_all_of_it(project: Path) -> None:
    hours = 2 * HOURS  # many are left when the first are published
    define(project, hours)
    command = [sys.executable, "-m", "endpoints.cli", "backfill", "hourly", "--json"]
    environment = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    with subprocess.Popen(
        command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout
        assert json.loads(first.stdout.readline())["outcome"] == "published"
        first.send_signal(signal.SIGINT)
        _, said = first.communicate()
    assert first.returncode == 130, said
    assert "The same command goes on" in said
    assert "Interrupted." in said
    assert "Traceback" not in said
    assert not psutil.wait_procs(working_in(project), timeout=20)[1]
    before = head(project).partitions
    assert 0 < len(before) < hours
    with dg.DagsterInstance.from_config(str(project / ".dagster")) as instance:
        (run,) = instance.get_runs()
        assert run.is_finished

    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted([*before, *lines(done.stdout)]) == sorted(map(key, range(hours)))
    after = head(project).partitions
    assert {at: entry for at, entry in after.items() if at in before} == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_no_run_outlives_its_command(project: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "endpoints.cli", "materialize", "daily_sales"]
    with subprocess.Popen(command, cwd=project, stderr=subprocess.PIPE, text=True) as started:
        while not any("orchestration.run" in (p.info["cmdline"] or ()) for p in working_in(project)):
            assert started.poll() is None
            time.sleep(0.01)
        started.send_signal(number)
        _, said = started.communicate()
    assert (started.returncode, "Interrupted." in said) == (130, True), said
    assert not psutil.wait_procs(working_in(project), timeout=20)[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("daily_sales",), "has no partitions"),
        (("hourly", "--from", "soon"), "no partition, date or time"),
        (("hourly", "--to", "2025-01-01"), "There is no partition in this range"),
        (("nope",), "There is no endpoint 'nope'"),
    ],
)
def test_wrong_use_is_named(project: Path, run: Run, arguments: tuple[str, ...], said: str) -> None:
    define(project, 4)
    done = run("backfill", *arguments)
    assert done.exit_code == 2
    assert said in done.stderr
