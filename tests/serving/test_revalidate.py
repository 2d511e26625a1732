"""`stale_while_revalidate`: what there is answers at once; one live run makes what the next callers get."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from endpoints.errors import WarehouseUnavailable
from endpoints.warehouse.protocol import Warehouse
from tests.serving.conftest import USAGE_SQL, Stand, Start, make_stand, starter
from tests.serving.deployed import define

OLD = timedelta(hours=5)  # past freshness, within the window
ANCIENT = timedelta(days=2)  # past both
RUN = "/endpoints/prompt/run?customer_id=acme"
ASSET = "freshness: 1h, stale_while_revalidate: 1d, materialize: {schedule: hourly}"
DEFINITIONS = {
    "prompt": f"{{{ASSET}}}",
    "brief": f"{{{ASSET}, cache: 0s}}",
    "live": "{cache: 0s, stale_while_revalidate: 1h}",
}


@pytest.fixture
def stand(real_warehouse: Warehouse, tmp_path: Path) -> Stand:
    """Where an older asset could answer, callers would wait for long."""
    for name, version in DEFINITIONS.items():
        define(tmp_path, name, USAGE_SQL, f"current: 1\nversions: {{1: {version}}}\n")
    return make_stand(tmp_path, real_warehouse, tmp_path, live_wait=600)


@pytest.fixture
def serve(stand: Stand) -> Iterator[Start]:
    with ExitStack() as stack:
        yield starter(stand, stack)


def source(answer: httpx.Response) -> tuple[str, bool, str | None]:
    body = answer.json()
    assert answer.status_code == 200, body
    return body["source"], body["is_cached"], answer.headers.get("x-endpoint-live-error")


def test_a_stale_asset_answers_at_once_and_the_next_callers_get_the_live_result(stand, serve: Start) -> None:
    stand.publish("prompt", age=OLD)
    client = serve()
    stand.warehouse.open.clear()
    with ThreadPoolExecutor(8) as pool:
        early = list(pool.map(client.get, [RUN] * 40))
    assert {source(answer) for answer in early} == {("stale", False, None)}
    assert {answer.headers["cache-control"] for answer in early} == {"private, no-cache"}
    assert {answer.json()["reason"] for answer in early} == {"stale"}
    held = client.get(RUN, headers={"If-None-Match": early[0].headers["etag"]})
    assert (held.status_code, held.headers["x-endpoint-source"]) == (304, "stale")
    stand.warehouse.open.set()
    stand.until(lambda: source(client.get(RUN)) == ("live", True, None))
    assert len(stand.warehouse.ran) == 1
    assert client.get(RUN).json()["results"] == early[0].json()["results"]


@pytest.mark.parametrize("outcome", ["failed", "breached"])
def test_whatever_is_wrong_with_the_newer_asset(stand, serve: Start, outcome: str) -> None:
    stand.publish("prompt", age=OLD)
    stand.fail("prompt", outcome)
    client = serve()
    stand.warehouse.open.clear()
    answer = client.get(RUN)
    assert (source(answer), answer.json()["reason"]) == (("stale", False, None), outcome)


@pytest.mark.parametrize("age", [None, ANCIENT])
def test_past_the_window_callers_wait(stand, serve: Start, age: timedelta | None) -> None:
    if age is not None:
        stand.publish("prompt", age=age)
    assert source(serve().get(RUN)) == ("live", False, None)


def test_who_asks_for_a_fresh_result_waits_for_it(stand, serve: Start) -> None:
    stand.publish("prompt", age=OLD)
    client = serve()
    for how in ("force", "direct"):
        assert source(client.get(f"{RUN}&refresh={how}")) == ("live", False, None)


def test_files_that_cannot_be_read_are_waited_for(stand, serve: Start) -> None:
    stand.publish("prompt", age=OLD)
    stand.files("prompt")[0].write_bytes(b"not parquet")
    assert source(serve().get(RUN)) == ("live", False, None)


def test_a_live_result_past_its_cache_is_shown_while_a_new_one_is_made(stand, serve: Start) -> None:
    client = serve()
    url = "/endpoints/live/run?customer_id=acme"
    first = client.get(url)
    assert source(first) == ("live", False, None)
    stand.warehouse.open.clear()
    again = client.get(url)
    assert source(again) == ("live", True, None)
    assert again.json()["execution_id"] == first.json()["execution_id"]
    assert (again.headers["cache-control"], "age" in again.headers) == ("private, no-cache", True)
    stand.warehouse.open.set()
    stand.until(lambda: client.get(url).json()["execution_id"] != first.json()["execution_id"])


def test_no_caller_goes_back_in_time(stand, serve: Start) -> None:
    """Once there is a live result the older asset is not shown again."""
    stand.publish("brief", age=OLD)
    client = serve()
    url = "/endpoints/brief/run?customer_id=acme"
    assert source(client.get(url))[0] == "stale"
    stand.until(lambda: client.get(url).json()["source"] == "live")
    seen = [client.get(url).json() for _ in range(20)]
    assert {body["source"] for body in seen} == {"live"}
    times = [body["last_refresh"] for body in seen]
    assert times == sorted(times)


def test_what_cannot_be_revalidated_says_why(stand, serve: Start) -> None:
    stand.publish("prompt", age=OLD)
    client = serve()
    assert source(client.get("/endpoints/live/run?customer_id=acme"))[0] == "live"
    stand.warehouse.error = WarehouseUnavailable("down: secret")

    def told(url: str) -> tuple[str, bool, str | None]:
        return source(client.get(url))

    assert told(RUN) == ("stale", False, None), "nobody has waited for it"
    stand.until(lambda: told(RUN) == ("stale", False, "breaker"))
    assert told("/endpoints/live/run?customer_id=acme") == ("live", True, "breaker")


def test_a_refresh_is_paid_for(stand, serve: Start) -> None:
    stand.settings = stand.settings.model_copy(update={"live_rate": "1/minute"})
    client = serve()
    url = "/endpoints/live/run?customer_id=acme"
    assert source(client.get(url)) == ("live", False, None)
    assert source(client.get(url)) == ("live", True, "rate")
    assert len(stand.warehouse.ran) == 1


def test_replicas_get_it_too(stand, serve: Start, redis_url: str) -> None:
    stand.settings = stand.settings.model_copy(update={"redis_url": redis_url})
    stand.publish("prompt", age=OLD)
    one, other = serve(), serve()
    assert source(one.get(RUN))[0] == "stale"
    for replica in (one, other):
        stand.until(lambda replica=replica: source(replica.get(RUN)) == ("live", True, None))
    assert len(stand.warehouse.ran) == 1
