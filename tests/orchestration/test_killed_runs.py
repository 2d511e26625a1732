"""Real processes are killed: the worker of a run, then the daemon with all that it started.

A daemon works on a real instance, with a pool of one place. What is asked for is published once.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import dagster as dg
import polars as pl
import psutil
import pytest
from dagster import DagsterEventType, DagsterRunStatus
from dagster._core.execution.backfill import PartitionBackfill

from endpoints.lake.requests import Request, Requests
from orchestration.asks import REQUEST_TAG, RETRIES_TAG
from orchestration.assets import asset_key
from orchestration.definitions import compose

if TYPE_CHECKING:
    from tests.orchestration.conftest import Project

CONFIG = """
telemetry: {enabled: false}
run_monitoring: {enabled: true, poll_interval_seconds: 5, free_slots_after_run_end_seconds: 1}
run_retries: {enabled: true, max_retries: 0, retry_on_asset_or_op_failure: false}
concurrency: {runs: {max_concurrent_runs: 2}, pools: {default_limit: 1, granularity: run}}
"""
# As long as the knob says: the test turns it before the run is tried again.
SQL = "SELECT sum(number % 7) AS n FROM numbers(assumeNotNull((SELECT max(n) FROM knob)))"
LONG, SHORT = 10**12, 1000
DAYS = [f"2026-01-{day:02}" for day in range(1, 31)]
BAD = DAYS[13]
T = TypeVar("T")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    # Dagster's own use of what it deprecates, when a backfill is launched.
    pytest.mark.filterwarnings("ignore:Function `AssetSelection.sources`:DeprecationWarning"),
]


class Stage:
    """A project with one endpoint, its instance, and a daemon that can be killed."""

    def __init__(self, project: Project, home: Path) -> None:
        self.project, self.home = project, home
        self.left = Requests(project.lake)

    def turn(self, knob: int) -> None:
        table = self.project.folder / "data" / "knob.parquet"
        pl.DataFrame({"n": [knob]}, schema={"n": pl.UInt64}).write_parquet(table.with_suffix(".new"))
        table.with_suffix(".new").replace(table)

    @contextmanager
    def daemon(self) -> Iterator[Callable[[], None]]:
        """The daemon; gives what kills it, and everything that it started, at once."""
        environment = {
            **os.environ,
            "DAGSTER_HOME": str(self.home),
            "ENDPOINTS_RUN_LEASE": "3s",
            "ENDPOINTS_PARITY_SAMPLES": "0",
            "ENDPOINTS_EMBEDDED_WORKERS": "1",
        }
        command = [sys.executable, "-m", "dagster._daemon", "run", "-m", "orchestration.definitions"]
        with (self.home / "daemon.log").open("ab") as log:
            process = subprocess.Popen(
                command, cwd=self.project.folder, env=environment, stdout=log, stderr=log
            )

        def kill() -> None:
            with contextlib.suppress(psutil.NoSuchProcess):
                family = [process, *psutil.Process(process.pid).children(recursive=True)]
                for one in family:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        one.send_signal(signal.SIGKILL)
            process.wait()

        try:
            yield kill
        finally:
            kill()

    def ask(self) -> Request:
        version = self.project.version("slow")
        return self.left.leave("slow", 1, version.fingerprint, ["all"], by="api", asked_by="ops")

    def runs(self, request: Request) -> list[dg.DagsterRun]:
        """The runs of a request, oldest first."""
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            mine = dg.RunsFilter(tags={REQUEST_TAG: request.id})
            return [record.dagster_run for record in instance.get_run_records(mine, ascending=True)]

    def worker(self, request: Request) -> int | None:
        """The process that computes the request's only run, once it does."""
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            for run in self.runs(request):
                if run.status is DagsterRunStatus.STARTED and list(self.project.lake.store.list("_claims")):
                    for entry in instance.all_logs(run.run_id):
                        if found := re.search(r"process \(pid: (\d+)\)", entry.user_message):
                            return int(found[1])
        return None

    def until(self, what: Callable[[], T | None], why: str) -> T:
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline:
            if found := what():
                return found
            time.sleep(0.2)
        log = (self.home / "daemon.log").read_text(errors="replace")[-4000:]
        raise AssertionError(f"{why} did not come:\n{log}")

    def launch_backfill(self) -> str:
        """What the UI does when somebody launches a backfill of every day; its id."""
        graph = compose(self.project.settings).resolve_asset_graph()
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            instance.add_backfill(
                PartitionBackfill.from_asset_partitions(
                    backfill_id="thirty",
                    asset_graph=graph,
                    partition_names=DAYS,
                    asset_selection=[asset_key("daily", 1)],
                    backfill_timestamp=time.time(),
                    tags={},
                    dynamic_partitions_store=instance,
                    all_partitions=False,
                    title=None,
                    description=None,
                    run_config=None,
                )
            )
        return "thirty"

    def backfilled(self, backfill: str) -> tuple[dg.DagsterRun, list[dg.AssetMaterialization]] | None:
        """The one run of a backfill once it has ended, and what it says of partitions."""
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            runs = instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill}))
            if not runs or not all(run.is_finished for run in runs):
                return None
            (run,) = runs
            logs = instance.all_logs(run.run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION)
            return run, [log.asset_materialization for log in logs if log.asset_materialization]

    def done(self, request: Request) -> Request | None:
        found = self.left.find(request.id)
        return found if found and found.ended else None


@pytest.fixture
def stage(project: Project) -> Stage:
    home = project.folder / ".dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text(CONFIG)
    made = Stage(project, home)
    made.turn(LONG)
    project.define("slow", SQL, materialize={})
    times = [datetime.fromisoformat(f"{day}T12:00") for day in DAYS]
    project.sell(
        pl.DataFrame({"day": times, "amount": [-1 if day == BAD else 1 for day in DAYS]}).with_columns(
            pl.col("day").cast(pl.Datetime("ms", "UTC"))
        )
    )
    project.define(
        "daily",
        "SELECT toDate(day) AS date, sum(amount) AS total FROM sales GROUP BY date",
        materialize={"partitions": {"column": "day", "by": "day", "start": DAYS[0], "end": "2026-01-31"}},
        contract={"columns": {"total": {"ge": 0}}},
    )
    return made


def test_what_was_asked_for_is_published_once_whatever_dies(stage: Stage) -> None:
    with stage.daemon() as kill:
        first = stage.ask()
        worker = stage.until(lambda: stage.worker(first), "a run")
        stage.turn(SHORT)
        os.kill(worker, signal.SIGKILL)
        done = stage.until(lambda: stage.done(first), "the outcome")
        assert done.failed == {}
        killed, again = stage.runs(first)
        assert (killed.status, again.status) == (DagsterRunStatus.FAILURE, DagsterRunStatus.SUCCESS)
        assert again.tags[RETRIES_TAG] == killed.run_id
        good = stage.project.lake.head("slow", 1)
        assert good is not None
        assert (good.number, good.run_id) == (1, again.run_id)

        stage.turn(LONG)
        second = stage.ask()
        stage.until(lambda: stage.worker(second), "the next run")
        kill()  # as when the machine is gone
    assert stage.project.lake.head("slow", 1) == good  # the last good snapshot
    assert stage.runs(second)[0].status is DagsterRunStatus.STARTED  # which nobody could tell Dagster

    stage.turn(SHORT)
    with stage.daemon():
        done = stage.until(lambda: stage.done(second), "the outcome after the restart")
    assert done.failed == {}
    killed, again = stage.runs(second)
    assert killed.status is DagsterRunStatus.FAILURE
    newest = stage.project.lake.head("slow", 1)
    assert newest is not None
    assert (newest.number, newest.run_id) == (2, again.run_id)


def test_a_backfill_launched_in_the_ui_is_one_run_and_keeps_the_good_days(stage: Stage) -> None:
    backfill = stage.launch_backfill()
    with stage.daemon():
        run, made = stage.until(lambda: stage.backfilled(backfill), "the backfill")
    assert run.status is DagsterRunStatus.FAILURE
    good = [day for day in DAYS if day != BAD]
    assert sorted(str(one.partition) for one in made) == good
    assert {one.metadata["dagster/partition_row_count"].value for one in made} == {1}
    head = stage.project.lake.head("daily", 1)
    assert head is not None
    assert (sorted(head.partitions), list(head.failures)) == (good, [BAD])
    assert {entry.run_id for entry in head.partitions.values()} == {run.run_id}
