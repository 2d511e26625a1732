"""A project on disk, embedded ClickHouse over it, assets published through the lake, the app in front."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from endpoints.definition import Version, load_definitions
from endpoints.errors import WarehouseError
from endpoints.keys import KeyStore
from endpoints.lake.manifest import UNPARTITIONED, Server
from endpoints.lake.publish import Lake
from endpoints.query.plan import Plan, check_plan, make_plan
from endpoints.settings import Settings
from endpoints.types import Column
from endpoints.warehouse import open_warehouse
from endpoints.warehouse.protocol import Caps, Result, ServerInfo, Statement, Warehouse
from serving.app import create_app
from serving.protocol import BoundedHttp
from serving.service import Service

EVENTS = """\
customer_id,day,event,amount
acme,2026-01-01,click,3
acme,2026-01-01,view,1
acme,2026-01-02,click,7
acme,2026-01-02,click,4
bolt,2026-01-01,view,20
bolt,2026-01-03,view,9007199254740993
"""

USAGE_SQL = """\
SELECT day, event, count() AS events, sum(amount) AS total
FROM events
WHERE customer_id = {customer_id:String}
GROUP BY day, event
ORDER BY day, event
"""

TYPED_SQL = """\
SELECT {small:UInt8} AS small, {day:Date} AS day, {name:String} AS name, {ids:Array(UInt32)} AS ids,
    {price:Decimal(9, 2)} AS price, {maybe:Nullable(String)} AS maybe, {count:UInt8} AS count
"""

DEFINITIONS = {
    "usage": (
        """
description: Events a customer sent.
owner: growth@example.com
tags: [customers]
current: 2
versions:
  1: {deprecated: 2026-01-01, sunset: 2026-02-01, materialize: {schedule: daily}}
  2:
    variables: {customer_id: {description: A customer, example: acme, pattern: "^[a-z]+$"}}
    freshness: 1h
    materialize: {schedule: hourly}
    limits: {max_rows: 100}
  3: {deprecated: 2026-01-01, sunset: 2099-01-01, materialize: {schedule: hourly}}
""",
        {1: USAGE_SQL, 2: USAGE_SQL, 3: USAGE_SQL},
    ),
    "guarded": (
        """
description: Never live.
current: 1
versions:
  1: {freshness: 1h, live_when: [], materialize: {schedule: hourly}}
""",
        {1: USAGE_SQL},
    ),
    "careful": (
        """
description: Live only when nothing is there.
current: 1
versions:
  1: {freshness: 1h, live_when: [missing], materialize: {schedule: hourly}}
""",
        {1: USAGE_SQL},
    ),
    "since": (
        "current: 1\nversions: {1: {materialize: {schedule: hourly}}}\n",
        {
            1: "SELECT event, count() AS events, uniqExact(amount) AS amounts FROM events"
            " WHERE customer_id = {customer_id:String} AND day >= {since:Date} GROUP BY event ORDER BY event"
        },
    ),
    "recent": (
        """
current: 1
versions:
  1:
    variables: {since: {default: "today - 30d"}, customer_id: {default: acme}}
    freshness: 1h
    materialize: {schedule: hourly}
""",
        {
            1: "SELECT event, count() AS events FROM events WHERE customer_id = {customer_id:String}"
            " AND day >= {since:Date} GROUP BY event ORDER BY event"
        },
    ),
    "weekly": (
        "current: 1\nversions: {1: {variables: {since: {bucket: week}}, materialize: {schedule: hourly}}}\n",
        {
            1: "SELECT event, count() AS events FROM events"
            " WHERE day >= {since:Date} GROUP BY event ORDER BY event"
        },
    ),
    "numbers": (
        """
description: Live only.
current: 1
versions:
  1: {cache: 60s, limits: {max_rows: 1000, timeout: 5s}}
""",
        {1: "SELECT number, 'n' || toString(number) AS name FROM numbers({n:UInt32})"},
    ),
    "many": (
        "current: 1\nversions: {1: {limits: {max_rows: 30000}}}\n",
        {1: "SELECT number, 'n' || toString(number) AS name FROM numbers({n:UInt32})"},
    ),
    "typed": (
        """
description: One variable of every kind.
current: 1
versions:
  1:
    variables:
      maybe: {default: null}
      count: {default: 7}
    cache: 0s
""",
        {1: TYPED_SQL},
    ),
    "odd": (
        "current: 1\nversions: {1: {}}\n",
        {1: "SELECT 1 AS one, CAST(5 AS Variant(UInt8, String)) AS either"},
    ),
    "moment": (
        "current: 1\nversions: {1: {}}\n",
        {1: "SELECT toUnixTimestamp({at:DateTime}) AS at"},
    ),
    "slow": (
        """
description: Counts for long.
current: 1
versions:
  1: {cache: 60s, limits: {timeout: 20s}}
""",
        {1: "SELECT count() AS n FROM numbers(100000000000) WHERE number % 7 = {rest:UInt8}"},
    ),
    "impatient": (
        """
description: Times out.
current: 1
versions:
  1: {limits: {timeout: 1s}}
""",
        {1: "SELECT count() AS n FROM numbers(100000000000) WHERE number % 7 = {rest:UInt8}"},
    ),
    "failing": (
        """
description: Its query fails when it runs.
current: 1
versions:
  1: {cache: 60s}
""",
        {1: "SELECT throwIf(number = {at:UInt32}, 'a secret in the engine text') AS t FROM numbers(10)"},
    ),
    "say": (
        "current: 1\nversions: {1: {cache: 0s}}\n",
        {1: "SELECT {text:String} AS text"},
    ),
    "list": (
        "current: 1\nversions: {1: {cache: 0s}}\n",
        {
            1: "SELECT i, text FROM (SELECT arrayJoin(arrayEnumerate({texts:Array(String)})) AS i,"
            " ({texts:Array(String)})[i] AS text) ORDER BY i"
        },
    ),
    "wide": (
        "current: 1\nversions: {1: {limits: {max_rows: 50000}}}\n",
        {1: "SELECT number, repeat('x', 500) AS text FROM numbers({n:UInt32})"},
    ),
    "rated": (
        "current: 1\nversions: {1: {limits: {rate: 3/minute}}}\n",
        {1: "SELECT {n:UInt8} AS n"},
    ),
    "hidden": (
        """
description: Not for everyone.
current: 1
versions:
  1: {}
""",
        {1: "SELECT 1 AS one"},
    ),
    "broken": ("current: 1\nversions: {1: {freshnes: 1h}}\n", {1: "SELECT 1 AS one"}),
}


class CountingWarehouse:
    """The real warehouse, with what ran through it, a gate to hold queries at, and a switch to fail them."""

    def __init__(self, inner: Warehouse) -> None:
        self.inner = inner
        self.ran: list[Statement] = []
        self.open = threading.Event()
        self.open.set()
        self.error: WarehouseError | None = None
        self.timezone: str | None = None

    def server(self) -> ServerInfo:
        self._fail()
        info = self.inner.server()
        return replace(info, timezone=self.timezone or info.timezone)

    def describe(self, statement: Statement) -> tuple[Column, ...]:
        self._fail()
        return self.inner.describe(statement)

    def run(self, statement: Statement, caps: Caps, *, query_id: str | None = None) -> Result:
        self.ran.append(statement)
        self.open.wait(20)
        self._fail()
        return self.inner.run(statement, caps, query_id=query_id)

    def ping(self) -> None:
        self._fail()
        self.inner.ping()

    def close(self) -> None:
        """Shared by the tests of a session."""

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder: data and definitions."""
    root = tmp_path_factory.mktemp("project")
    (root / "data").mkdir()
    (root / "data" / "events.csv").write_text(EVENTS)
    for name, (yaml, queries) in DEFINITIONS.items():
        endpoint = root / "endpoint_defs" / name
        endpoint.mkdir(parents=True)
        (endpoint / "endpoint.yaml").write_text(yaml)
        for number, sql in queries.items():
            (endpoint / f"v{number}.sql").write_text(sql)
    return root


@pytest.fixture(scope="session")
def real_warehouse(folder: Path) -> Iterator[Warehouse]:
    warehouse = open_warehouse(Settings(project=folder))
    yield warehouse
    warehouse.close()


class Stand:
    """One service over one lake, and what a test needs to set its stage."""

    def __init__(self, settings: Settings, warehouse: CountingWarehouse) -> None:
        self.settings, self.warehouse = settings, warehouse
        self.lake = Lake.open(settings)
        self.definitions = load_definitions(settings.defs)
        self.keys = KeyStore.open(settings)
        _, self.key = self.keys.create("everything", scopes=("run", "read", "admin"))
        self.prepare: list[Callable[[Service], None]] = []  # what is to be done with a service that opens
        self.services: list[Service] = []

    @property
    def app(self) -> Any:
        return create_app(self.settings, open_service=self._open)

    def _open(self, settings: Settings) -> Service:
        service = Service.open(settings, warehouse=self.warehouse)
        for prepare in self.prepare:
            prepare(service)
        self.services.append(service)
        return service

    def version(self, key: str) -> Version:
        return self.definitions.version(key)

    def publish(
        self,
        key: str,
        *,
        age: timedelta = timedelta(),
        where: str = "1",
        source_max: datetime | None = None,
    ) -> None:
        """Materialize a version by its plan and publish what of it fits `where`, as if `age` ago."""
        version = self.version(key)
        plan = make_plan(version)
        assert isinstance(plan, Plan), plan
        plan = check_plan(plan, version, self.warehouse.inner)
        assert isinstance(plan, Plan), plan
        sql = f"SELECT * FROM ({plan.materialize_sql}) WHERE {where}"
        sql = plan.materialize_sql if where == "1" else sql
        attempt = self.lake.begin(
            version.endpoint, version.number, fingerprint=version.fingerprint, run_id="run-1"
        )
        with self.warehouse.inner.run(Statement(sql), Caps(None, None, None)) as result:
            columns = result.columns
            with attempt.writer(UNPARTITIONED, columns, sort=[d.column for d in plan.seek]) as writer:
                for batch in result:
                    writer.write(batch)
                files = writer.close()
        info = self.warehouse.inner.server()
        entry = attempt.entry(files, columns, as_of=datetime.now(UTC) - age, source_max=source_max)
        attempt.publish({UNPARTITIONED: entry}, Server(info.version, info.timezone))

    def fail(self, key: str, outcome: Any, *, unservable: bool = False) -> None:
        """End an attempt at a version without data."""
        version = self.version(key)
        attempt = self.lake.begin(
            version.endpoint, version.number, fingerprint=version.fingerprint, run_id="run-2"
        )
        attempt.fail(outcome, "secret operator text", unservable=unservable)

    def files(self, key: str) -> list[Path]:
        """The published files of a version."""
        version = self.version(key)
        lake = Path(self.settings.lake_url.removeprefix("file://"))
        return sorted((lake / "endpoints" / version.endpoint / f"v{version.number}").rglob("*.parquet"))

    def until(self, met: Callable[[], bool], seconds: float = 15) -> None:
        """Wait for what happens in the background."""
        end = time.monotonic() + seconds
        while not met():
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.02)


def make_stand(
    folder: Path, warehouse: Warehouse, place: Path, *, live_wait: float = 0.3, **others: Any
) -> Stand:
    settings = Settings(
        project=folder,
        lake_url=f"file://{place}/lake",
        cache_dir=place / "cache",
        cors_origins=("https://app.example.com",),
        live_concurrency=2,
        live_queue=2,
        live_wait=timedelta(seconds=live_wait),
        **{**dict.fromkeys(("rate", "subject_rate", "live_rate", "refresh_rate"), "100000/minute"), **others},
    )
    return Stand(settings, CountingWarehouse(warehouse))


class Running:
    """uvicorn over a socket, in a thread of this process."""

    def __init__(self, app: Any, http: type[BoundedHttp] = BoundedHttp) -> None:
        config = uvicorn.Config(
            app,
            port=0,
            access_log=False,
            log_config=None,
            timeout_graceful_shutdown=5,
            http=http,
            ws="none",
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive(), "the service did not start"
            time.sleep(0.005)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join()


Start = Callable[..., httpx.Client]


def starter(stand: Stand, stack: ExitStack) -> Start:
    """Starts services over the lake as it is then; their clients send a key that may do everything."""

    def start(key: str | None = None) -> httpx.Client:
        running = Running(stand.app)
        stack.callback(running.stop)
        stack.callback(stand.warehouse.open.set)
        headers = {"X-API-Key": key or stand.key}
        return stack.enter_context(httpx.Client(base_url=running.url, headers=headers, timeout=30))

    return start


@pytest.fixture
def stand(folder: Path, real_warehouse: Warehouse, tmp_path: Path) -> Stand:
    return make_stand(folder, real_warehouse, tmp_path)


@pytest.fixture
def impatient(folder: Path, real_warehouse: Warehouse, tmp_path: Path) -> Stand:
    """Where an older asset could answer, nobody waits for live."""
    return make_stand(folder, real_warehouse, tmp_path, live_wait=0)


@pytest.fixture
def serve_impatient(impatient: Stand) -> Iterator[Start]:
    with ExitStack() as stack:
        yield starter(impatient, stack)


@pytest.fixture
def serve(stand: Stand) -> Iterator[Start]:
    with ExitStack() as stack:
        yield starter(stand, stack)


@pytest.fixture
def serve_with(
    folder: Path, real_warehouse: Warehouse, tmp_path: Path
) -> Iterator[Callable[..., tuple[Stand, Start]]]:
    """Services over one lake, each with settings of its own."""
    with ExitStack() as stack:

        def make(**others: Any) -> tuple[Stand, Start]:
            stand = make_stand(folder, real_warehouse, tmp_path, **others)
            return stand, starter(stand, stack)

        yield make


@pytest.fixture(scope="module")
def shared_stand(folder: Path, real_warehouse: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Stand:
    """For modules that change nothing: one service for all of their tests."""
    return make_stand(folder, real_warehouse, tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="module")
def client(shared_stand: Stand) -> Iterator[httpx.Client]:
    with ExitStack() as stack:
        yield starter(shared_stand, stack)()


@pytest.fixture
def ran(shared_stand: Stand) -> list[Statement]:
    """What has run in ClickHouse since the test began."""
    shared_stand.warehouse.ran.clear()
    return shared_stand.warehouse.ran
