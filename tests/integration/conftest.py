"""A ClickHouse server of the test's own, which it may stop, kill and start again."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

SERVICES = Path(__file__).parents[2] / "deploy" / "services.sh"


@dataclass(frozen=True)
class OwnServer:
    """ClickHouse 18.16 on a port of its own, with an empty folder."""

    port: int
    root: Path

    @property
    def url(self) -> str:
        return f"clickhouse://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._services("start")

    def stop(self) -> None:
        self._services("stop")

    def kill(self) -> None:
        """SIGKILL: no goodbye on any connection."""
        pid = int((self.root / "clickhouse" / "pid").read_text())
        with suppress(psutil.NoSuchProcess):
            server = psutil.Process(pid)
            server.kill()
            psutil.wait_procs([server], timeout=20)

    def _services(self, action: str) -> None:
        ports = {"SERVICES_CLICKHOUSE_PORT": str(self.port), "SERVICES_ROOT": str(self.root)}
        environment: Mapping[str, str] = {**os.environ, **ports}
        command = ["bash", str(SERVICES), action, "clickhouse"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[OwnServer]:
    """A running server. Without the package, tests skip; on CI (`CI=true`) they fail."""
    if not shutil.which("clickhouse-server", path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
        message = "no clickhouse-server command: run `make services`"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = OwnServer(port, tmp_path / "services")
    server.start()
    yield server
    server.kill()
