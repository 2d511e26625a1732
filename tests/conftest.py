"""What every test may use: real servers (S3 over HTTP, ClickHouse), and a lake on either kind of store."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import settings

# No test is a matter of time: examples take as long as a busy machine lets them.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# A script's `&` starts its commands with SIGINT ignored. Where it is, Dagster, which treats SIGTERM as
# SIGINT, ignores both; so would all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

_buckets = itertools.count(1)


@dataclass(frozen=True)
class S3:
    """An empty bucket: its URL, and the variables that reach it (already set for the test's own process)."""

    url: str
    env: Mapping[str, str]


@dataclass
class Webhook:
    """What has been posted to `url`. `status` is what it answers."""

    port: int
    status: int = 200
    posts: list[dict[str, Any]] = field(default_factory=list)
    refused: int = 0

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.port}/T0KEN"

    @property
    def titles(self) -> list[str]:
        return [post["title"] for post in self.posts]


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests see no ENDPOINTS_ or AWS_ variable but those that they set."""
    for name in list(os.environ):
        if name.startswith(("ENDPOINTS_", "AWS_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The address of moto's S3 server, one process for the session."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-P", str(Path(__file__).with_name("s3_server.py")), str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(server, f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> S3:
    """A new bucket on the S3 server."""
    bucket = f"lake-{os.getpid()}-{next(_buckets)}"
    httpx.put(f"{s3_endpoint}/{bucket}").raise_for_status()
    env = {
        "AWS_ENDPOINT_URL": s3_endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return S3(f"s3://{bucket}/some/prefix", env)


@pytest.fixture(params=["file", "s3"])
def lake_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty lake: once on the disk, once on S3."""
    if request.param == "s3":
        bucket: S3 = request.getfixturevalue("s3")
        return bucket.url
    return f"file://{tmp_path / 'lake'}"


@pytest.fixture(scope="session")
def clickhouse_url() -> str:
    """The ClickHouse server of `make services`. Without one, tests skip; on CI (`CI=true`) they fail."""
    port = int(os.environ.get("SERVICES_CLICKHOUSE_PORT", "19000"))
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        message = f"no ClickHouse server on 127.0.0.1:{port}: run `make services`"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    return f"clickhouse://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def redis_url() -> str:
    """The Redis of `make services`. Without one, tests skip; on CI (`CI=true`) they fail."""
    port = int(os.environ.get("SERVICES_REDIS_PORT", "16379"))
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        message = f"no Redis on 127.0.0.1:{port}: run `make services`"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    return f"redis://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def postgres_port() -> int:
    """The PostgreSQL of `make services`. Without one, tests skip; on CI (`CI=true`) they fail."""
    port = int(os.environ.get("SERVICES_POSTGRES_PORT", "15432"))
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        message = f"no PostgreSQL on 127.0.0.1:{port}: run `make services`"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    return port


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if received.status < 300:
                received.posts.append(body)
            else:
                received.refused += 1
            self.send_response(received.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        received = Webhook(server.server_port)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield received
        server.shutdown()
        thread.join()


def _wait_for(server: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError("moto's server ended: is moto[server] installed?")
        try:
            httpx.get(url, timeout=1)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("moto's server does not answer")
