"""The service as it is deployed: a process of its own, started as the documentation says."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from endpoints.keys import KeyStore
from endpoints.settings import Settings

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(
    command: list[str], project: Path, port: int, **variables: str
) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ENDPOINTS_PORT": str(port), **variables}
    running = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        end = time.monotonic() + 40
        while True:
            try:
                assert httpx.get(f"http://127.0.0.1:{port}/healthz").json() == {"status": "ok"}
                break
            except httpx.TransportError:
                assert running.poll() is None, running.communicate()[0]
                assert time.monotonic() < end, "it does not listen"
                time.sleep(0.1)
        yield running
    finally:
        running.kill()
        running.communicate()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / ".env").write_text("")
    (tmp_path / "data").mkdir()
    endpoint = tmp_path / "endpoint_defs" / "hello"
    endpoint.mkdir(parents=True)
    (endpoint / "endpoint.yaml").write_text("current: 1\nversions: {1: {}}\n")
    (endpoint / "v1.sql").write_text("SELECT 'hello ' || {name:String} AS greeting")
    return tmp_path


@pytest.mark.parametrize("how", ["module", "factory"])
def test_it_starts_answers_and_stops(project: Path, how: str) -> None:
    port = free_port()
    commands = {
        "module": ["serving"],
        "factory": ["uvicorn", "serving.app:create_app", "--factory", "--port", str(port)],
    }
    _, key = KeyStore.open(Settings(project=project)).create("me")
    with process(commands[how], project, port) as running:
        answer = httpx.get(
            f"http://127.0.0.1:{port}/endpoints/hello/run?name=you", headers={"X-API-Key": key}, timeout=30
        )
        assert answer.json()["results"] == [["hello you"]]
        running.send_signal(signal.SIGTERM)
        output, _ = running.communicate(timeout=20)
        assert f"http://127.0.0.1:{port}" in output
        assert "Traceback" not in output
        assert key not in output
        assert (how == "factory") or ("name=you" not in output)


def test_without_a_store_and_a_warehouse_it_starts_and_says_so(project: Path) -> None:
    port = free_port()
    nowhere = f"http://127.0.0.1:{free_port()}"
    _, key = KeyStore.open(Settings(project=project, lake_url=f"file://{project}/keys")).create("me")
    variables = {
        "ENDPOINTS_LAKE_URL": "s3://nowhere/lake",
        "ENDPOINTS_KEYS_URL": f"file://{project}/keys",
        "ENDPOINTS_CLICKHOUSE_URL": f"clickhouse://127.0.0.1:{free_port()}/default",
        "AWS_ENDPOINT_URL": nowhere,
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
    }
    with process(["serving"], project, port, **variables):
        headers = {"X-API-Key": key}
        ready = httpx.get(f"http://127.0.0.1:{port}/readyz", headers=headers, timeout=30)
        assert ready.status_code == 503
        parts = {name: part["ready"] for name, part in ready.json()["parts"].items()}
        assert parts == {"definitions": True, "keys": True, "lake": False, "warehouse": False}
        run = httpx.get(f"http://127.0.0.1:{port}/endpoints/hello/run?name=x", headers=headers, timeout=30)
        assert (run.status_code, run.json()["code"]) == (503, "unavailable")


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [("ENDPOINTS_PORT", "many", "ENDPOINTS_PORT"), ("ENDPOINTS_LAKE_URL", "s3://bucket", "ENDPOINTS_SECRET")],
)
def test_wrong_settings_end_it_with_one_message(project: Path, variable: str, value: str, named: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "serving"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT), variable: value},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 2
    assert named in ended.stderr
    assert "Traceback" not in ended.stderr


def greets(text: str) -> str:
    return f"SELECT '{text} ' || {{name:String}} AS greeting"


@contextmanager
def steady_calls(client: httpx.Client) -> Iterator[list[httpx.Response]]:
    """Calls without a pause in the background, while the block runs."""
    answers: list[httpx.Response] = []
    ended = threading.Event()

    def call() -> None:
        while not ended.is_set():
            answers.append(client.get("/endpoints/hello/run?name=you"))

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield answers
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("how", ["signal", "watch"])
def test_definitions_change_and_no_request_is_dropped(project: Path, how: str) -> None:
    port, sql = free_port(), project / "endpoint_defs" / "hello" / "v1.sql"
    _, key = KeyStore.open(Settings(project=project)).create(
        "me", scopes=("run", "read"), rate="1000000/minute"
    )
    variables = {"ENDPOINTS_WATCH": "true"} if how == "watch" else {}
    base = f"http://127.0.0.1:{port}"
    with (
        process(["serving"], project, port, **variables) as running,
        httpx.Client(base_url=base, headers={"X-API-Key": key}, timeout=30) as client,
    ):

        def until(greeting: str) -> None:
            end = time.monotonic() + 30
            while client.get("/endpoints/hello/run?name=you").json()["results"] != [[greeting]]:
                assert time.monotonic() < end, f"it does not say {greeting}"
                time.sleep(0.05)

        def changed() -> None:
            if how == "signal":
                running.send_signal(signal.SIGHUP)

        until("hello you")
        with steady_calls(client) as answers:
            sql.write_text(greets("bye"))
            changed()
            until("bye you")
            sql.write_text("SELECT broken {")
            changed()
            time.sleep(2)
            until("bye you")  # the last good form
            other = project / "endpoint_defs" / "more"
            other.mkdir()
            (other / "v1.sql").write_text("SELECT 1 AS one")
            (other / "endpoint.yaml").write_text("current: 1\nversions: {1: {}}\n")
            changed()
            end = time.monotonic() + 30
            while client.get("/endpoints/more/run").status_code != 200:
                assert time.monotonic() < end
                time.sleep(0.05)
        assert {answer.status_code for answer in answers} == {200}


def test_serving_never_imports_dagster() -> None:
    code = "import sys, serving.app; sys.exit(any(name.split('.')[0] == 'dagster' for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
