"""What is wrong with a version, by its definition, its newest manifest and the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from endpoints.alerts.conditions import NEVER, Condition, FailedRun, conditions
from endpoints.definition import Version, load_definitions
from endpoints.lake.manifest import CheckResult, Manifest, PartitionEntry, PartitionFailure

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOURLY = {"materialize": {"schedule": "hourly"}, "freshness": "1h"}
DAILY = {"column": "at", "by": "day", "start": "2026-05-01", "refresh": 2}


def define(tmp_path: Path, **keys: Any) -> Version:
    folder = tmp_path / "defs" / "sales"
    folder.mkdir(parents=True)
    (folder / "v1.sql").write_text("SELECT item, at FROM sales")
    (folder / "v2.sql").write_text("SELECT item FROM sales")
    (folder / "endpoint.yaml").write_text(yaml.safe_dump({"current": 2, "versions": {1: keys, 2: {}}}))
    definitions = load_definitions(tmp_path / "defs")
    assert not definitions.problems, definitions.problems
    return definitions.version("sales@1")


def entry(version: Version, age: timedelta, *checks: CheckResult, fingerprint: str = "") -> PartitionEntry:
    return PartitionEntry(
        (), (), NOW - age, fingerprint or version.fingerprint, "run", "attempt", 3, 30, 1, None, checks
    )


def failure(version: Version, cause: str, summary: str, minutes: int = 10) -> PartitionFailure:
    outcome = "failed" if cause == "run" else "breached"
    at = NOW - timedelta(minutes=minutes)
    return PartitionFailure(outcome, "a", "run-9", version.fingerprint, at, "secret", False, cause, summary)  # type: ignore[arg-type]


def manifest(
    version: Version,
    partitions: dict[str, PartitionEntry],
    failures: dict[str, PartitionFailure] | None = None,
    **more: Any,
) -> Manifest:
    return Manifest(
        2, "sales", 1, "a", "run", NOW - timedelta(minutes=5), "published", version.fingerprint,
        partitions=partitions, failures=failures or {}, **more,
    )  # fmt: skip


def kinds(found: tuple[Condition, ...]) -> list[str]:
    return [condition.kind for condition in found]


def test_a_fresh_version_is_left_in_peace(tmp_path: Path) -> None:
    version = define(tmp_path, **HOURLY)
    assert not conditions(version, manifest(version, {"all": entry(version, timedelta(minutes=59))}), NOW)


def test_a_stale_one_says_since_when(tmp_path: Path) -> None:
    version = define(tmp_path, **HOURLY)
    [found] = conditions(version, manifest(version, {"all": entry(version, timedelta(hours=3))}), NOW)
    assert (found.kind, found.since) == ("stale", NOW - timedelta(hours=2))
    assert found.key == "sales@1 stale"


def test_a_version_that_was_never_made_is_given_the_time_of_its_promise(tmp_path: Path) -> None:
    version = define(tmp_path, **HOURLY)
    [found] = conditions(version, None, NOW)
    assert (found.kind, found.grace) == ("stale", timedelta(hours=1))
    changed = manifest(version, {"all": entry(version, timedelta(0), fingerprint="another")})
    assert conditions(version, changed, NOW)[0].grace == timedelta(hours=1)


def test_one_made_on_demand_may_be_missing(tmp_path: Path) -> None:
    assert not conditions(define(tmp_path, materialize={}), None, NOW)


@pytest.mark.parametrize(
    ("cause", "kind"), [("run", "failed"), ("contract", "contract"), ("parity", "parity"), ("check", "check")]
)
def test_failures_say_which_kind_and_nothing_of_the_engine(tmp_path: Path, cause: str, kind: str) -> None:
    version = define(tmp_path, **HOURLY)
    failed = {"all": failure(version, cause, "Something plain.")}
    old = {"all": entry(version, timedelta(days=9))}
    found, late = conditions(version, manifest(version, old, failed), NOW)
    assert (late.kind, late.grace) == ("stale", NEVER), "stale for the same reason: not told of"
    assert (found.kind, found.what) == (kind, "Something plain.")
    assert (found.since, found.run_id) == (NOW - timedelta(minutes=10), "run-9")


def test_open_partitions_count_and_failed_ones_are_named(tmp_path: Path) -> None:
    version = define(tmp_path, freshness="1h", materialize={"schedule": "hourly", "partitions": DAILY})
    fine = {"2026-06-01": entry(version, timedelta(0)), "2026-05-31": entry(version, timedelta(0))}
    assert not conditions(version, manifest(version, fine), NOW)
    late = {"2026-05-31": entry(version, timedelta(0))}
    [found] = conditions(version, manifest(version, late), NOW)
    assert (found.kind, found.what) == ("stale", "Its newest partition has not come.")
    failed = {
        key: failure(version, "run", "ClickHouse did not answer.") for key in ("2026-05-03", "2026-05-02")
    }
    [found] = conditions(version, manifest(version, fine, failed), NOW)
    assert found.what == "ClickHouse did not answer. Partitions: 2026-05-02, 2026-05-03."


def test_dead_sources_are_told_by_table(tmp_path: Path) -> None:
    version = define(tmp_path, **HOURLY)
    checks = (CheckResult("source:sales", False, "newest row 2020"), CheckResult("source:items", True, ""))
    [found] = conditions(version, manifest(version, {"all": entry(version, timedelta(0), *checks)}), NOW)
    assert (found.key, found.what) == (
        "sales@1 source sales",
        "It is made of old data: sales, newest row 2020.",
    )


@pytest.mark.parametrize(
    ("days", "stage"), [(31, None), (30, "30"), (8, "30"), (7, "7"), (1, "1"), (0, None)]
)
def test_a_sunset_is_told_thrice(tmp_path: Path, days: int, stage: str | None) -> None:
    version = define(tmp_path, sunset=str((NOW + timedelta(days=days)).date()))
    assert [c.about for c in conditions(version, None, NOW)] == ([stage] if stage else [])


@pytest.mark.parametrize(
    "keys", [{"sunset": "2026-05-01"}, {"materialize": {"schedule": "hourly", "paused": True}}]
)
def test_versions_that_rest_are_left_in_peace(tmp_path: Path, keys: dict[str, Any]) -> None:
    version = define(tmp_path, **{**HOURLY, **keys})
    assert not conditions(version, manifest(version, {"all": entry(version, timedelta(days=9))}), NOW)


def test_a_held_version_is_left_in_peace(tmp_path: Path) -> None:
    version = define(tmp_path, **HOURLY)
    held = manifest(version, {"all": entry(version, timedelta(days=9))}, held=True)
    assert not conditions(version, held, NOW)


def test_a_run_that_died_without_a_word(tmp_path: Path) -> None:
    version = define(tmp_path, **HOURLY)
    good = manifest(version, {"all": entry(version, timedelta(minutes=9))})
    died = FailedRun("run-7", NOW - timedelta(minutes=1))
    [found] = conditions(version, good, NOW, died)
    assert (found.kind, found.run_id, found.since) == ("failed", "run-7", died.at)
    before_the_last_attempt = FailedRun("run-7", NOW - timedelta(minutes=6))
    assert not conditions(version, good, NOW, before_the_last_attempt)
    told = manifest(version, {}, {"all": failure(version, "run", "Told.")})
    found, _ = conditions(version, told, NOW, FailedRun("run-9", NOW))
    assert found.what == "Told."
