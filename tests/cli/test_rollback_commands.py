"""rollback, release, history: back to what was there, and on again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from tests.cli.conftest import Run


def answered(run: Run) -> tuple[str, str | None, int]:
    answer = json.loads(run("run", "daily_sales", "-v", "region=US", "--json").stdout)
    return answer["source"], answer["reason"], answer["results"][0][1]


def sell(project: Path, amount: int) -> None:
    path = project / "data" / "sales.parquet"
    rows = pl.read_parquet(path)
    rows.with_columns(
        pl.when(region="US").then(pl.lit(amount)).otherwise("amount").alias("amount")
    ).write_parquet(path)


def history(run: Run, *more: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(run("history", "daily_sales", "--json", *more).stdout)
    return rows


def test_back_to_the_snapshot_before_and_on_again(run: Run, project: Path) -> None:
    assert history(run) == []
    assert run("materialize", "daily_sales").exit_code == 0
    sell(project, 999)
    assert run("materialize", "daily_sales").exit_code == 0
    assert answered(run) == ("asset", None, 999)

    done = run("rollback", "daily_sales", "--json")
    assert done.exit_code == 0, done.stderr
    line = json.loads(done.stdout)
    assert (line["outcome"], line["snapshot"], line["restored"], line["held"]) == ("rolled_back", 3, 1, True)
    assert line["rows"] == 3
    assert answered(run) == ("asset", "rolled_back", 9)
    (row,) = json.loads(run("status", "daily_sales", "--json").stdout)
    assert row["state"] == "fresh"

    newest, *before = history(run)
    assert (newest["snapshot"], newest["outcome"], newest["held"], newest["restored"]) == (
        3,
        "rolled_back",
        True,
        1,
    )
    assert [(row["snapshot"], row["outcome"]) for row in before] == [(2, "published"), (1, "published")]
    assert before[0]["run_id"]
    assert history(run, "--limit", "1") == [newest]
    shown = run("history", "daily_sales").stdout
    assert "content of 1, held" in shown

    assert json.loads(run("release", "daily_sales", "--json").stdout)["outcome"] == "released"
    assert answered(run) == ("asset", None, 9)
    assert run("materialize", "daily_sales").exit_code == 0
    assert answered(run) == ("asset", None, 999)


def test_what_cannot_be_gone_back_to_is_said(run: Run, project: Path) -> None:
    nothing = run("rollback", "daily_sales")
    assert nothing.exit_code == 1
    assert "no earlier snapshot" in nothing.stderr
    assert run("release", "daily_sales").exit_code == 1
    gone = run("rollback", "daily_sales", "--to", "7", "--json")
    assert (gone.exit_code, gone.stdout) == (1, "")
    assert "snapshot 7 was never there" in gone.stderr
    assert run("rollback", "nothing_such").exit_code == 2
