"""What reading and writing are measured on: 6.5 million rows made of 10 million events, always the same.

An event falls into one of 1.12 cells per event (a customer, a day, a kind of event), so that two thirds as
many cells as events are hit, and a customer has about 70 rows.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from endpoints.definition import Version, load_definitions
from endpoints.settings import Settings

ENDPOINT = "usage"
EVENTS = 10_000_000
SQL = """
SELECT toDate(timestamp) AS day, event, count() AS events, uniq(person_id) AS people
FROM events
WHERE customer_id = {customer_id:String}
GROUP BY day, event
ORDER BY day, event
"""
DEFINITION = """
description: What a customer did, by day and event.
current: 1
versions:
  1:
    materialize: {schedule: daily}
    contract:
      columns:
        day: {type: Date}
        events: {type: UInt64, ge: 1}
      unique: [day, event]
"""
_GENERATE = """
INSERT INTO FUNCTION file('{path}', Parquet)
SELECT
    concat('cust_', toString(cell % {customers})) AS customer_id,
    toDateTime('2026-01-01 00:00:00', 'UTC') + cityHash64(cell, 1) % 365 * 86400
        + cityHash64(number, 2) % 86400 AS timestamp,
    ['pageview', 'click', 'add_to_cart', 'purchase', 'search', 'login', 'share', 'refund'][
        1 + cityHash64(cell, 3) % 8] AS event,
    cityHash64(number, 4) % 1000000 AS person_id
FROM (SELECT number, cityHash64(number) % {cells} AS cell FROM numbers({rows}))
SETTINGS output_format_parquet_row_group_size = 1000000
"""


@dataclass(slots=True)
class Used:
    """What a process and its children used: seconds by the clock and of the processor, and the most memory
    that they held at once (resident bytes, shared pages twice).
    """

    seconds: float = 0.0
    processor: float = 0.0
    peak: int = 0


def customers(rows: int) -> int:
    """How many customers `rows` events have."""
    return max(1, rows // 105)


def make_project(folder: Path, rows: int = EVENTS) -> Settings:
    """A project with the events in its data folder, and the endpoint over them."""
    (folder / ".env").touch()
    for part in ("data", f"endpoint_defs/{ENDPOINT}"):
        (folder / part).mkdir(parents=True)
    (folder / "endpoint_defs" / ENDPOINT / "v1.sql").write_text(SQL)
    (folder / "endpoint_defs" / ENDPOINT / "endpoint.yaml").write_text(DEFINITION)
    sql = _GENERATE.format(
        path=folder / "data" / "events.parquet", customers=customers(rows), cells=rows * 112 // 100, rows=rows
    )
    # In a process of its own: memory that chDB has once had stays with the process.
    subprocess.run([sys.executable, "-c", "import chdb, sys; chdb.query(sys.argv[1])", sql], check=True)
    return settings(folder)


def settings(folder: Path) -> Settings:
    """The settings of the project, whatever is in the environment."""
    return Settings(
        project=folder,
        defs=folder / "endpoint_defs",
        clickhouse_url=f"chdb://{folder / 'data'}",
        lake_url=f"file://{folder / 'lake'}",
        cache_dir=folder / ".cache",
    )


def version(of: Settings) -> Version:
    return load_definitions(of.defs).version(ENDPOINT)


def run(module: str, *arguments: str) -> str:
    """What `python -m MODULE …` prints, run from the root of the checkout."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, check=True, text=True
    )
    return done.stdout


@contextmanager
def measured() -> Iterator[Used]:
    """What the block uses, complete at its end. Memory is looked at every 20 ms."""
    process, done, used = psutil.Process(), threading.Event(), Used()

    def watch() -> None:
        while not done.wait(0.02):
            used.peak = max(used.peak, _resident(process))

    thread = threading.Thread(target=watch)
    thread.start()
    processor, began = _processor(process), time.perf_counter()
    try:
        yield used
    finally:
        used.seconds, used.processor = seconds_since(began), _processor(process) - processor
        done.set()
        thread.join()


def _resident(process: psutil.Process) -> int:
    total = 0
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            total += one.memory_info().rss
    return total


def _processor(process: psutil.Process) -> float:
    """Seconds of the processor; those of children that have ended count as well."""
    total = sum(process.cpu_times()[:4])
    for child in process.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            total += sum(child.cpu_times()[:4])
    return float(total)


def median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def seconds_since(began: float) -> float:
    return time.perf_counter() - began
