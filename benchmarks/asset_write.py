"""How fast an asset is made: `python -m benchmarks.asset_write [--rows 10000000] [--rounds 3] [--json]`.

`published` is the real path: the plan's rows sorted, held to a contract (a type, a range, unique keys),
written, compared with live answers and published. `clickhouse` is ClickHouse alone: one worker of embedded
ClickHouse that writes the rows of the same query to one Parquet file by itself. They take turns, each in a
process of its own that has started before the clock does; what counts is the ratio of medians. `first` is the
first materialization, which counts rows beforehand.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import asset

WAYS = ("clickhouse", "published", "published, no parity")
_SETTINGS = (
    "engine_file_truncate_on_insert = 1, output_format_parquet_row_group_size = 65536, "
    "output_format_parquet_compression_method = 'zstd', output_format_parquet_string_as_string = 0"
)


def main() -> None:
    """Make the events, take turns, print seconds, memory and ratios."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--rows", type=int, default=asset.EVENTS, help="events")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--json", action="store_true")
    options.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options.add_argument("--project", type=Path, help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.way:
        print(json.dumps(once(asked.way, asked.project)))
        return
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder), asked.rows, asked.rounds)
    print(json.dumps(measured) if asked.json else table(measured))


def measure(folder: Path, rows: int, rounds: int) -> dict[str, dict[str, float]]:
    """Medians by way of what was used, rows, bytes of the files."""
    asset.make_project(folder, rows)
    made: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    first = _turn("published", folder)
    for _ in range(rounds):
        for way in WAYS:
            made[way].append(_turn(way, folder))
    medians = {
        way: {name: asset.median([turn[name] for turn in turns]) for name in turns[0]}
        for way, turns in made.items()
    }
    return {**medians, "first": first}


def _turn(way: str, folder: Path) -> dict[str, float]:
    shown = asset.run("benchmarks.asset_write", "--way", way, "--project", str(folder))
    return json.loads(shown)  # type: ignore[no-any-return]


def table(measured: dict[str, dict[str, float]]) -> str:
    limit = measured["clickhouse"]
    titles = ("seconds", "ratio", "processor s", "ratio", "peak MB", "more MB", "file MB")
    lines = ["".join([f"{'':22}", *(f"{title:>12}" for title in titles)])]
    for way, one in measured.items():
        shown = (
            f"{one['seconds']:.2f}",
            f"{one['seconds'] / limit['seconds']:.2f}",
            f"{one['processor']:.2f}",
            f"{one['processor'] / limit['processor']:.2f}",
            f"{one['peak'] / 2**20:,.0f}",
            f"{(one['peak'] - limit['peak']) / 2**20:,.0f}",
            f"{one['bytes'] / 2**20:.1f}",
        )
        lines.append("".join([f"{way:22}", *(f"{text:>12}" for text in shown)]))
    return "\n".join([*lines, f"{limit['rows']:,.0f} rows"])


def once(way: str, folder: Path) -> dict[str, float]:
    """One turn in this process."""
    return _alone(folder) if way == "clickhouse" else _published(folder, parity=way == "published")


def _published(folder: Path, *, parity: bool) -> dict[str, float]:
    import endpoints.contract  # imported by the first materialization otherwise
    from endpoints.lake.publish import Lake
    from endpoints.warehouse import open_warehouse
    from orchestration.materialize import materialize

    assert endpoints.contract
    settings = asset.settings(folder)
    if not parity:
        settings = settings.model_copy(update={"parity_samples": 0})
    lake, warehouse = Lake.open(settings), open_warehouse(settings)
    warehouse.ping()
    with asset.measured() as used:
        made = materialize(asset.version(settings), warehouse, lake, settings, run_id="benchmark")
    warehouse.close()
    return _shown(used, made.entry.rows, made.entry.bytes)


def _alone(folder: Path) -> dict[str, float]:
    """The query in embedded ClickHouse as its workers set it up, with the same tables."""
    from chdb import session  # it has no types

    from endpoints.warehouse.tables import Tables, read_rows
    from orchestration.making import plan_of

    settings = asset.settings(folder)
    sql = plan_of(asset.version(settings)).materialize_sql
    made: Any = session
    owner = made.Session()
    Tables(folder / "data", lambda asked: read_rows(str(owner.query(asked, "JSONCompactEachRow")))).refresh()
    target = folder / "alone.parquet"
    with asset.measured() as used:
        owner.query(f"INSERT INTO FUNCTION file('{target}', Parquet)\n{sql}\nSETTINGS {_SETTINGS}")
    rows = read_rows(str(owner.query(f"SELECT count() FROM file('{target}')", "JSONCompactEachRow")))
    return _shown(used, int(rows[0][0]), target.stat().st_size)


def _shown(used: asset.Used, rows: int, size: int) -> dict[str, float]:
    return {**asdict(used), "rows": rows, "bytes": size}


if __name__ == "__main__":
    main()
