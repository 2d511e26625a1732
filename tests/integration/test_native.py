"""The native warehouse against a real ClickHouse 18.16: users, restarts, kills, and what the server sees."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from clickhouse_driver import Client

from endpoints.errors import BadQuery, OverLimit, QueryCancelled, QueryTimeout, WarehouseUnavailable
from endpoints.query.clock import at_moment
from endpoints.types import storage_schema
from endpoints.warehouse.native import NativeWarehouse
from endpoints.warehouse.protocol import Caps, Statement

pytestmark = pytest.mark.clickhouse
ENDLESS = Statement("SELECT sum(sipHash64(number)) FROM system.numbers")
Connect = Callable[[str], NativeWarehouse]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Opens warehouses, and closes them after the test."""
    opened: list[NativeWarehouse] = []

    def open_it(url: str) -> NativeWarehouse:
        opened.append(NativeWarehouse(url))
        return opened[-1]

    yield open_it
    for warehouse in opened:
        warehouse.close()


@pytest.fixture
def admin(clickhouse_url: str) -> Iterator[Client]:
    client = Client.from_url(clickhouse_url)
    yield client
    client.disconnect()


@pytest.fixture
def query_id() -> str:
    """A server runs no two queries of one id, and other runs of these tests use it too."""
    return str(uuid.uuid4())


def rows(warehouse: NativeWarehouse, sql: str, caps: Caps | None = None) -> list[dict[str, Any]]:
    with warehouse.run(Statement(sql), caps or Caps(timedelta(seconds=30))) as result:
        return pa.Table.from_batches(list(result), storage_schema(result.columns)).to_pylist()


def test_the_clock_can_be_bound_to_a_moment(connect: Connect, clickhouse_url: str) -> None:
    warehouse = connect(clickhouse_url)
    sql = "SELECT now(), today(), yesterday() AS y, now() - toDateTime(0) AS n"
    described = [(c.name, c.type) for c in warehouse.describe(Statement(sql))]
    moment = datetime(2026, 1, 1, 20, 30, 15, tzinfo=UTC)
    bound = at_moment(sql, moment)
    assert [(c.name, c.type) for c in warehouse.describe(Statement(bound))][:3] == described[:3]
    assert [row["n"] for row in rows(warehouse, bound)] == [int(moment.timestamp())]


def user(url: str, name: str) -> str:
    return url.replace("://", f"://{name}@")


# Users


def test_a_user_with_readonly_2(clickhouse_url: str, connect: Connect) -> None:
    """Its password has the characters that URLs reserve. Limits hold although `readonly` cannot be set."""
    warehouse = connect(user(clickhouse_url, "reader:p%40ss%2Fw%3Ard"))
    assert rows(warehouse, "SELECT 1 AS x") == [{"x": 1}]
    with pytest.raises(OverLimit):
        rows(warehouse, "SELECT number FROM system.numbers LIMIT 11", Caps(max_rows=10))
    with pytest.raises(BadQuery):
        rows(warehouse, "CREATE TABLE made (a UInt8) ENGINE = Memory")


def test_a_user_whose_limits_would_be_ignored_is_refused(clickhouse_url: str, connect: Connect) -> None:
    """With readonly = 1 in the profile, 18.16 drops the limits of a query without a word."""
    with pytest.raises(WarehouseUnavailable, match="readonly = 2"):
        connect(user(clickhouse_url, "locked")).ping()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda url: user(url, "reader:wrong-secret"), "Wrong password"),
        (lambda url: user(url, "nobody"), "Unknown user"),
        (lambda url: f"{url}/no_such_database", "no_such_database"),
        (lambda url: "clickhouse://127.0.0.1:1", "refused"),
        (lambda url: url.replace("clickhouse://", "clickhouses://"), "ClickHouse"),
    ],
)
def test_no_connection_is_said_without_the_password(
    clickhouse_url: str, connect: Connect, change: Callable[[str], str], says: str
) -> None:
    with pytest.raises(WarehouseUnavailable, match=says) as error:
        connect(change(clickhouse_url)).ping()
    assert "wrong-secret" not in str(error.value)


# The server's side


def test_a_cancelled_query_ends_on_the_server(
    clickhouse_url: str, connect: Connect, admin: Client, query_id: str
) -> None:
    """Closing the connection alone leaves 18.16 aggregating for ever."""
    result = connect(clickhouse_url).run(ENDLESS, Caps(), query_id=query_id)
    threading.Timer(0.2, result.cancel).start()
    with pytest.raises(QueryCancelled):
        list(result)
    assert gone(admin, query_id)


@pytest.mark.parametrize("sql", [ENDLESS.sql, "SELECT number FROM system.numbers"])
def test_a_result_left_early_ends_on_the_server(
    clickhouse_url: str, connect: Connect, admin: Client, query_id: str, sql: str
) -> None:
    with connect(clickhouse_url).run(Statement(sql), Caps(), query_id=query_id):
        assert not gone(admin, query_id, tries=1)
    assert gone(admin, query_id)


def test_the_time_limit_is_enforced_here_too(clickhouse_url: str, connect: Connect) -> None:
    """18.16 looks at the clock between blocks only, and counts whole seconds."""
    warehouse = connect(clickhouse_url)
    sql = "SELECT sleep(3) FROM system.numbers LIMIT 20 SETTINGS max_block_size = 1"
    with pytest.raises(QueryTimeout):
        rows(warehouse, sql, Caps(timeout=timedelta(milliseconds=100)))
    assert rows(warehouse, "SELECT 42 AS x") == [{"x": 42}]


def test_the_query_id_is_the_servers(clickhouse_url: str, connect: Connect, query_id: str) -> None:
    sql = "SELECT query_id FROM system.processes"
    with connect(clickhouse_url).run(Statement(sql), Caps(), query_id=query_id) as result:
        [batch] = result
    assert query_id.encode() in batch.column(0).to_pylist()


def test_connections_are_reused(clickhouse_url: str, connect: Connect, query_id: str) -> None:
    warehouse = connect(clickhouse_url)
    ports = []
    for number in range(10):
        sql = f"SELECT port FROM system.processes WHERE query_id = '{query_id}-{number}'"
        with warehouse.run(Statement(sql), Caps(), query_id=f"{query_id}-{number}") as result:
            ports += [port for batch in result for port in batch.column(0).to_pylist()]
    assert (len(ports), len(set(ports))) == (10, 1)


def test_a_time_without_zone_is_the_servers(clickhouse_url: str, connect: Connect) -> None:
    warehouse = connect(clickhouse_url)
    assert warehouse.server().timezone == "Europe/Berlin"
    [row] = rows(
        warehouse, "SELECT toDateTime('2024-07-01 12:00:00') AS local, toUnixTimestamp(local) AS epoch"
    )
    assert row["local"].timestamp() == row["epoch"]


# A server that goes


def test_a_restart_between_queries_is_not_noticed(own_server: Any, connect: Connect) -> None:
    warehouse = connect(own_server.url)
    with warehouse.run(Statement("SELECT 1"), Caps()), warehouse.run(Statement("SELECT 1"), Caps()):
        pass
    assert rows(warehouse, "SELECT 1 AS x") == [{"x": 1}]
    own_server.stop()
    with pytest.raises(WarehouseUnavailable):
        warehouse.ping()
    own_server.start()
    assert rows(warehouse, "SELECT 2 AS x") == [{"x": 2}]


def test_a_restart_with_idle_connections(own_server: Any, connect: Connect) -> None:
    warehouse = connect(own_server.url)
    with (
        warehouse.run(Statement("SELECT 1"), Caps()) as one,
        warehouse.run(Statement("SELECT 1"), Caps()) as two,
    ):
        list(one), list(two)
    own_server.kill()
    own_server.start()
    assert rows(warehouse, "SELECT 2 AS x") == [{"x": 2}]
    assert len(warehouse.describe(Statement("SELECT 1, 2"))) == 2


@pytest.mark.parametrize("sql", [ENDLESS.sql, "SELECT number FROM system.numbers"])
def test_a_server_killed_in_mid_query(own_server: Any, connect: Connect, sql: str) -> None:
    warehouse = connect(own_server.url)
    result = warehouse.run(Statement(sql), Caps())
    killer = threading.Timer(0.3, own_server.kill)
    killer.start()
    with pytest.raises(WarehouseUnavailable), result:
        list(result) if "sum" in sql else [batch.num_rows for batch in result]
    killer.join()
    with pytest.raises(WarehouseUnavailable):
        warehouse.ping()
    own_server.start()
    assert rows(warehouse, "SELECT 42 AS x") == [{"x": 42}]


def gone(admin: Client, query_id: str, tries: int = 100) -> bool:
    """Whether the server stops running a query, within ten seconds."""
    for _ in range(tries):
        if not admin.execute("SELECT 1 FROM system.processes WHERE query_id = %(q)s", {"q": query_id}):
            return True
        time.sleep(0.1)
    return False
