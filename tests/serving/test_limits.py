"""How often a caller may ask: windows, headers, what pays and what does not, with and without Redis."""

from __future__ import annotations

import logging
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.limits import SWEEP_ABOVE, Windows

ACME = {"customer_id": "acme"}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(
    st.integers(1, 20),
    st.integers(1, 60),
    st.lists(st.floats(0, 90, allow_nan=False), min_size=1, max_size=120),
)
def test_a_window_keeps_its_rate_and_says_when_to_come_back(amount: int, seconds: int, gaps: list) -> None:
    clock = Clock()
    windows = Windows(clock)
    allowed: list[float] = []
    for gap in gaps:
        clock.now += gap
        standing = windows.hit(("k",), amount, seconds)
        if standing.allowed:
            allowed.append(clock.now)
            assert 0 <= standing.left < amount
        else:
            assert 0 < standing.wait <= 2 * seconds
            clock.now += standing.wait + 1e-6
            assert windows.hit(("k",), amount, seconds).allowed
            allowed.append(clock.now)
    # Of any window's length: what a sliding counter can let through at worst, when the older ones came late.
    for first in allowed:
        assert sum(first <= at < first + seconds for at in allowed) <= 2 * amount


def test_an_edge_between_windows_gives_nobody_twice_the_rate() -> None:
    clock = Clock()
    windows = Windows(clock)
    windows.hit(("k",), 100, 60)
    clock.now = 59.0
    assert sum(windows.hit(("k",), 100, 60).allowed for _ in range(200)) == 99
    clock.now = 61.0
    assert sum(windows.hit(("k",), 100, 60).allowed for _ in range(200)) <= 2


def test_windows_that_ended_are_forgotten() -> None:
    clock = Clock()
    windows = Windows(clock)
    for number in range(SWEEP_ABOVE + 10):
        windows.hit((str(number),), 10, 60)
    clock.now = 300.0
    windows.hit(("one more",), 10, 60)
    assert len(windows) == 1


def test_every_answer_to_a_key_says_what_is_left(serve_with) -> None:
    _, start = serve_with(rate="50/minute", workers=1)
    client = start()
    answers = [
        client.get("/endpoints/numbers/run?n=1"),
        client.head("/endpoints/numbers/run?n=1"),
        client.post("/endpoints/numbers/run", json={"variables": {"n": 1}}),
        client.get("/endpoints/numbers/run?n=1", headers={"If-None-Match": "*"}),
        client.get("/endpoints/numbers/run?n=x"),
        client.get("/endpoints/nope/run"),
        client.get("/nowhere"),
        client.put("/endpoints/numbers/run"),
        client.get("/endpoints"),
        client.get("/openapi.json"),
        client.get("/readyz"),
    ]
    for spent, answer in enumerate(answers, start=1):
        assert f'"key";r={50 - spent};t=' in answer.headers["ratelimit"], answer.request.url
        assert '"key";q=50;w=60' in answer.headers["ratelimit-policy"]
    with httpx.Client(base_url=client.base_url) as anonymous:
        assert "ratelimit" not in anonymous.get("/endpoints").headers


def test_a_key_that_asks_too_often(serve_with) -> None:
    stand, start = serve_with()
    client = start()
    _, key = stand.keys.create("slow", rate="4/minute")
    headers = {"X-API-Key": key}
    answers = [client.get("/endpoints/numbers/run?n=1", headers=headers) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 4 + [429]
    refused = answers[-1]
    assert refused.json()["code"] == "rate_limited"
    assert 1 <= int(refused.headers["retry-after"]) <= 75
    assert '"key";r=0;' in refused.headers["ratelimit"]
    assert client.get("/endpoints", headers=headers).status_code == 429
    assert client.get("/endpoints").status_code == 200, "another key has its own rate"


def test_a_version_has_a_rate_for_each_key(serve_with) -> None:
    stand, start = serve_with()
    client = start()
    answers = [client.get(f"/endpoints/rated/run?n={n}") for n in range(4)]
    assert [answer.status_code for answer in answers] == [200] * 3 + [429]
    assert '"endpoint";q=3;w=60' in answers[0].headers["ratelimit-policy"]
    assert '"endpoint";r=0;' in answers[-1].headers["ratelimit"]
    assert client.get("/endpoints/numbers/run?n=1").status_code == 200
    _, other = stand.keys.create("other")
    assert client.get("/endpoints/rated/run?n=1", headers={"X-API-Key": other}).status_code == 200


def test_asking_past_the_cache_has_a_rate_of_its_own(serve_with) -> None:
    _, start = serve_with(refresh_rate="2/minute")
    client = start()
    asked = ["force", "direct", "force", "cache"]
    answers = [client.get(f"/endpoints/numbers/run?n=1&refresh={refresh}") for refresh in asked]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 200]


def test_only_what_starts_a_query_pays_the_live_rate(serve_with) -> None:
    stand, start = serve_with(live_rate="2/minute")
    client = start()
    ask = "/endpoints/numbers/run?n=7"
    stand.warehouse.open.clear()
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(client.get, ask) for _ in range(8)]
        stand.until(lambda: len(stand.warehouse.ran) == 1)
        stand.warehouse.open.set()
        answers = [one.result() for one in asked]
    assert [answer.status_code for answer in answers] == [200] * 8
    assert sum('"live"' in answer.headers["ratelimit"] for answer in answers) == 1, "the one that started it"
    assert client.get(ask).json()["is_cached"]
    assert client.get("/endpoints/numbers/run?n=8").status_code == 200
    spent = client.get("/endpoints/numbers/run?n=9")
    assert (spent.status_code, spent.json()["code"]) == (429, "live_rate_limited")
    assert int(spent.headers["retry-after"]) >= 1
    assert len(stand.warehouse.ran) == 2
    assert client.get(ask).status_code == 200, "a known answer needs no query"


def test_an_older_asset_answers_where_the_live_rate_is_spent(serve_with) -> None:
    stand, start = serve_with(live_rate="1/minute", live_wait=20.0)
    stand.publish("usage@2", age=timedelta(hours=5))
    client = start()
    assert client.get("/endpoints/numbers/run?n=1").status_code == 200
    answer = client.get("/endpoints/usage/run", params=ACME)
    assert (answer.status_code, answer.json()["source"]) == (200, "stale")
    assert answer.headers["x-endpoint-live-error"] == "rate"
    assert '"live";r=0;' in answer.headers["ratelimit"]


def test_workers_divide_what_they_cannot_share_and_say_so(serve_with, caplog) -> None:
    caplog.set_level(logging.WARNING, "serving.limits")
    _, start = serve_with(rate="40/minute", workers=4)
    answer = start().get("/endpoints")
    assert answer.headers["ratelimit-policy"] == '"key";q=10;w=60'
    assert "4 workers divide them by 4" in caplog.text


def test_processes_share_rates_in_redis(serve_with, redis_url: str, caplog) -> None:
    caplog.set_level(logging.WARNING, "serving.limits")
    stand, start = serve_with(redis_url=redis_url, workers=4)
    _, key = stand.keys.create("shared", rate="5/minute")
    one, two = start(key), start(key)
    answers = [client.get("/endpoints/numbers/run?n=1") for client in (one, two, one, two, one, two, one)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
    assert [_left(answer) for answer in answers] == [4, 3, 2, 1, 0, 0, 0]
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert "serving.limits" not in caplog.text, "nothing is divided"


@pytest.fixture
def own_redis(redis_url: str) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A Redis to stop and start: its URL, and a list whose last process runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running: list[subprocess.Popen[bytes]] = []
    yield f"redis://127.0.0.1:{port}", running
    for process in running:
        process.kill()
        process.wait()


def _run_redis(url: str, running: list[subprocess.Popen[bytes]]) -> None:
    port = int(url.rpartition(":")[2])
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
    end = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < end, "Redis did not start"
            time.sleep(0.02)


def test_redis_may_go_and_come_back(serve_with, own_redis, caplog, monkeypatch) -> None:
    monkeypatch.setattr("serving.limits.REDIS_AGAIN", 0.2)
    caplog.set_level(logging.WARNING, "serving.limits")
    url, running = own_redis
    stand, start = serve_with(redis_url=url, rate="10/minute", workers=2)
    client = start()
    away = [client.get("/endpoints/numbers/run?n=1") for _ in range(6)]
    assert [answer.status_code for answer in away] == [200] * 5 + [429]
    assert away[0].headers["ratelimit-policy"].startswith('"key";q=5;w=60'), "each of two workers has half"
    _run_redis(url, running)
    stand.until(lambda: '"key";q=10;w=60' in client.get("/endpoints").headers["ratelimit-policy"])
    running[-1].kill()
    running[-1].wait()
    statuses = {client.get("/endpoints").status_code for _ in range(20)}
    assert statuses <= {200, 429}
    said = [re.split("[,:]", record.getMessage())[0] for record in caplog.records if "rates" in record.msg]
    assert said == ["Redis is away", "Redis is back", "Redis is away"]


def test_a_redis_that_hangs_is_not_waited_for(serve_with, caplog) -> None:
    caplog.set_level(logging.WARNING, "serving.limits")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        _, start = serve_with(redis_url=f"redis://127.0.0.1:{silent.getsockname()[1]}", rate="3/minute")
        client = start()
        answers = [client.get("/endpoints/numbers/run?n=1") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200] * 3 + [429]
    assert caplog.text.count("Redis is away, rates are counted per process") == 1


def _left(answer: httpx.Response) -> int:
    found = re.search(r'"key";r=(\d+)', answer.headers["ratelimit"])
    assert found is not None
    return int(found[1])
