"""How partitions grow: `python -m benchmarks.partitions [100 1000 10000]`.

One version by the hour, with so many partitions in the lake, each a Parquet file of its own with a row for
each of 20 shops. Then, each in a process of its own: one more partition is published (written, and a manifest
made of it and all the others) by a process that has read nothing yet, and by one that has; a whole run of one
partition, as `endpoints materialize` asks Dagster for it; and a server is started, and asked for some
partitions, each for the first time and again, and for a day of them. Times are those of the processor: what
else the machine does changes them less.
"""

from __future__ import annotations

import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from endpoints.definition import Version, load_project
from endpoints.keys import KeyStore
from endpoints.lake.files import FileCache
from endpoints.lake.manifest import Manifest, PartitionEntry
from endpoints.lake.publish import Attempt, Lake
from endpoints.partitions import Window, timeline
from endpoints.settings import Settings, load_settings
from endpoints.warehouse import open_warehouse

SIZES = (100, 1000, 10_000)
PUBLISHES, ANSWERS, SHOPS = 20, 60, 20
YAML = """
current: 1
versions:
  1:
    materialize:
      schedule: hourly
      partitions: {{column: at, by: hour, start: "{start}", end: "{end}"}}
    contract: {{columns: {{visits: {{ge: 1}}}}}}
"""
SQL = """
SELECT toStartOfHour(at) AS hour, shop, count() AS visits
FROM visits
WHERE hour >= {since:DateTime} AND hour < {until:DateTime}
GROUP BY hour, shop
ORDER BY hour, shop
"""
COLUMNS = (
    *("publish, first", "publish, later", "a run's process", "first answer"),
    *("one, first", "one, again", "24, again", "server holds"),
)


def main(sizes: list[int]) -> None:
    """Print a table, a line for each size: processor time."""
    print(f"{'partitions':>10}" + "".join(f" {name:>16}" for name in COLUMNS))
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            write_project(root, size)
            _child(root, "fill")
            first, later = (_child(root, "publish")[name] for name in ("first", "later"))
            figures = [_ms(first), _ms(later), f"{_run(root):.1f} s", *_served(root)]
        print(f"{size:>10,}" + "".join(f" {figure:>16}" for figure in figures), flush=True)


def write_project(root: Path, size: int) -> None:
    """A version whose last partition has just ended, and visits of its last two hours."""
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0, tzinfo=None)
    start = end - timedelta(hours=size)
    folder = root / "endpoint_defs" / "visits"
    folder.mkdir(parents=True)
    (root / ".env").write_text("ENDPOINTS_PARITY_SAMPLES=0\n")
    (folder / "endpoint.yaml").write_text(
        YAML.format(start=f"{start:%Y-%m-%dT%H:%M}", end=f"{end:%Y-%m-%dT%H:%M}")
    )
    (folder / "v1.sql").write_text(SQL)
    (root / "data").mkdir()
    times = [end - timedelta(minutes=minute) for minute in range(1, 120)]
    rows = [(at, f"shop {shop:02}") for at in times for shop in range(SHOPS)]
    schema = {"at": pl.Datetime("ms", "UTC"), "shop": pl.String}
    pl.DataFrame(rows, schema, orient="row").write_parquet(root / "data" / "visits.parquet")


# -- in a process of their own ------------------------------------------------------------------------------


def fill(settings: Settings) -> dict[str, float]:
    """Publish every partition: the last one from its query, the others with its rows, moved in time."""
    from orchestration.materialize import materialize_partitions

    version, lake = load_project(settings).version("visits"), Lake.open(settings)
    *others, last = _windows(version)
    with closing(open_warehouse(settings)) as warehouse:
        materialize_partitions(version, warehouse, lake, settings, run_id="last", partitions=[last.key])
    head = _head(lake)
    attempt = lake.begin("visits", 1, fingerprint=version.fingerprint, run_id="rest", partitions=())
    rows, entry = _rows(settings, head, last.key), head.partitions[last.key]
    entries = {one.key: _written(attempt, one, rows, entry, last.start - one.start) for one in others}
    attempt.publish(entries, head.server)
    return {}


def publish(settings: Settings) -> dict[str, float]:
    """Publish one partition again, and others after it."""
    version, lake = load_project(settings).version("visits"), Lake.open(settings)
    windows, chance, seconds = _windows(version), random.Random(7), []
    known = Lake.open(settings).manifest("visits", 1, 1)
    assert isinstance(known, Manifest)
    rows, entry = _rows(settings, known, windows[-1].key), known.partitions[windows[-1].key]
    every = frozenset(window.key for window in windows)
    for one in chance.sample(windows[:-1], PUBLISHES):
        began = time.process_time()
        attempt = lake.begin(
            "visits", 1, fingerprint=version.fingerprint, run_id="again", partitions=[one.key]
        )
        made = _written(attempt, one, rows, entry, windows[-1].start - one.start)
        attempt.publish({one.key: made}, known.server, existing=every)
        seconds.append(time.process_time() - began)
    return {"first": seconds[0], "later": statistics.median(seconds[1:])}


def _windows(version: Version) -> list[Window]:
    assert version.materialize is not None
    assert version.materialize.partitions is not None
    return timeline(version.materialize.partitions).between(None, None, datetime.now(UTC))


def _head(lake: Lake) -> Manifest:
    head = lake.head("visits", 1)
    assert head is not None
    return head


def _rows(settings: Settings, manifest: Manifest, key: str) -> pa.Table:
    cache = FileCache.open(Lake.open(settings, probe=False).store, settings)
    (file,) = manifest.partitions[key].files
    return pq.read_table(cache.local("visits", 1, file))


def _written(
    attempt: Attempt, window: Window, rows: pa.Table, like: PartitionEntry, earlier: timedelta
) -> PartitionEntry:
    """The rows as those of another hour, in a file of their own."""
    with attempt.writer(window.key, like.columns) as writer:
        for batch in rows.to_batches():
            moved = [_moved(column, earlier) for column in batch.columns]
            writer.write(pa.RecordBatch.from_arrays(moved, schema=batch.schema))
        files = writer.close()
    return attempt.entry(files, like.columns, as_of=datetime.now(UTC))


def _moved(column: pa.Array, earlier: timedelta) -> pa.Array:
    if not pa.types.is_timestamp(column.type):
        return column
    ticks = int(earlier.total_seconds() * {"s": 1, "ms": 1000}[column.type.unit])
    return pa.compute.subtract(column.cast(pa.int64()), ticks).cast(column.type)


# -- from outside -------------------------------------------------------------------------------------------


def _child(root: Path, step: str) -> dict[str, float]:
    done = _start(root, "-m", "benchmarks.partitions", "--step", step)
    told, _ = done.communicate()
    if done.returncode:
        raise SystemExit(f"{step} failed")
    found: dict[str, float] = json.loads(told.splitlines()[-1])
    return found


def _run(root: Path) -> float:
    """Processor seconds of a run of the last partition, from the start of its process to the end."""
    key = _windows(load_project(load_settings(root)).version("visits"))[-1].key
    before = os.times()
    process = _start(root, "-m", "orchestration.run", "visits", "--partition", key, "--json")
    told, _ = process.communicate()
    assert json.loads(told.splitlines()[-1])["outcome"] == "published"
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def _served(root: Path) -> Iterator[str]:
    """Of a started server: what it takes until the first answer from the asset; answers over HTTP, one after
    the other; memory after them.
    """
    settings = load_settings(root)
    _, key = KeyStore.open(settings).create("benchmark", rate="1000000/minute")
    windows = _windows(load_project(settings).version("visits"))
    some = random.Random(8).sample(range(len(windows) - 24), ANSWERS)
    with _server(root) as (process, url), httpx.Client(headers={"Authorization": f"Bearer {key}"}) as client:

        def ask(first: int, hours: int, limit: int = 1000) -> dict[str, Any]:
            bounds = {"since": windows[first].start, "until": windows[first + hours].start}
            given = {name: at.isoformat() for name, at in bounds.items()}
            found: dict[str, Any] = client.get(url, params={**given, "limit": str(limit)}).json()
            return found

        def asked(hours: int, limit: int) -> str:
            """What some answers, each of other partitions, took. By another limit none is known."""
            began = _used(process)
            for first in some:
                answer = ask(first, hours, limit)
                assert answer.get("source") == "asset", answer
                assert len(answer["results"]) == hours * SHOPS, answer
            return _ms((_used(process) - began) / ANSWERS)

        while _answered(lambda: ask(len(windows) - 2, 1)).get("source") != "asset":
            time.sleep(0.02)
        yield f"{_used(process):.1f} s"
        yield from (asked(1, 1001), asked(1, 1002))
        asked(24, 1003)
        yield asked(24, 1004)
        yield f"{process.memory_info().rss / 2**20:.0f} MB"


def _used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _answered(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return ask()
    except (httpx.TransportError, ValueError):
        return {}


@contextmanager
def _server(root: Path) -> Iterator[tuple[psutil.Process, str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = _start(root, "-m", "serving", "--host", "127.0.0.1", "--port", str(port))
    try:
        yield psutil.Process(started.pid), f"http://127.0.0.1:{port}/endpoints/visits/run"
    finally:
        started.terminate()
        started.communicate()


def _start(root: Path, *arguments: str) -> subprocess.Popen[str]:
    source = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "DAGSTER_HOME": str(root / ".dagster")}
    command = [sys.executable, *arguments]
    return subprocess.Popen(
        command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


_STEPS = {"fill": fill, "publish": publish}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--step"]:
        print(json.dumps(_STEPS[sys.argv[2]](load_settings())))
    else:
        main([int(size) for size in sys.argv[1:]] or list(SIZES))
