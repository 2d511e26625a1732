"""Replicas with one Redis: one of them asks ClickHouse, the others take its rows."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from serving import shared as shared_runs
from serving import shared_results

Serve = Callable[..., httpx.Client]
URL = "/endpoints/typed/run?small=1&day=2026-01-01&name=%C3%A9&ids=1&ids=2&price=1.5"


def shared(stand, url: str) -> None:
    stand.settings = stand.settings.model_copy(update={"redis_url": url})


def test_one_of_three_replicas_asks(stand, serve: Serve, redis_url: str) -> None:
    shared(stand, redis_url)
    replicas = [serve() for _ in range(3)]
    stand.warehouse.open.clear()
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(replica.get, URL) for replica in replicas]
        stand.until(lambda: len(stand.warehouse.ran) == 1)
        stand.until(lambda: all(service.live.unfinished for service in stand.services))
        stand.warehouse.open.set()
        answers = [one.result() for one in asked]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1  # the same run, types and all
    assert len(stand.warehouse.ran) == 1


def test_a_result_is_reused_by_a_replica_that_starts_later(stand, serve: Serve, redis_url: str) -> None:
    shared(stand, redis_url)
    first = serve().get("/endpoints/numbers/run?n=3").json()
    later = serve()
    answer = later.get("/endpoints/numbers/run?n=3")
    assert (answer.json()["results"], answer.json()["is_cached"]) == (first["results"], True)
    assert answer.json()["execution_id"] == first["execution_id"]
    assert int(answer.headers["age"]) >= 0
    assert len(stand.warehouse.ran) == 1
    forced = later.get("/endpoints/numbers/run?n=3&refresh=force").json()
    assert (forced["is_cached"], len(stand.warehouse.ran)) == (False, 2)


def test_whoever_asks_may_leave_and_another_replica_goes_on(stand, serve: Serve, redis_url: str) -> None:
    shared(stand, redis_url)
    one, other = serve(), serve()
    stand.warehouse.open.clear()
    leaver = socket.create_connection((one.base_url.host, one.base_url.port))
    key = one.headers["X-API-Key"]
    leaver.sendall(f"GET {URL} HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n".encode())
    stand.until(lambda: len(stand.warehouse.ran) == 1)
    with ThreadPoolExecutor(1) as pool:
        stayer = pool.submit(other.get, URL)
        stand.until(lambda: stand.services[1].live.unfinished == 1)
        leaver.close()
        stand.until(lambda: not stand.services[0].live._runs)  # it is known that nobody waits
        stand.warehouse.open.set()
        assert stayer.result().status_code == 200
    assert len(stand.warehouse.ran) == 2


def test_without_redis_each_asks_for_itself(stand, serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, says nothing
        shared(stand, f"redis://127.0.0.1:{silent.getsockname()[1]}")
        for replica in (serve(), serve()):
            assert replica.get("/endpoints/numbers/run?n=2").json()["results"] == [[0, "n0"], [1, "n1"]]
    assert len(stand.warehouse.ran) == 2


SINCE = "/endpoints/since/run?customer_id=acme&since=2026-01-01"
EVERYTHING, NOTHING = 0.0, 1e9  # seconds from which on an answer is worth sharing


def test_answers_that_take_long_are_made_once(stand, serve: Serve, redis_url: str, monkeypatch) -> None:
    monkeypatch.setattr(shared_results, "WORTH", EVERYTHING)
    shared(stand, redis_url)
    stand.publish("since")
    one, other = serve(), serve()
    first = one.get(SINCE)
    assert first.json()["source"] == "asset"
    stand.until(lambda: not stand.services[0].shared_results._writes)
    again = other.get(SINCE)
    assert again.content == first.content
    same = ("etag", "content-type", "x-endpoint-source", "cache-control", "last-modified")
    assert [again.headers[name] for name in same] == [first.headers[name] for name in same]
    assert stand.services[1].assets.held_bytes == 0, "it has read nothing"
    assert other.get(SINCE, headers={"If-None-Match": first.headers["etag"]}).status_code == 304
    for more in ("&refresh=force", "&debug=true"):
        assert other.get(SINCE + more).json()["results"] == first.json()["results"]
    assert stand.services[1].assets.held_bytes > 0
    stand.publish("since", where="0")
    for replica in (one, other):
        stand.until(lambda replica=replica: replica.get(SINCE).json()["results"] == [])


def test_a_shared_page_holds_nobody_elses_cursor(stand, serve: Serve, redis_url: str, monkeypatch) -> None:
    monkeypatch.setattr(shared_results, "WORTH", EVERYTHING)
    shared(stand, redis_url)
    stand.publish("usage@2")
    page = "/endpoints/usage/run?customer_id=acme&limit=1"
    mine, theirs = serve(), serve(stand.keys.create("they")[1])
    cursor = mine.get(page).json()["nextCursor"]
    stand.until(lambda: not stand.services[0].shared_results._writes)
    other = theirs.get(page).json()["nextCursor"]
    assert other != cursor
    assert theirs.get(f"{page}&cursor={other}").status_code == 200
    assert theirs.get(f"{page}&cursor={cursor}").status_code == 400


def test_what_is_made_quickly_is_not_asked_for(stand, serve: Serve, redis_url: str, monkeypatch) -> None:
    monkeypatch.setattr(shared_results, "WORTH", NOTHING)
    shared(stand, redis_url)
    stand.publish("since")
    client = serve()
    timings = [client.get(f"{SINCE}&limit={n}").headers["server-timing"] for n in (5, 6, 7)]
    assert ["shared;" in timing for timing in timings] == [True, False, False]


@pytest.mark.parametrize("blob", [b"", b"\x00\x00\x00\x02{}", b"\xff" * 9])
def test_what_is_no_answer_is_a_miss(stand, serve: Serve, redis_url: str, monkeypatch, blob: bytes) -> None:
    monkeypatch.setattr(shared_results, "WORTH", EVERYTHING)
    monkeypatch.setattr(shared_results, "_written", lambda answer: blob)
    shared(stand, redis_url)
    stand.publish("since")
    first = serve().get(SINCE)
    stand.until(lambda: not stand.services[0].shared_results._writes)
    assert serve().get(SINCE).content == first.content


@pytest.mark.parametrize("blob", [b"", b"\x00\x00\x00\x02{}", b"\xff" * 9])
def test_what_is_no_live_result_is_a_miss(stand, serve: Serve, redis_url: str, monkeypatch, blob) -> None:
    monkeypatch.setattr(shared_runs, "_written", lambda rows, token: blob)
    shared(stand, redis_url)
    for replica in (serve(), serve()):
        assert replica.get("/endpoints/numbers/run?n=2").json()["results"] == [[0, "n0"], [1, "n1"]]
    assert len(stand.warehouse.ran) == 2


def test_without_redis_answers_are_made(stand, serve: Serve) -> None:
    stand.publish("since")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        shared(stand, f"redis://127.0.0.1:{silent.getsockname()[1]}")
        for replica in (serve(), serve()):
            assert replica.get(SINCE).json()["source"] == "asset"
