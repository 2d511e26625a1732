"""usage: what the log of runs says."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from endpoints.lake.store import Store
from endpoints.usage import RunRecord, alike, write
from tests.cli.conftest import Run


def record(project: Path, *days_ago: int, endpoint: str = "daily_sales") -> None:
    (project / "lake").mkdir(exist_ok=True)
    at = [(datetime.now(UTC) - timedelta(days=days)).timestamp() for days in days_ago]
    runs = [RunRecord(t, endpoint, 2, "k1", "asset", None, 200, 0.002, 3, 100, cached=True) for t in at]
    write(Store(f"file://{project / 'lake'}"), endpoint, alike(runs))


def test_of_one_endpoint(run: Run, project: Path) -> None:
    record(project, 0, 0, 0, 1, 3)
    found = json.loads(run("usage", "Daily_Sales", "--json").stdout)
    assert [row["requests"] for row in found["usage"]] == [1, 1, 3]
    assert (found["name"], found["by"], found["totals"]["p50_ms"]) == ("daily_sales", "day", 2.0)
    shown = run("usage", "daily_sales", "--by", "version").stdout
    assert "2.0 ms" in shown
    assert "100%" in shown
    assert run("usage", "daily_sales").stdout.rstrip().endswith("····▃·▃█"), "a dot for a day without any"
    assert "requests by" not in shown, "versions are no time"


def test_of_all(run: Run, project: Path) -> None:
    assert json.loads(run("usage", "--json").stdout) == []
    record(project, 0)
    record(project, 0, 1, endpoint="other")
    found = json.loads(run("usage", "--json").stdout)
    assert [(row["endpoint"], row["requests"]) for row in found] == [("other", 2), ("daily_sales", 1)]
    shown = run("usage").stdout
    assert "·······█" in next(line for line in shown.splitlines() if "daily_sales" in line)
    assert "······██" in next(line for line in shown.splitlines() if "other" in line)


def test_short_times_show(run: Run, project: Path) -> None:
    """A known answer takes hundredths of a millisecond, a live one seconds."""
    at = datetime.now(UTC).timestamp()
    known = RunRecord(at, "daily_sales", 2, "k1", "asset", None, 200, 0.000018, 3, 100, cached=True)
    slow = known._replace(endpoint="other", duration=1.23456)
    write(Store(f"file://{project / 'lake'}"), "known", alike([known, slow, slow]))
    assert "0.02 ms" in run("usage", "daily_sales").stdout
    assert "1,235 ms" in run("usage").stdout


def test_wrong_use(run: Run) -> None:
    for arguments in (("--from", "yesterday"), ("--from", "2026-02-01", "--to", "2026-01-01"), ("nothing",)):
        answer = run("usage", *arguments)
        assert answer.exit_code == 2, answer.output
