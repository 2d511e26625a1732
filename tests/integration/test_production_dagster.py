"""deploy/dagster.yaml as it is, with a real PostgreSQL and S3: a tick, its run, its output, retention."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import dagster as dg
import psycopg2
import pytest
from dagster import DagsterRunStatus

from endpoints.lake.publish import Lake
from endpoints.settings import load_settings
from orchestration.retention import purge_runs
from orchestration.schedules import MATERIALIZE

ROOT = Path(__file__).parents[2]
SECONDS = 240
SQL = "SELECT item, count() AS orders FROM sales WHERE shop = {shop:String} GROUP BY item ORDER BY item"

pytestmark = pytest.mark.slow


@pytest.fixture
def database(postgres_port: int) -> Iterator[str]:
    """An empty database of the test's own."""
    name = f"dagster_{secrets.token_hex(6)}"
    with closing(_connect(postgres_port, "postgres")) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(f"CREATE DATABASE {name}")
        yield name
        cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _connect(port: int, database: str):  # type: ignore[no-untyped-def]
    return psycopg2.connect(host="127.0.0.1", port=port, user="dagster", password="dagster", dbname=database)


@pytest.fixture
def project(s3, postgres_port: int, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a lake in S3 and an endpoint due every minute, on the deployment's DAGSTER_HOME."""
    bucket = s3.url.split("/")[2]
    (tmp_path / ".env").write_text(f"ENDPOINTS_LAKE_URL={s3.url}\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "sales.csv").write_text("shop,item\nnorth,tea\nnorth,jam\n")
    endpoint = tmp_path / "endpoint_defs" / "sales"
    endpoint.mkdir(parents=True)
    (endpoint / "v1.sql").write_text(SQL)
    (endpoint / "endpoint.yaml").write_text(
        'current: 1\nversions: {1: {materialize: {schedule: "* * * * *"}}}\n'
    )
    home = tmp_path / "dagster"
    home.mkdir()
    shutil.copy(ROOT / "deploy" / "dagster.yaml", home / "dagster.yaml")
    variables = {
        "DAGSTER_HOME": str(home),
        "DAGSTER_PG_HOST": "127.0.0.1",
        "DAGSTER_PG_PORT": str(postgres_port),
        "DAGSTER_PG_DB": database,
        "DAGSTER_PG_USERNAME": "dagster",
        "DAGSTER_PG_PASSWORD": "dagster",
        "DAGSTER_LOGS_BUCKET": bucket,
        "PYTHONPATH": str(ROOT),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def daemon(project: Path) -> Iterator[Path]:
    """Dagster's daemon with its code server; the file that it logs to."""
    log = project / "daemon.log"
    command = [sys.executable, "-m", "dagster._daemon", "run", "-m", "orchestration.definitions"]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, process_group=0)
    yield log
    process.terminate()
    try:
        process.wait(60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 9)


def ended(instance: dg.DagsterInstance, log: Path) -> dg.DagsterRun:
    """The first scheduled run of an endpoint, once it is over; housekeeping has schedules too."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for run in instance.get_runs(dg.RunsFilter(job_name=MATERIALIZE.name)):
            if run.is_finished:
                return run
        time.sleep(0.5)
    pytest.fail(log.read_text()[-3000:])


def keys(bucket: str, endpoint: str, run_id: str) -> list[str]:
    client = boto3.client("s3", endpoint_url=endpoint)
    listed = client.list_objects_v2(Bucket=bucket, Prefix=f"dagster-logs/storage/{run_id}")
    return [found["Key"] for found in listed.get("Contents", [])]


def count(port: int, database: str, table: str, run_id: str) -> int:
    with closing(_connect(port, database)) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table} WHERE run_id = %s", (run_id,))
        return int(cursor.fetchone()[0])


def test_a_tick_its_run_its_output_and_retention(
    daemon: Path, s3, s3_endpoint: str, postgres_port: int, database: str
) -> None:
    bucket = s3.url.split("/")[2]
    with dg.DagsterInstance.get() as instance:
        run = ended(instance, daemon)
        failures = [entry.message for entry in instance.all_logs(run.run_id) if entry.level >= 40]
        assert run.status == DagsterRunStatus.SUCCESS, failures
        assert run.tags["dagster/schedule_name"]
        head = Lake.open(load_settings()).head("sales", 1)
        assert head is not None
        assert (head.outcome, head.run_id) == ("published", run.run_id)

        (state,) = [
            s
            for s in instance.all_instigator_state()
            if s.instigator_name == run.tags["dagster/schedule_name"]
        ]
        assert any(
            run.run_id in tick.run_ids
            for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id)
        )
        assert count(postgres_port, database, "runs", run.run_id) == 1
        assert count(postgres_port, database, "event_logs", run.run_id) > 5

        printed = dg.materialize([_talks], instance=instance)
        again = dg.materialize([_talks], instance=instance)
        assert keys(bucket, s3_endpoint, printed.run_id), "captured output is in S3"
        done = purge_runs(instance, datetime.now(UTC) + timedelta(hours=1))
        assert done.deleted >= 1
        assert not keys(bucket, s3_endpoint, printed.run_id)
        assert keys(bucket, s3_endpoint, again.run_id)
        for table in ("runs", "event_logs"):
            assert count(postgres_port, database, table, printed.run_id) == 0
            assert count(postgres_port, database, table, again.run_id) > 0


@dg.asset
def _talks() -> None:
    print("what a run prints")
