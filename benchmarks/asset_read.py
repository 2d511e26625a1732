"""How fast one key of an asset is read: `python -m benchmarks.asset_read [--rows 10000000] [--reads 2000]`.

Every read asks for another key of the same published file, through the library, without HTTP: `asset` gives
the rows, `asset, as JSON` the body too; `asset, 32 MiB` may hold a fraction of what it reads from. Beside it
a plain Polars scan, DuckDB, and the limit: everything in memory, found by `search_sorted`, sliced, written as
JSON. Each way has a process of its own and is warm when the clock starts; what counts are ratios of medians.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from benchmarks import asset

Read = Callable[[str], int]  # a customer's id → how many rows it has
LIMIT = "all in memory, search_sorted, JSON"


def main() -> None:
    """Publish the asset, measure each way, print milliseconds, memory and ratios."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--rows", type=int, default=asset.EVENTS, help="events")
    options.add_argument("--reads", type=int, default=2000)
    options.add_argument("--json", action="store_true")
    options.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options.add_argument("--project", type=Path, help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.way:
        print(json.dumps(once(asked.way, asked.project, asked.rows, asked.reads)))
        return
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder), asked.rows, asked.reads)
    print(json.dumps(measured) if asked.json else table(measured))


def measure(folder: Path, rows: int, reads: int) -> dict[str, dict[str, float]]:
    """By way: milliseconds (median, 99th percentile, first read), rows a read, MB before and after."""
    asset.make_project(folder, rows)
    asset.run("benchmarks.asset_write", "--way", "published", "--project", str(folder))
    given = ("--project", str(folder), "--rows", str(rows), "--reads", str(reads))
    found = {way: json.loads(asset.run("benchmarks.asset_read", "--way", way, *given)) for way in WAYS}
    assert len({one["rows"] for one in found.values()}) == 1, found
    return found


def table(measured: dict[str, dict[str, float]]) -> str:
    limit = measured[LIMIT]["median"]
    lines = [
        f"{'':36}{'median ms':>10}{'p99 ms':>9}{'first ms':>9}{'of the limit':>14}{'MB':>7}{'more MB':>9}"
    ]
    for way, one in measured.items():
        lines.append(
            f"{way:36}{one['median']:10.3f}{one['p99']:9.2f}{one['first']:9.1f}{one['median'] / limit:13.2f}x"
            f"{one['memory']:7,.0f}{one['memory'] - one['before']:9,.0f}"
        )
    return "\n".join([*lines, f"{measured[LIMIT]['rows']:.1f} rows a read"])


def once(way: str, folder: Path, rows: int, reads: int) -> dict[str, float]:
    """One way, in this process."""
    before, read = WAYS[way](folder)
    keys = [f"cust_{number}" for number in range(asset.customers(rows))]
    random.Random(1).shuffle(keys)
    keys = (keys * (2 * reads // len(keys) + 1))[: 2 * reads]
    first = _timed(read, keys[0])[0]
    if first < 0.1:
        for key in keys[reads:]:
            read(key)
    timed = [_timed(read, key) for key in keys[:reads]]
    seconds = sorted(second for second, _ in timed)
    return {
        "median": asset.median(seconds) * 1e3,
        "p99": seconds[len(seconds) * 99 // 100] * 1e3,
        "first": first * 1e3,
        "rows": sum(count for _, count in timed) / reads,
        "before": before,
        "memory": _memory(),
    }


def _timed(read: Read, key: str) -> tuple[float, int]:
    began = time.perf_counter()
    count = read(key)
    return asset.seconds_since(began), count


def _memory() -> float:
    return psutil.Process().memory_info().rss / 2**20


def _library(folder: Path, *, budget: int | None = None, as_json: bool = False) -> tuple[float, Read]:
    from endpoints.formats import json_rows
    from endpoints.lake.files import FileCache
    from endpoints.lake.publish import Lake
    from endpoints.lake.read import AssetReader
    from endpoints.query.bind import bind
    from orchestration.making import plan_of

    settings = asset.settings(folder)
    version, lake = asset.version(settings), Lake.open(settings)
    plan, manifest = plan_of(version), lake.head(asset.ENDPOINT, 1)
    assert manifest is not None
    reader = AssetReader(FileCache.open(lake.store, settings), budget=budget or settings.asset_memory_bytes)

    def read(key: str) -> int:
        bound = bind(version, {"customer_id": key}, now=datetime.now(UTC))
        rows = reader.read(manifest, plan, bound, limit=None, offset=0, max_rows=50_000)
        if as_json:
            json_rows(rows)
        return int(rows.table.num_rows)

    return _memory(), read


def _file(folder: Path) -> Path:
    """The one file of the published asset."""
    (path,) = (folder / "lake").rglob("*.parquet")
    return path


def _polars_scan(folder: Path) -> tuple[float, Read]:
    import polars as pl

    path, before = _file(folder), _memory()

    def read(key: str) -> int:
        rows = pl.scan_parquet(path).filter(pl.col("__d0") == key.encode()).drop("__d0").collect()
        return len(rows)

    return before, read


def _duckdb(folder: Path) -> tuple[float, Read]:
    import duckdb

    sql = "SELECT * EXCLUDE (__d0) FROM read_parquet(?) WHERE __d0 = ?::VARCHAR::BLOB"
    database, path, before = duckdb.connect(), str(_file(folder)), _memory()
    return before, lambda key: len(database.execute(sql, [path, key]).fetchall())


def _in_memory(folder: Path) -> tuple[float, Read]:
    import polars as pl

    before = _memory()
    rows = pl.read_parquet(_file(folder)).with_columns(pl.col("__d0", "event").cast(pl.String))
    keys: Any = rows["__d0"]
    shown = rows.drop("__d0")

    def read(key: str) -> int:
        low, high = keys.search_sorted(key, side="left"), keys.search_sorted(key, side="right")
        found = shown[low:high]
        found.write_json()
        return len(found)

    return before, read


WAYS: dict[str, Callable[[Path], tuple[float, Read]]] = {
    "asset": _library,
    "asset, as JSON": lambda folder: _library(folder, as_json=True),
    "asset, 32 MiB": lambda folder: _library(folder, budget=32 * 2**20),
    LIMIT: _in_memory,
    "Polars scan": _polars_scan,
    "DuckDB": _duckdb,
}


if __name__ == "__main__":
    main()
