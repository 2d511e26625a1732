"""A partitioned version over HTTP: a request is answered by the state of the partitions that it touches."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from endpoints.lake.manifest import Server
from endpoints.query.plan import Plan, check_plan, make_plan
from endpoints.query.plan.slices import sliced_column
from endpoints.query.slices import partition_bounds
from endpoints.warehouse.protocol import Caps, Statement

YAML = """
current: 1
versions:
  1:
    variables: {since: {optional: true}, until: {optional: true}}
    freshness: 1h
    materialize: {partitions: {column: day, by: day, start: 2026-01-01, end: 2026-01-04}}
"""
SQL = """
SELECT day, count() AS events FROM events
WHERE customer_id = {customer:String} AND day >= {since:Date} AND day <= {until:Date}
GROUP BY day ORDER BY day DESC
"""
ALL = {"customer": "bolt"}
FIRST = [["2026-01-01", 1]]
NOW = datetime.now(UTC)
Serve = Callable[..., tuple[Any, Callable[[], httpx.Client]]]


@pytest.fixture
def sliced(serve_with: Serve, tmp_path: Path) -> tuple[Any, Callable[[], httpx.Client]]:
    folder = tmp_path / "defs" / "sliced"
    folder.mkdir(parents=True)
    (folder / "endpoint.yaml").write_text(YAML)
    (folder / "v1.sql").write_text(SQL)
    return serve_with(defs=tmp_path / "defs")


def publish(stand: Any, *keys: str, age: timedelta = timedelta(0)) -> None:
    version, warehouse = stand.version("sliced"), stand.warehouse.inner
    plan = make_plan(version)
    assert isinstance(plan, Plan)
    assert plan.slicing is not None
    assert isinstance(check_plan(plan, version, warehouse), Plan)
    attempt = stand.lake.begin("sliced", 1, fingerprint=version.fingerprint, run_id="r", partitions=keys)
    entries = {}
    for key in keys:
        bounds = partition_bounds(version.materialize.partitions, key, NOW)
        assert bounds is not None
        with warehouse.run(Statement(plan.materialize_sql, bounds), Caps()) as result:
            with attempt.writer(key, result.columns, sort=["__d0"]) as writer:
                for batch in result:
                    writer.write(batch)
            entries[key] = attempt.entry(writer.close(), result.columns, as_of=NOW - age)
    (column,) = warehouse.describe(sliced_column(plan.slicing))
    attempt.publish(entries, Server("26.9", "UTC", column.type.text))


def ask(client: httpx.Client, **given: str) -> tuple[str, str | None, list[Any]]:
    body = client.get("/endpoints/sliced/run", params={**ALL, **given}).raise_for_status().json()
    return body["source"], body["reason"], body["results"]


def test_only_what_a_request_touches_decides(sliced: tuple[Any, Callable[[], httpx.Client]]) -> None:
    stand, serve = sliced
    publish(stand, "2026-01-01", "2026-01-03")
    client = serve()
    assert ask(client, until="2026-01-01") == ("asset", None, FIRST)
    assert ask(client, since="2026-01-03") == ("asset", None, [["2026-01-03", 1]])
    assert ask(client, until="2026-01-02") == ("live", "missing", FIRST)
    assert ask(client) == ("live", "missing", [["2026-01-03", 1], *FIRST])
    assert ask(client, since="2026-02-01") == ("asset", None, [])
    publish(stand, "2026-01-02")
    stand.until(lambda: ask(client, until="2026-01-02")[0] == "asset")
    assert ask(client) == ("asset", None, [["2026-01-03", 1], *FIRST])


def test_a_failed_partition_sends_its_requests_alone_to_clickhouse(
    sliced: tuple[Any, Callable[[], httpx.Client]],
) -> None:
    stand, serve = sliced
    publish(stand, "2026-01-01", "2026-01-02", "2026-01-03")
    attempt = stand.lake.begin("sliced", 1, fingerprint=stand.version("sliced").fingerprint, run_id="r")
    attempt.fail("failed", "no", ["2026-01-02"])
    client = serve()
    assert ask(client, until="2026-01-01") == ("asset", None, FIRST)
    assert ask(client, until="2026-01-02") == ("live", "failed", FIRST)


def test_live_answers_have_the_bounds_of_the_partitions(
    sliced: tuple[Any, Callable[[], httpx.Client]], tmp_path: Path
) -> None:
    """`start` and `end` belong to the version: what is before or behind is in no answer."""
    _, serve = sliced
    file = tmp_path / "defs" / "sliced" / "endpoint.yaml"
    file.write_text(YAML.replace("start: 2026-01-01, end: 2026-01-04", "start: 2026-01-02, end: 2026-01-03"))
    client = serve()
    assert ask(client, customer="acme") == ("live", "missing", [["2026-01-02", 2]])
    assert ask(client) == ("live", "missing", [])
