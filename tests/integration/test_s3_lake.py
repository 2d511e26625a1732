"""A project whose lake and keys are in S3: materialized by Dagster's own asset, served, damaged, replaced."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn

from endpoints.keys import KeyStore
from endpoints.lake.publish import Lake
from endpoints.settings import Settings, load_settings
from serving.app import create_app

SALES = "shop,item,amount\nnorth,tea,3\nnorth,tea,4\nsouth,tea,5\nnorth,jam,9007199254740993\n"
SQL = """\
SELECT item, count() AS orders, sum(amount) AS total
FROM sales
WHERE shop = {shop:String}
GROUP BY item
ORDER BY item
"""
NORTH = [["jam", 1, 9007199254740993], ["tea", 2, 7]]

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(s3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The project's settings, all of them from its `.env`."""
    for name in s3.env:
        monkeypatch.delenv(name)
    lines = {"ENDPOINTS_LAKE_URL": s3.url, "ENDPOINTS_SECRET": "s" * 32, **s3.env}
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/sales.csv").write_text(SALES)
    endpoint = tmp_path / "endpoint_defs/sales"
    endpoint.mkdir(parents=True)
    (endpoint / "v1.sql").write_text(SQL)
    (endpoint / "endpoint.yaml").write_text("current: 1\nversions: {1: {materialize: {schedule: hourly}}}\n")
    monkeypatch.chdir(tmp_path)
    return load_settings()


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    _, key = KeyStore.open(settings).create("test")
    with serving(settings, key) as client:
        yield client


@contextmanager
def serving(settings: Settings, key: str) -> Iterator[httpx.Client]:
    """A server of its own, over HTTP."""
    server = uvicorn.Server(uvicorn.Config(create_app(settings), port=0, log_level="warning", lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"X-API-Key": key}) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


def materialize() -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "orchestration.run", "sales", "--json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def ask(client: httpx.Client) -> dict[str, object]:
    answer = client.get("/endpoints/sales/run", params={"shop": "north"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"] == NORTH
    return answer.json()


def ask_until(client: httpx.Client, source: str) -> dict[str, object]:
    """Asks until the answer comes from there; a publish is seen within seconds."""
    deadline = time.monotonic() + 60
    while (answer := ask(client))["source"] != source:
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)
    return answer


def test_a_lake_in_s3_from_a_query_to_an_answer(client: httpx.Client, settings: Settings) -> None:
    before = ask(client)
    assert (before["source"], before["reason"]) == ("live", "missing")
    first = materialize()
    assert (first["outcome"], first["snapshot"]) == ("published", 1)
    assert ask_until(client, "asset")["reason"] is None
    copies = list((settings.cache_dir / "files").iterdir())
    assert len(copies) == 1, "the asset was read from a local copy"

    lake = Lake.open(settings)
    head = lake.head("sales", 1)
    assert head is not None
    (file,) = head.files
    body = lake.store.get(f"endpoints/sales/v1/{file.path}") or b""
    lake.store.put(f"endpoints/sales/v1/{file.path}", body[:-1] + bytes([body[-1] ^ 1]))
    copies[0].unlink()
    with serving(settings, client.headers["X-API-Key"]) as another:
        damaged = ask(another)
        assert (damaged["source"], damaged["reason"]) == ("live", "corrupt")
        assert materialize()["snapshot"] == 2
        assert ask_until(another, "asset")["reason"] is None


def test_a_key_revoked_in_s3_stops_working(client: httpx.Client, settings: Settings) -> None:
    keys = KeyStore.open(settings)
    (record,) = keys.all()
    assert client.get("/endpoints").status_code == 200
    keys.revoke(record.id)
    deadline = time.monotonic() + 60
    while client.get("/endpoints").status_code != httpx.codes.UNAUTHORIZED:
        assert time.monotonic() < deadline
        time.sleep(0.1)
