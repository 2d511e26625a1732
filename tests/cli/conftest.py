"""A project folder as a user has it, with two tables and endpoints of every kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner, Result

from endpoints.cli import main

Run = Callable[..., Result]

YAML = """\
description: Sales of one region, by day.
owner: sales@example.com
current: 2
versions:
  1:
    deprecated: 2026-01-01
  2:
    variables:
      region: {enum: [EU, US]}
    freshness: 1h
    materialize: {schedule: hourly}
    contract:
      columns:
        total: {type: Int64, ge: 0}
"""
SQL = """\
SELECT day, sum(amount) AS total
FROM sales
WHERE region = {region:String}
GROUP BY day
ORDER BY day
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    sales = {
        "day": pl.Series(["2026-01-01", "2026-01-02", "2026-01-02"]).str.to_date(),
        "region": ["EU", "EU", "US"],
        "amount": [3, 4, 9],
    }
    (tmp_path / "data").mkdir()
    pl.DataFrame(sales).write_parquet(tmp_path / "data" / "sales.parquet")
    (tmp_path / ".env").touch()
    write_endpoint(tmp_path, "daily_sales", YAML, SQL.replace("sum(amount)", "max(amount)"), SQL)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_endpoint(project: Path, name: str, yaml: str, *sqls: str) -> Path:
    folder = project / "endpoint_defs" / name
    folder.mkdir(parents=True)
    (folder / "endpoint.yaml").write_text(yaml)
    for number, sql in enumerate(sqls, start=1):
        (folder / f"v{number}.sql").write_text(sql)
    return folder


@pytest.fixture
def run(project: Path) -> Run:
    """Runs a command in the project."""
    return lambda *arguments: CliRunner().invoke(main, arguments, catch_exceptions=False)
