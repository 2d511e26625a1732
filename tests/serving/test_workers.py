"""Processes that end under load, and several that serve one address."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil
import pytest

from endpoints.keys import KeyStore
from endpoints.lake.store import Store
from endpoints.settings import Settings
from endpoints.usage import read
from tests.serving.deployed import define, deployed, free_port, hello_project, until_it_is_so

RATES = {"ENDPOINTS_RATE": "1000000/minute", "ENDPOINTS_LIVE_RATE": "1000000/minute"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return hello_project(tmp_path)


@pytest.fixture
def key(project: Path) -> str:
    return KeyStore.open(Settings(project=project)).create("me", scopes=("run", "read"))[1]


def recorded(project: Path) -> int:
    """The runs in the lake."""
    now = datetime.now(UTC)
    store = Store(f"file://{project / 'lake'}")
    return read(store, now - timedelta(hours=1), now + timedelta(hours=1)).height


def workers_of(parent: subprocess.Popen[str]) -> list[int]:
    return sorted(
        child.pid
        for child in psutil.Process(parent.pid).children()
        if child.status() != psutil.STATUS_ZOMBIE and "spawn_main" in " ".join(child.cmdline())
    )


class Callers:
    """Threads that call without a pause, each request on a connection of its own or on one that is kept."""

    def __init__(self, url: str, key: str, count: int) -> None:
        self.statuses: Counter[int] = Counter()
        self.broken: list[str] = []  # answers that began and did not end
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._call, args=(url, key, number)) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _call(self, url: str, key: str, number: int) -> None:
        with httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=30) as client:
            for turn in range(100_000):
                name = f"{number}-{turn}" if turn % 2 else "known"
                try:
                    answer = client.get("/endpoints/hello/run", params={"name": name})
                except (httpx.ConnectError, httpx.ReadError, httpx.WriteError):
                    return  # nobody listens any more
                except httpx.RemoteProtocolError as error:
                    if "without sending a response" not in str(error):
                        self.broken.append(str(error))
                    return
                with self._lock:
                    self.statuses[answer.status_code] += 1


@pytest.mark.parametrize("workers", [1, 2])
def test_ending_under_load_finishes_what_runs_and_loses_no_usage(
    project: Path, key: str, workers: int
) -> None:
    slow = "(SELECT count() FROM numbers(20000000) WHERE number % 7 = 3)"
    define(project, "hello", f"SELECT 'hello ' || {{name:String}} AS greeting, {slow} AS n")
    port = free_port()
    with deployed(["endpoints.cli", "serve", "--workers", str(workers)], project, port, **RATES) as running:
        callers = Callers(f"http://127.0.0.1:{port}", key, 8)
        until_it_is_so(lambda: callers.statuses.total() > 24)
        running.send_signal(signal.SIGTERM)
        callers.join()
        said, _ = running.communicate(timeout=60)
    assert callers.broken == []
    assert set(callers.statuses) == {200}, said
    assert recorded(project) == callers.statuses[200]
    assert "Traceback" not in said


def test_every_worker_learns_what_changes(project: Path, key: str) -> None:
    """Definitions on SIGHUP to the parent, a revoked key, a snapshot; none of the workers ends for it."""
    port = free_port()
    with (
        deployed(["endpoints.cli", "serve", "--workers", "2"], project, port, **RATES) as running,
        httpx.Client(timeout=30) as client,
    ):
        url = f"http://127.0.0.1:{port}"
        before = workers_of(running)
        assert len(before) == 2

        def answers(path: str, secret: str = key) -> set[tuple[int, str]]:
            """What is answered over many connections, some of which end at either worker."""
            found = set()
            for _ in range(12):
                answer = client.get(f"{url}{path}", headers={"X-API-Key": secret, "Connection": "close"})
                rows = answer.json().get("results", [["-"]])
                found.add((answer.status_code, str(rows[0][0])))
            return found

        path = "/endpoints/hello/run?name=you"
        assert answers(path) == {(200, "hello you")}
        define(project, "hello", "SELECT 'bye ' || {name:String} AS greeting")
        running.send_signal(signal.SIGHUP)
        until_it_is_so(lambda: answers(path) == {(200, "bye you")})
        define(project, "hello", "SELECT broken {")
        running.send_signal(signal.SIGHUP)
        time.sleep(2)
        assert answers(path) == {(200, "bye you")}, "the last good form stays"
        keys = KeyStore.open(Settings(project=project))
        record, other = keys.create("other")
        assert answers(path, other) == {(200, "bye you")}
        keys.revoke(record.id)
        until_it_is_so(lambda: answers(path, other) == {(401, "-")})
        assert workers_of(running) == before


def test_metrics_are_of_all_workers(project: Path, key: str) -> None:
    """Whichever is scraped; and no count falls when one is killed, or another takes its place."""
    port = free_port()
    with (
        deployed(["endpoints.cli", "serve", "--workers", "2"], project, port, **RATES) as running,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Connection": "close"}) as client,
    ):
        sent = 0

        def run(count: int) -> None:
            """Each over a connection of its own, which may end at either worker."""
            nonlocal sent
            for number in range(count):
                answer = client.get(f"/endpoints/hello/run?name={number % 3}", headers={"X-API-Key": key})
                assert answer.status_code == 200
            sent += count

        def scraped() -> tuple[float, float, float]:
            """Runs by the counter and by the histogram, and requests without a key."""
            text = client.get("/metrics", headers={"X-API-Key": key}).text
            values = [line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#"]
            assert len({name for name, _ in values}) == len(values), "each series once"
            names = ("requests_total{", "request_seconds_count{", "unauthenticated_requests_total")
            counted = [
                sum(float(v) for series, v in values if series.startswith(f"endpoints_{name}"))
                for name in names
            ]
            return counted[0], counted[1], counted[2]

        run(40)
        for _ in range(12):
            client.get("/endpoints")
        until_it_is_so(lambda: scraped() == (40, 40, 12))
        assert {scraped() for _ in range(4)} == {(40, 40, 12)}
        before = workers_of(running)
        psutil.Process(before[0]).kill()
        until_it_is_so(lambda: len(workers_of(running)) == 2 and workers_of(running) != before)
        assert {scraped() for _ in range(4)} == {(40, 40, 12)}
        run(20)
        until_it_is_so(lambda: scraped() == (60, 60, 12))
        assert {scraped() for _ in range(4)} == {(60, 60, 12)}
