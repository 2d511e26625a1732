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
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import dagster as dg
import polars as pl
import psutil
import pytest
from dagster import DagsterRunStatus

from endpoints.lake.requests import Request, Requests
from orchestration.asks import REQUEST_TAG, RETRIES_TAG

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
T = TypeVar("T")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


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
        deadline = time.monotonic() + 100
        while time.monotonic() < deadline:
            if found := what():
                return found
            time.sleep(0.2)
        log = (self.home / "daemon.log").read_text(errors="replace")[-4000:]
        raise AssertionError(f"{why} did not come:\n{log}")

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
