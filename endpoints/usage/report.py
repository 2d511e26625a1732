"""Runs counted: how many, how fast, from where, for whom."""

from __future__ import annotations

from typing import Any, Literal, get_args

import polars as pl

By = Literal["hour", "day", "version", "key", "source"]
BY: tuple[By, ...] = get_args(By)

_GROUPS: dict[By, pl.Expr] = {
    "hour": pl.col("at").dt.strftime("%Y-%m-%dT%H:00:00Z").alias("hour"),
    "day": pl.col("at").dt.strftime("%Y-%m-%d").alias("day"),
    "version": pl.col("version"),
    "key": pl.col("key_id").alias("key"),
    "source": pl.col("source"),
}
_COUNTED = (
    pl.len().alias("requests"),
    (pl.col("status") >= 400).sum().alias("errors"),
    *(
        (pl.col("duration").quantile(share, "linear") * 1000).round(3).alias(f"p{share * 100:.0f}_ms")
        for share in (0.5, 0.95, 0.99)
    ),
    pl.col("rows").sum(),
    pl.col("bytes").sum(),
    pl.col("cached").mean().round(4).alias("cached_share"),
    (pl.col("source") == "asset").fill_null(value=False).mean().round(4).alias("asset_share"),
)


def report(runs: pl.DataFrame, by: By) -> list[dict[str, Any]]:
    """One row for each `by`, in its order, in the names of `totals` and `by`'s own."""
    return runs.group_by(_GROUPS[by]).agg(_COUNTED).sort(by, nulls_last=True).to_dicts()


def totals(runs: pl.DataFrame) -> dict[str, Any]:
    """`requests`, `errors` (4xx and 5xx), `p50_ms`, `p95_ms`, `p99_ms`, `rows`, `bytes`, and as shares of all
    requests `cached_share` and `asset_share`; quantiles and shares are None where there are no runs.
    """
    return runs.select(_COUNTED).to_dicts()[0]


def callers(runs: pl.DataFrame, version: int) -> dict[str, int]:
    """How often each key ran a version, most first."""
    asked = runs.filter(pl.col("version") == version)
    counted = asked.group_by("key_id").len().sort("len", "key_id", descending=[True, False])
    return dict(counted.iter_rows())
