"""Partitions on a real ClickHouse 18.16: each run reads its slice alone, and answers equal live's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from clickhouse_driver import Client

from endpoints.cli import main
from endpoints.definition import Version, load_project
from endpoints.lake.publish import Lake
from endpoints.partitions import keys
from endpoints.settings import Settings, load_settings
from endpoints.warehouse import open_warehouse
from orchestration.making import Materialized
from orchestration.materialize import materialize_partitions

Run = Callable[..., Result]
pytestmark = [pytest.mark.clickhouse, pytest.mark.timeout(280)]

DAYS, GRANULE = 40, 256
FIRST = date(2025, 3, 1)  # on the 30th Berlin's clocks, which are the server's, leave out an hour
PER_DAY = 24 * 600
YAML = """
current: 1
versions:
  1:
    materialize:
      partitions: {{column: at, by: {by}, start: {start}, end: {end}, timezone: Europe/Berlin}}
    contract: {{columns: {{visits: {{ge: 1}}}}, unique: [piece, page]}}
"""
SQL = """
SELECT {piece}(at) AS piece, page, count() AS visits, uniq(person) AS people, max(at) AS latest
FROM visits
WHERE shop = {{shop:String}} AND piece >= {{since:{type}}}
GROUP BY piece, page
ORDER BY piece, page
"""


@pytest.fixture
def server(own_server: Any) -> Iterator[Client]:
    """A table of forty days, sorted by time: a visit every six seconds, a third of them in one shop."""
    client = Client.from_url(own_server.url)
    client.execute(
        "CREATE TABLE visits (at DateTime, shop String, page String, person UInt32) ENGINE = MergeTree "
        f"PARTITION BY toYYYYMM(at) ORDER BY at SETTINGS index_granularity = {GRANULE}"
    )
    client.execute(
        f"INSERT INTO visits SELECT toDateTime('{FIRST} 00:00:00') + 6 * number, "
        "if(number % 3 = 0, 'north', 'south'), concat('/', toString(number % 7)), intHash32(number) % 5000 "
        f"FROM system.numbers LIMIT {DAYS * PER_DAY}"
    )
    yield client
    client.disconnect()


@pytest.fixture
def settings(tmp_path: Path, own_server: Any, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A project on that server, which logs its queries; the working directory is in it."""
    (tmp_path / ".env").write_text(f"ENDPOINTS_CLICKHOUSE_URL={own_server.url}/default?log_queries=1\n")
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    return load_settings(tmp_path)


@pytest.fixture
def run(settings: Settings) -> Run:
    return lambda *arguments: CliRunner().invoke(main, arguments, catch_exceptions=False)


def define(settings: Settings, by: str, start: date = FIRST, end: date = FIRST + timedelta(DAYS)) -> Version:
    folder = settings.defs / "visited"
    folder.mkdir(parents=True)
    (folder / "endpoint.yaml").write_text(YAML.format(by=by, start=start, end=end))
    piece, type_ = ("toStartOfHour", "DateTime") if by == "hour" else ("toDate", "Date")
    (folder / "v1.sql").write_text(SQL.format(piece=piece, type=type_))
    return load_project(settings).version("visited")


def materialized(settings: Settings, version: Version, partitions: Sequence[str]) -> list[Materialized]:
    with closing(open_warehouse(settings)) as warehouse:
        done = materialize_partitions(
            version, warehouse, Lake.open(settings), settings, run_id="run", partitions=partitions
        )
    good = [one for one in done if isinstance(one, Materialized)]
    assert len(good) == len(done), done
    return good


def answers(run: Run, since: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """From the asset and live."""
    asked = ("run", "visited", "-v", "shop=north", "-v", f"since={since}", "--json")
    asset, live = (json.loads(run(*asked, *more).stdout) for more in ((), ("--live",)))
    assert (asset["source"], live["source"]) == ("asset", "live")
    return asset, live


def rows_read(server: Client) -> int:
    """By all queries so far that named the table, as the server itself has counted them."""
    server.execute("SYSTEM FLUSH LOGS")
    named = "position(query, 'FROM visits') > 0 AND position(query, 'query_log') = 0"
    [[rows]] = server.execute(f"SELECT sum(read_rows) FROM system.query_log WHERE type = 2 AND {named}")
    return int(rows)


def marks_read(server: Client) -> int:
    """Granules that queries have read of tables; those of subqueries, which the log leaves out, too."""
    [[marks]] = server.execute("SELECT sum(value) FROM system.events WHERE event = 'SelectedMarks'")
    return int(marks)


def test_a_partition_reads_its_slice_alone(server: Client, settings: Settings) -> None:
    quiet, before = settings.model_copy(update={"parity_samples": 0}), marks_read(server)
    (done,) = materialized(quiet, define(settings, "day"), ["2025-03-17"])
    assert done.entry.rows == 2 * 7  # of each shop and page
    granules = PER_DAY // GRANULE + 3  # the day begins and ends within one
    assert PER_DAY <= rows_read(server) <= granules * GRANULE + 100, "and a few rows of DESCRIBE"
    assert marks_read(server) - before <= 2 * granules, "its rows are counted, then read"
    assert 30 * granules * GRANULE < DAYS * PER_DAY


@pytest.mark.parametrize(
    ("by", "start", "end", "count", "found"),
    [
        ("hour", date(2025, 3, 29), date(2025, 3, 31), 47, (47, 22, 0, 0)),
        ("day", FIRST, FIRST + timedelta(days=DAYS), 40, (40, 11, 3, 0)),
        ("week", date(2025, 3, 3), date(2025, 4, 7), 5, (35, 8, 0, 0)),
        ("month", FIRST, date(2025, 5, 1), 2, (41, 12, 4, 0)),  # the hour left out goes on into a 41st day
    ],
)
def test_answers_from_partitions_equal_live_ones(
    server: Client,
    settings: Settings,
    run: Run,
    by: str,
    start: date,
    end: date,
    count: int,
    found: tuple[int, ...],
) -> None:
    version = define(settings, by, start, end)
    assert version.materialize is not None
    every = keys(version.materialize.partitions, datetime.now(UTC)) or []
    assert len(every) == count
    done = materialized(settings, version, every)
    assert {one.parity.outcome for one in done if one.parity} == {"same"}
    since = (date(2025, 1, 1), date(2025, 3, 30), date(2025, 4, 7), date(2025, 12, 31))
    for first, pieces in zip(since, found, strict=True):
        asset, live = answers(run, f"{first}T00:00:00Z" if by == "hour" else str(first))
        assert asset["types"] == live["types"]
        assert asset["results"] == live["results"]
        assert len(live["results"]) == 7 * pieces  # hours or days, each with seven pages


def test_a_backfill_makes_what_is_missing(server: Client, settings: Settings, run: Run) -> None:
    define(settings, "day", FIRST, FIRST + timedelta(days=6))
    made = run("materialize", "visited", "--from", "2025-03-02", "--to", "2025-03-04", "--json")
    assert made.exit_code == 0, made.stderr
    done = run("backfill", "visited", "--json")
    assert done.exit_code == 0, done.stderr
    told = {line["partition"]: line["outcome"] for line in map(json.loads, done.stdout.splitlines())}
    assert told == dict.fromkeys(["2025-03-01", "2025-03-05", "2025-03-06"], "published")
    asset, live = answers(run, str(FIRST))
    assert asset["results"] == live["results"]
    assert len(live["results"]) == 7 * 6
