"""What callers get while something is down, over real parts: the table of docs/serving.md."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from clickhouse_driver import Client

from endpoints.settings import Settings
from endpoints.warehouse import open_warehouse
from serving.app import create_app
from tests.serving.conftest import CountingWarehouse, Running, Stand
from tests.serving.deployed import free_port
from tests.serving.proxy import Proxy

SQL = (
    "SELECT event, count() AS events, uniqExact(amount) AS amounts, '{name}' AS name FROM events"
    " WHERE customer_id = {{customer_id:String}} GROUP BY event ORDER BY event"
)
ACME_ROWS = [["click", 100000, 100000], ["view", 100000, 100000]]
OLD = timedelta(hours=5)
MATERIALIZE = "materialize: {schedule: hourly}"
LIMITS = "limits: {timeout: 2s}"
DEFINITIONS = {
    "fresh": f"{{freshness: 1h, cache: 0s, {MATERIALIZE}, {LIMITS}}}",
    "older": f"{{freshness: 1h, cache: 0s, {MATERIALIZE}, {LIMITS}}}",
    "none": f"{{freshness: 1h, cache: 0s, {MATERIALIZE}, {LIMITS}}}",
    "guarded": f"{{freshness: 1h, live_when: [], {MATERIALIZE}}}",
}
SOON = 15.0  # seconds: an answer that takes longer hangs


@dataclass
class Site:
    """A service whose ClickHouse is behind a proxy; `stand` publishes past it."""

    stand: Stand
    client: httpx.Client
    warehouse: Proxy
    server: Client  # as an operator of ClickHouse has it

    def get(self, name: str, **more: str) -> httpx.Response:
        began = time.monotonic()
        answer = self.client.get(f"/endpoints/{name}/run", params={"customer_id": "acme", **more})
        assert time.monotonic() - began < SOON, "it hangs"
        return answer


def told(answer: httpx.Response) -> tuple[object, ...]:
    """Status, source or code, reason, and why an older asset stands in."""
    body = answer.json()
    if answer.status_code == 200:
        assert [row[:3] for row in body["results"]] == ACME_ROWS
        return 200, body["source"], body["reason"], answer.headers.get("x-endpoint-live-error")
    assert answer.headers["retry-after"]
    assert answer.headers["cache-control"] == "no-store"
    return answer.status_code, body["code"], body.get("reason"), None


def project(folder: Path, versions: dict[str, str] = DEFINITIONS) -> Path:
    for name, version in versions.items():
        place = folder / "endpoint_defs" / name
        place.mkdir(parents=True)
        (place / "endpoint.yaml").write_text(f"current: 1\nversions: {{1: {version}}}\n")
        (place / "v1.sql").write_text(SQL.format(name=name))  # no two have the same bytes
    return folder


@pytest.fixture
def build(tmp_path: Path, clickhouse_url: str) -> Iterator[Callable[..., Site]]:
    port, database = urlsplit(clickhouse_url).port, f"faults_{os.getpid()}_{time.monotonic_ns()}"
    with ExitStack() as stack:
        operator = stack.enter_context(Client("127.0.0.1", port))
        operator.execute(f"CREATE DATABASE {database}")
        stack.callback(operator.execute, f"DROP DATABASE {database}")
        operator.execute(
            f"CREATE TABLE {database}.events ENGINE = Memory AS SELECT 'acme' AS customer_id,"
            " number % 2 ? 'view' : 'click' AS event, toInt64(number) AS amount FROM numbers(200000)"
        )
        proxy = Proxy(port)
        stack.callback(proxy.close)

        def make(lake_url: str = f"file://{tmp_path}/lake", **others: Any) -> Site:
            common: dict[str, Any] = {
                "project": project(tmp_path, others.pop("versions", DEFINITIONS)),
                "rate": "100000/minute",
                **others,
            }
            past = Settings(**{**common, "lake_url": lake_url}, clickhouse_url=f"{clickhouse_url}/{database}")
            warehouse = open_warehouse(past)
            stack.callback(warehouse.close)
            stand = Stand(past, CountingWarehouse(warehouse))
            for name in ("fresh", "guarded"):
                stand.publish(name)
            stand.publish("older", age=OLD)
            address = f"clickhouse://127.0.0.1:{proxy.port}/{database}"
            through = Settings(**{**common, "lake_url": lake_url}, clickhouse_url=address)
            running = Running(create_app(through))
            stack.callback(running.stop)
            stack.callback(proxy.become, "pass")
            client = httpx.Client(base_url=running.url, headers={"X-API-Key": stand.key}, timeout=25)
            site = Site(stand, stack.enter_context(client), proxy, operator)
            operator.execute(f"USE {database}")
            return site

        yield make


def down(site: Site) -> None:
    site.warehouse.become("refuse")


def slow(site: Site) -> None:
    site.warehouse.become("stall")


def refusing(site: Site) -> None:
    site.server.execute("DROP TABLE events")


@pytest.mark.parametrize(
    ("fault", "word", "outcomes"),
    [
        (down, "unavailable", {(503, "unavailable")}),
        (slow, "slow", {(503, "unavailable"), (504, "query_timeout")}),  # by whether it ever connected
        (refusing, "failed", {(503, "query_failed")}),
    ],
)
@pytest.mark.parametrize("warm", [True, False])
def test_clickhouse(
    build: Callable[..., Site],
    fault: Callable[[Site], None],
    word: str,
    outcomes: set[tuple[int, str]],
    warm: bool,
) -> None:
    site = build()
    if warm:  # there are connections, and columns are known
        assert told(site.get("none")) == (200, "live", "missing", None)
        assert told(site.get("older")) == (200, "live", "stale", None)
    fault(site)
    assert told(site.get("fresh")) == (200, "asset", None, None)
    assert told(site.get("guarded")) == (200, "asset", None, None)
    assert told(site.get("older")) == (200, "stale", "stale", word)
    assert told(site.get("none"))[:2] in outcomes
    if fault is not refusing:
        site.warehouse.become("pass")
        site.stand.until(lambda: site.get("none").status_code == 200)


def test_clickhouse_out_of_memory(build: Callable[..., Site]) -> None:
    tight = f"{{freshness: 1h, cache: 0s, {MATERIALIZE}, limits: {{max_memory: 1MiB}}}}"
    site = build(versions=dict.fromkeys(DEFINITIONS, tight))
    assert told(site.get("fresh")) == (200, "asset", None, None)
    assert told(site.get("older")) == (200, "stale", "stale", "over_limit")
    assert told(site.get("none")) == (503, "query_over_limit", None, None)


class TestS3:
    """The lake on S3, behind a proxy that tests take away or slow down; ClickHouse is well."""

    @pytest.fixture
    def lake(self, s3, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Proxy]]:
        proxy = Proxy(urlsplit(s3.env["AWS_ENDPOINT_URL"]).port)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        yield s3.url, proxy
        proxy.close()

    @pytest.mark.parametrize("mode", ["refuse", "stall"])
    def test_after_start(self, build: Callable[..., Site], lake: tuple[str, Proxy], mode) -> None:
        url, proxy = lake
        site = build(url, secret="s" * 32)
        assert told(site.get("fresh")) == (200, "asset", None, None)
        proxy.become(mode)
        for _ in range(2):
            assert told(site.get("fresh")) == (200, "asset", None, None), "there is a copy of its file here"
            assert told(site.get("guarded")) == (503, "no_asset", "corrupt", None), "nor copy nor live"
            assert told(site.get("older")) == (200, "live", "stale", None)
            assert told(site.get("none")) == (200, "live", "missing", None)
        site.warehouse.become("refuse")
        assert told(site.get("fresh")) == (200, "asset", None, None)
        assert told(site.get("older")) == (503, "unavailable", None, None)
        proxy.become("pass")
        site.stand.until(lambda: told(site.get("guarded")) == (200, "asset", None, None), 40)
        assert told(site.get("older")) == (200, "stale", "stale", "unavailable")


def test_the_folder_of_the_lake_is_gone(build: Callable[..., Site]) -> None:
    """Unmounted, say: that is no sign that anything was deleted. What is in memory answers."""
    site = build()
    assert told(site.get("fresh")) == (200, "asset", None, None)
    lake = Path(site.stand.settings.lake_url.removeprefix("file://"))
    away = lake.rename(lake.with_name("away"))
    assert told(site.get("fresh")) == (200, "asset", None, None)
    assert told(site.get("older")) == (200, "live", "stale", None)
    assert told(site.get("none")) == (200, "live", "missing", None)
    site.stand.until(lambda: site.client.get("/readyz").status_code == 503)
    away.rename(lake)
    site.stand.until(lambda: site.client.get("/readyz").status_code == 200)
    assert told(site.get("fresh")) == (200, "asset", None, None)
    assert told(site.get("guarded")) == (200, "asset", None, None)


def test_a_cache_folder_that_cannot_be_made(build: Callable[..., Site], s3, tmp_path: Path) -> None:
    """Nothing can be copied, spilled or journalled: live answers, and usage goes on from memory."""
    cache = tmp_path / "cache"
    cache.write_text("a file where the folder should be")
    site = build(s3.url, secret="s" * 32, cache_dir=cache)
    assert told(site.get("fresh")) == (200, "live", "corrupt", None)
    assert told(site.get("guarded")) == (503, "no_asset", "corrupt", None)
    assert told(site.get("none")) == (200, "live", "missing", None)
    cache.unlink()
    site.stand.until(lambda: told(site.get("fresh")) == (200, "asset", None, None))
    usage = "/endpoints/none/usage"
    site.stand.until(lambda: site.client.get(usage).json()["totals"]["requests"] == 1)


@pytest.mark.skipif(not shutil.which("redis-server"), reason="no redis-server")
def test_redis_goes_and_comes_back(build: Callable[..., Site], tmp_path: Path) -> None:
    port = free_port()

    @contextmanager
    def redis() -> Iterator[None]:
        command = ["redis-server", "--port", str(port), "--save", "", "--dir", str(tmp_path)]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            yield
        finally:
            running.kill()
            running.wait()

    def all_answer() -> None:
        assert told(site.get("fresh")) == (200, "asset", None, None)
        assert told(site.get("older")) == (200, "live", "stale", None)
        assert told(site.get("none")) == (200, "live", "missing", None)

    def shared() -> bool:
        """Whether Redis counts: without it each of the two workers has half of the rate."""
        return "q=100000;" in site.get("fresh").headers["ratelimit-policy"].split(",")[0]

    with redis():
        site = build(redis_url=f"redis://127.0.0.1:{port}", workers=2)
        site.stand.until(shared)
        all_answer()
    all_answer()
    site.stand.until(lambda: not shared())
    with redis():
        site.stand.until(shared, 30)
        all_answer()
