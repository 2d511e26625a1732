"""How orchestration grows: `python -m benchmarks.orchestration_scale [100 1000 3000]`.

Projects of so many endpoints, three versions each (`benchmarks/many.py`). Each figure is a process of its
own, started as users and Dagster start it: seconds on the clock, and of them seconds of CPU, which other work
on the machine changes less. `run` is the process that Dagster starts for a run of one version, from its start
to its end; `asset` is what of it is the asset itself: query, write, check, publish.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.many import VERSIONS, write_project

SIZES = (100, 1000, 3000)
EVENTS = "customer_id,event,person_id,timestamp,country\ncust_1,click,7,2026-01-01 00:00:00,DE\n"
HOUR = datetime(2026, 1, 5, 0, 0, tzinfo=UTC)  # a Monday's midnight: every cadence is due


def main(sizes: list[int]) -> None:
    """Print a table: a line for each size, wall and CPU seconds of each step."""
    print(f"{'endpoints':>9} {'versions':>8}" + "".join(f" {name:>17}" for name in STEPS))
    print(f"{'':>18}" + f" {'seconds (CPU)':>17}" * len(STEPS))
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            write_project(root, size)
            (root / "data").mkdir()
            (root / "data" / "events.csv").write_text(EVENTS)
            figures = [measure(root, name) for name in STEPS]
        cells = "".join(f" {f'{wall:.1f} ({cpu:.1f})':>17}" for wall, cpu in figures)
        print(f"{size:>9,} {size * VERSIONS:>8,}{cells}", flush=True)


def measure(root: Path, step: str) -> tuple[float, float]:
    """Wall and CPU seconds of one step, in a process of its own; what it says itself goes before."""
    home = root / "dagster"
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    environment = {**os.environ, "DAGSTER_HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", "benchmarks.orchestration_scale", "--step", step]
    if step == "validate":
        command = [sys.executable, "-m", "endpoints.cli", "validate", "--json"]
    if step == "run":
        command = [sys.executable, "-m", "dagster", "api", "execute_run", _new_run(root, environment)]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{step} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    if step in ("tick", "asset"):
        told = json.loads(done.stdout.splitlines()[-1])
        return told["wall"], told["cpu"]
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu


def _new_run(root: Path, environment: dict[str, str]) -> str:
    """What Dagster hands to the process of a run of one version, not started yet."""
    command = [sys.executable, "-m", "benchmarks.orchestration_scale", "--step", "new_run"]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


# -- in a process of their own ------------------------------------------------------------------------------


def load() -> None:
    """All that a code server does before it answers: definitions, plans, assets, jobs, schedules."""
    from orchestration.definitions import defs

    defs.get_repository_def().load_all_definitions()


def tick() -> None:
    """Every schedule's tick at an hour at which all are due, nothing published yet."""
    import dagster as dg

    from orchestration.definitions import defs

    repository = defs.get_repository_def()
    repository.load_all_definitions()
    asked = 0
    with dg.DagsterInstance.get() as instance:
        clock = _Clock()
        for schedule in repository.schedule_defs:
            if not schedule.name.startswith("housekeeping"):
                with dg.build_schedule_context(
                    instance=instance, scheduled_execution_time=HOUR, repository_def=repository
                ) as context:
                    asked += len(schedule.evaluate_tick(context).run_requests or ())
        clock.tell(asked=asked)


def asset() -> None:
    """The asset itself, in a process in which all is loaded."""
    from contextlib import closing

    from endpoints.definition import load_project
    from endpoints.lake.publish import Lake
    from endpoints.settings import load_settings
    from endpoints.warehouse import open_warehouse
    from orchestration.materialize import materialize

    settings = load_settings()
    version = load_project(settings, only={"usage_0000"}).version("usage_0000@2")
    clock = _Clock()
    with closing(open_warehouse(settings)) as warehouse:
        materialize(version, warehouse, Lake.open(settings), settings, run_id="run")
    clock.tell()


def new_run() -> None:
    """Record a run of one version and print what its process is to be handed."""
    import dagster as dg
    from dagster._core.definitions.reconstruct import ReconstructableRepository
    from dagster._grpc.types import ExecuteRunArgs
    from dagster_shared.serdes import serialize_value

    from orchestration.assets import asset_key
    from orchestration.definitions import defs
    from orchestration.schedules import MATERIALIZE

    selection = frozenset({asset_key("usage_0000", 2)})
    job = defs.get_repository_def().get_maybe_subset_job_def(MATERIALIZE.name, asset_selection=selection)
    origin = (
        ReconstructableRepository.for_module("orchestration.definitions", "defs")
        .get_reconstructable_job(MATERIALIZE.name)
        .get_python_origin()
    )
    with dg.DagsterInstance.get() as instance:
        run = instance.create_run_for_job(job, asset_selection=selection, job_code_origin=origin)
        print(serialize_value(ExecuteRunArgs(origin, run.run_id, instance.get_ref(), True)))


class _Clock:
    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def tell(self, **more: int) -> None:
        print(
            json.dumps(
                {"wall": time.monotonic() - self._wall, "cpu": time.process_time() - self._cpu, **more}
            )
        )


STEPS = ("validate", "load", "tick", "run", "asset")
_CHILDREN: dict[str, Callable[[], Any]] = {"load": load, "tick": tick, "asset": asset, "new_run": new_run}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        _CHILDREN[sys.argv[2]]()
    else:
        main([int(size) for size in sys.argv[1:]] or list(SIZES))
