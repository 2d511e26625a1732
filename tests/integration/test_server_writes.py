"""A ClickHouse server that writes assets into S3 by itself: the same manifest, checks and answers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from endpoints.definition import Version, load_definitions
from endpoints.errors import ContractBreach
from endpoints.lake.files import FileCache
from endpoints.lake.publish import Lake
from endpoints.lake.read import AssetReader
from endpoints.query.bind import bind
from endpoints.query.plan import Plan, make_plan
from endpoints.settings import Settings
from endpoints.warehouse.native import NativeWarehouse
from orchestration.making import Materialized
from orchestration.materialize import materialize, materialize_partitions
from tests.warehouse.modern_server import ModernServer, modern_server

SQL = """\
SELECT day, item, count() AS orders, sum(amount) AS total, max(sold) AS last
FROM sales
WHERE shop = {shop:String}
GROUP BY day, item
ORDER BY day, item
"""
SALES = """\
CREATE TABLE sales ENGINE = Memory AS
SELECT concat('shop ', toString(number % 2000)) AS shop,
    toDate('2026-01-01') + intDiv(number, 2000) % 40 AS day,
    concat('item ', toString(number % 7)) AS item, toInt64(number) - 50000 AS amount,
    toDateTime64('2026-01-01 00:00:00', 3, 'Europe/Berlin') + number AS sold,
    toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba0') AS id
FROM numbers(200000)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ModernServer]:
    with modern_server() as running:
        running.session.query(SALES)
        yield running


@pytest.fixture
def collection(server: ModernServer, s3) -> str:
    """A named collection of the server that leads to the lake, with credentials that only it knows."""
    name = f"lake_{abs(hash(s3.url))}"
    url = s3.url.replace("s3://", f"{s3.env['AWS_ENDPOINT_URL']}/")
    secrets = "access_key_id = 'test', secret_access_key = 'never-in-a-query'"
    server.session.query(f"CREATE NAMED COLLECTION {name} AS url = '{url}/', {secrets}")
    return name


@pytest.fixture
def warehouse(server: ModernServer) -> Iterator[NativeWarehouse]:
    warehouse = NativeWarehouse(server.url)
    yield warehouse
    warehouse.close()


def define(
    folder: Path, sql: str, contract: str = "{rows: {min: 1}}", partitions: str | None = None
) -> Version:
    endpoint = folder / "endpoint_defs" / "usage"
    endpoint.mkdir(parents=True, exist_ok=True)
    (endpoint / "v1.sql").write_text(sql)
    asset = "schedule: hourly" + (f", partitions: {partitions}" if partitions else "")
    (endpoint / "endpoint.yaml").write_text(
        f"current: 1\nversions: {{1: {{materialize: {{{asset}}}, contract: {contract}}}}}\n"
    )
    return load_definitions(folder / "endpoint_defs").version("usage")


def settings(s3, folder: Path, collection: str) -> Settings:
    return Settings(project=folder, lake_url=s3.url, lake_collection=collection, embedded_workers=1)


def made(version: Version, warehouse: NativeWarehouse, used: Settings) -> Materialized:
    return materialize(version, warehouse, Lake.open(used), used, run_id="run")


def answers(done: Materialized, used: Settings, *shops: str) -> list[list[dict[str, Any]]]:
    plan = make_plan(done.version)
    assert isinstance(plan, Plan)
    reader = AssetReader(FileCache.open(Lake.open(used).store, used))
    try:
        now = datetime(2026, 1, 1, tzinfo=UTC)
        bounds = [bind(done.version, {"shop": shop}, now=now, timezone="UTC") for shop in shops]
        read = [reader.read(done.manifest, plan, b, limit=None, offset=0, max_rows=1000) for b in bounds]
        return [rows.table.to_pylist() for rows in read]
    finally:
        reader.close()


def test_the_server_writes_and_all_else_is_the_same(
    server: ModernServer, warehouse: NativeWarehouse, collection: str, s3, tmp_path: Path
) -> None:
    version = define(tmp_path, SQL)
    by_server = made(version, warehouse, settings(s3, tmp_path, collection))
    assert by_server.written == "by the ClickHouse server"
    assert by_server.parity is not None
    assert by_server.parity.same, "answers from the server's file are live's"
    streamed = made(version, warehouse, settings(s3, tmp_path, "none"))
    assert streamed.written == "streamed: ENDPOINTS_LAKE_COLLECTION says so"

    one, other = by_server.entry, streamed.entry
    assert (one.rows, one.columns, one.fingerprint) == (other.rows, other.columns, other.fingerprint)
    assert one.rows > 32_768, "more than one row group"
    assert [(c.name, c.passed) for c in one.checks] == [(c.name, c.passed) for c in other.checks]
    (file,) = one.files
    assert (
        file.bytes
        == one.bytes
        == len(Lake.open(settings(s3, tmp_path, "none")).store.get(f"endpoints/usage/v1/{file.path}") or b"")
    )
    assert by_server.preview.equals(streamed.preview)
    used, shops = settings(s3, tmp_path, collection), ("shop 0", "shop 17", "shop 1999", "none such")
    assert answers(by_server, used, *shops) == answers(streamed, used, *shops)
    assert answers(by_server, used, "shop 17")[0]

    inserts = [sql for sql, _, _ in server.queries if sql.startswith("INSERT")]
    assert inserts
    assert not any("never-in-a-query" in sql or "access_key" in sql for sql, _, _ in server.queries)
    assert all(
        "readonly" in sent
        for sql, sent, _ in server.queries
        if not sql.startswith("INSERT") and "FROM system.settings" not in sql
    ), "everything else stays read-only"
    assert not list(Lake.open(used).store.list("_probe"))


def test_partitions_are_written_by_the_server_each_with_its_slice(
    server: ModernServer, warehouse: NativeWarehouse, collection: str, s3, tmp_path: Path
) -> None:
    version = define(
        tmp_path, SQL, partitions="{column: day, by: day, start: 2026-01-01, end: 2026-02-01, refresh: 1}"
    )
    used = settings(s3, tmp_path, collection)
    keys = ["2026-01-03", "2026-01-04"]
    done = materialize_partitions(version, warehouse, Lake.open(used), used, run_id="run", partitions=keys)
    assert [one.written for one in done if isinstance(one, Materialized)] == ["by the ClickHouse server"] * 2
    stored = [one.preview.column("day").to_pylist() for one in done if isinstance(one, Materialized)]
    assert [{str(day) for day in days} for days in stored] == [{"2026-01-03"}, {"2026-01-04"}]
    probes = [sql for sql, _, _ in server.queries if "_probe/" in sql and collection in sql]
    assert len(probes) == 1, "once for all partitions of a run"


def test_a_breach_is_found_in_the_servers_file_too(
    warehouse: NativeWarehouse, collection: str, s3, tmp_path: Path
) -> None:
    used = settings(s3, tmp_path, collection)
    good = made(define(tmp_path, SQL), warehouse, used)
    with pytest.raises(ContractBreach):
        made(define(tmp_path, SQL, "{columns: {total: {type: Int64, ge: 0}}}"), warehouse, used)
    head = Lake.open(used).head("usage", 1)
    assert head is not None
    assert (head.outcome, head.partitions["all"]) == ("breached", good.entry)


@pytest.mark.parametrize(
    ("of", "said"),
    [
        ("SELECT DISTINCT id, day FROM sales WHERE shop = {shop:String} ORDER BY day", "UUID"),
        (
            "SELECT item, count() AS n FROM sales WHERE shop = {shop:String} GROUP BY item ORDER BY item",
            "named collection nothing_such",
        ),
    ],
)
def test_rows_stream_where_the_server_cannot(
    warehouse: NativeWarehouse, collection: str, s3, tmp_path: Path, of: str, said: str
) -> None:
    used = settings(s3, tmp_path, collection if said == "UUID" else "nothing_such")
    done = made(define(tmp_path, of), warehouse, used)
    assert done.written.startswith("streamed: ")
    assert said in done.written
    assert done.entry.rows


def test_a_collection_that_leads_elsewhere_is_not_used(
    server: ModernServer, warehouse: NativeWarehouse, s3, tmp_path: Path
) -> None:
    name = f"elsewhere_{abs(hash(s3.url))}"
    url = s3.url.replace("s3://", f"{s3.env['AWS_ENDPOINT_URL']}/")
    keys = "access_key_id = 'test', secret_access_key = 'test'"
    server.session.query(f"CREATE NAMED COLLECTION {name} AS url = '{url}/other/', {keys}")
    done = made(define(tmp_path, SQL), warehouse, settings(s3, tmp_path, name))
    assert "leads elsewhere" in done.written
