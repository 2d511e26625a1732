"""Live runs: one per question, few at a time, whole before the first byte, stopped when nobody waits."""

from __future__ import annotations

import asyncio
import resource
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx

Serve = Callable[..., httpx.Client]


def get_many(client: httpx.Client, url: str, count: int) -> list[httpx.Response]:
    async def all_at_once() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=count)
        async with httpx.AsyncClient(
            base_url=client.base_url, headers=client.headers, limits=limits, timeout=30
        ) as many:
            return await asyncio.gather(*(many.get(url) for _ in range(count)))

    return asyncio.run(all_at_once())


def test_fifty_identical_requests_are_one_query(stand, serve: Serve) -> None:
    client = serve()
    stand.warehouse.open.clear()
    threading.Timer(1.0, stand.warehouse.open.set).start()
    answers = get_many(client, "/endpoints/usage/run?customer_id=acme", 50)
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["execution_id"] for answer in answers} == {answers[0].json()["execution_id"]}
    assert len(stand.warehouse.ran) == 1


def test_a_thousand_identical_requests_on_a_stale_endpoint_are_one_query(stand, serve: Serve) -> None:
    """A socket for each, all of them open at once."""
    stand.publish("usage@2", age=timedelta(hours=5))
    stand.settings = stand.settings.model_copy(update={"live_wait": timedelta(seconds=60)})
    client = serve()
    stand.warehouse.open.clear()
    key, address = client.headers["X-API-Key"], (client.base_url.host, client.base_url.port)
    request = f"GET /endpoints/usage/run?customer_id=acme HTTP/1.0\r\nX-API-Key: {key}\r\n\r\n".encode()

    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(request)
        try:
            return await reader.read()
        finally:
            writer.close()

    async def ask_all() -> list[bytes]:
        asked = [asyncio.create_task(ask()) for _ in range(1000)]
        live = stand.services[0].live
        while live.joined < 999:
            await asyncio.sleep(0.02)
        stand.warehouse.open.set()
        return await asyncio.gather(*asked)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    answers = asyncio.run(ask_all())
    assert {answer.partition(b"\r\n")[0] for answer in answers} == {b"HTTP/1.1 200 OK"}
    assert len({answer.partition(b"\r\n\r\n")[2] for answer in answers}) == 1
    assert len(stand.warehouse.ran) == 1


def test_other_values_pages_and_versions_are_other_questions(stand, serve: Serve) -> None:
    client = serve()
    for query in (
        "customer_id=acme",
        "customer_id=bolt",
        "customer_id=acme&limit=1",
        "customer_id=acme&offset=1",
    ):
        for version in (2, 3):
            assert client.get(f"/endpoints/usage/run?{query}&version={version}").json()["is_cached"] is False
    assert len(stand.warehouse.ran) == 8


def test_formats_share_one_result(stand, serve: Serve) -> None:
    client = serve()
    client.get("/endpoints/usage/run?customer_id=acme")
    csv = client.get("/endpoints/usage/run?customer_id=acme&format=csv")
    assert csv.text.startswith("day,event,events,total\r\n2026-01-01,click,1,3\r\n")
    assert int(csv.headers["age"]) >= 0
    assert len(stand.warehouse.ran) == 1
    client.get("/endpoints/usage/run?customer_id=acme&refresh=force")
    assert len(stand.warehouse.ran) == 2


def test_without_a_cache_every_request_runs(stand, serve: Serve) -> None:
    client = serve()
    url = "/endpoints/typed/run?small=1&day=2026-01-01&name=n&ids=1&price=1"
    assert [client.get(url).json()["is_cached"] for _ in range(2)] == [False, False]
    assert client.get(url).headers["cache-control"] == "private, no-cache"
    assert len(stand.warehouse.ran) == 3


def test_a_full_queue_says_when_to_come_back(stand, serve: Serve) -> None:
    """Two run, two wait: the fifth different question has no place."""
    client = serve()
    stand.warehouse.open.clear()
    with ThreadPoolExecutor(4) as pool:
        early = [pool.submit(client.get, f"/endpoints/numbers/run?n={n}") for n in range(1, 5)]
        stand.until(lambda: len(stand.warehouse.ran) == 2)
        time.sleep(0.3)  # the other two are on their way into the queue
        late = client.get("/endpoints/numbers/run?n=5")
        assert (late.status_code, late.json()["code"]) == (503, "live_queue_full")
        assert late.headers["retry-after"] == "1"
        stand.warehouse.open.set()
        assert [len(future.result().json()["results"]) for future in early] == [1, 2, 3, 4]


def test_no_more_run_than_embedded_clickhouse_has_workers(stand, serve: Serve) -> None:
    """Whoever would wait for a worker waits in the queue, and hears of that when it is over."""
    stand.settings = stand.settings.model_copy(update={"embedded_workers": 1, "live_queue": 0})
    client = serve()
    stand.warehouse.open.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.get, "/endpoints/numbers/run?n=1")
        stand.until(lambda: len(stand.warehouse.ran) == 1)
        second = pool.submit(client.get, "/endpoints/numbers/run?n=2")
        stand.until(lambda: second.done() or len(stand.warehouse.ran) == 2)
        stand.warehouse.open.set()
        assert (second.result().status_code, second.result().json()["code"]) == (503, "live_queue_full")
        assert second.result().headers["retry-after"] == "1"
        assert first.result().status_code == 200


def hang_up(client: httpx.Client, path: str) -> socket.socket:
    """A request whose caller can go without reading the answer."""
    connection = socket.create_connection((client.base_url.host, client.base_url.port))
    key = client.headers["X-API-Key"]
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n".encode())
    return connection


def test_the_query_stops_when_every_caller_has_gone(stand, serve: Serve) -> None:
    client = serve()
    first = hang_up(client, "/endpoints/slow/run?rest=3")
    second = hang_up(client, "/endpoints/slow/run?rest=3")
    stand.until(lambda: len(stand.warehouse.ran) == 1)
    first.close()
    time.sleep(0.5)
    begun = time.monotonic()
    second.close()
    # Both places are free again long before the query's own 20 seconds are over.
    for rest in (4, 5):
        left = hang_up(client, f"/endpoints/slow/run?rest={rest}")
        stand.until(lambda rest=rest: len(stand.warehouse.ran) == rest - 2)
        left.close()
    stand.until(lambda: client.get("/endpoints/numbers/run?n=1").status_code == 200)
    assert time.monotonic() - begun < 15


def test_one_caller_leaving_does_not_stop_the_others(stand, serve: Serve) -> None:
    client = serve()
    stand.warehouse.open.clear()
    leaver = hang_up(client, "/endpoints/numbers/run?n=3")
    stand.until(lambda: len(stand.warehouse.ran) == 1)
    with ThreadPoolExecutor(1) as pool:
        stayer = pool.submit(client.get, "/endpoints/numbers/run?n=3")
        time.sleep(0.2)
        leaver.close()
        time.sleep(0.2)
        stand.warehouse.open.set()
        assert stayer.result().json()["results"] == [[0, "n0"], [1, "n1"], [2, "n2"]]
    assert len(stand.warehouse.ran) == 1


def test_a_page_of_a_large_result(stand, serve: Serve) -> None:
    answer = serve().get("/endpoints/numbers/run?n=3000000&limit=3&offset=2").json()
    assert answer["results"] == [[2, "n2"], [3, "n3"], [4, "n4"]]
    assert answer["hasMore"] is True
    assert stand.warehouse.ran[0].sql.endswith(" LIMIT 6")  # ClickHouse need not sort what nobody asked for


def test_pages_fit_together_and_say_whether_more_follows(stand, serve: Serve) -> None:
    client = serve()
    pages = [client.get(f"/endpoints/numbers/run?n=5&limit=2&offset={at}").json() for at in (0, 2, 4, 6)]
    assert [row[0] for page in pages for row in page["results"]] == [0, 1, 2, 3, 4]
    assert [page["hasMore"] for page in pages] == [True, True, False, False]
    whole = client.get("/endpoints/numbers/run?n=1001").json()
    assert (len(whole["results"]), whole["hasMore"], whole["limit"]) == (1000, True, 1000)
    exact = client.get("/endpoints/numbers/run?n=1000").json()
    assert (len(exact["results"]), exact["hasMore"]) == (1000, False)


def test_times_without_a_zone_are_the_warehouses(stand, serve: Serve) -> None:
    stand.warehouse.timezone = "Asia/Tokyo"
    client = serve()
    for _ in range(2):
        answer = client.get("/endpoints/moment/run?at=2026-01-01T09:00:00&refresh=force")
        assert answer.json()["results"] == [[1767225600]]  # midnight in UTC


def test_no_patience_at_all_is_stale_while_revalidating(impatient, serve_impatient: Serve) -> None:
    impatient.publish("usage@2", age=timedelta(hours=5))
    client = serve_impatient()
    impatient.warehouse.open.clear()
    answer = client.get("/endpoints/usage/run?customer_id=acme")
    assert (answer.json()["source"], answer.headers["x-endpoint-live-error"]) == ("stale", "slow")
