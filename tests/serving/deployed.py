"""A project, and the service as it is deployed over it: processes of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def deployed(
    command: list[str], project: Path, port: int, **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """A process that runs `python -m command` in the project, once it listens; all output in one pipe."""
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
        end = time.monotonic() + 60
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
        for one in _family(running):  # workers outlive a parent that is killed, and hold the pipe
            with suppress(psutil.NoSuchProcess):
                one.kill()
        running.communicate()


def _family(running: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        parent = psutil.Process(running.pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def define(project: Path, name: str, sql: str, yaml: str = "current: 1\nversions: {1: {}}\n") -> None:
    """An endpoint of one version."""
    folder = project / "endpoint_defs" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "endpoint.yaml").write_text(yaml)
    (folder / "v1.sql").write_text(sql)


def hello_project(folder: Path) -> Path:
    """A project with one endpoint, `hello`, that runs live."""
    (folder / ".env").write_text("")
    (folder / "data").mkdir()
    define(folder, "hello", "SELECT 'hello ' || {name:String} AS greeting")
    return folder


def until_it_is_so(met: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for what happens in the background."""
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
