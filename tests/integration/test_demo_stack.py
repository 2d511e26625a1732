"""What a newcomer does: start the demo, call a URL, let the asset age, break its contract, press Ctrl-C."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from endpoints.cli.processes import python

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
MAIN = python("-m", "endpoints.cli")


class Demo:
    """A running `endpoints demo` in a folder of its own."""

    def __init__(self, project: Path, process: subprocess.Popen[bytes], said: Path) -> None:
        self.project, self.process, self._said = project, process, said

    def wait_for(self, pattern: str, seconds: float = 180) -> re.Match[str]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := re.search(pattern, self.said):
                return found
            assert self.process.poll() is None, self.said
            time.sleep(0.2)
        raise AssertionError(f"no {pattern!r} in time:\n{self.said}")

    @property
    def said(self) -> str:
        return self._said.read_text(errors="replace")

    def curl(self, line: str) -> dict[str, Any]:
        """Run the printed command as a person would."""
        done = subprocess.run(shlex.split(line), capture_output=True, check=True, timeout=60)
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)

    def left_over(self) -> list[str]:
        """Processes that work on this project: they carry its lake in their environment."""
        found = []
        for process in psutil.process_iter():
            try:
                if str(self.project) in process.environ().get("ENDPOINTS_LAKE_URL", ""):
                    found.append(" ".join(process.cmdline()))
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        return found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with the sample endpoints and nothing else."""
    folder = tmp_path_factory.mktemp("demo")
    shutil.copytree(ROOT / "endpoint_defs", folder / "endpoint_defs")
    (folder / ".env").write_text("ENDPOINTS_DEFS=endpoint_defs\n")
    return folder


@contextmanager
def demo(project: Path) -> Iterator[Demo]:
    said = project / "said.txt"
    api, ui = free_port(), free_port()
    command = [*MAIN, "demo", "--events", "20000", "--port", str(api), "--dagster-port", str(ui)]
    with said.open("wb") as output:
        process = subprocess.Popen(command, cwd=project, stdout=output, stderr=output)
    try:
        yield Demo(project, process, said)
    finally:
        process.terminate()  # whatever the test found: leave nothing running
        try:
            process.wait(60)
        finally:
            process.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_from_the_first_start_to_ctrl_c(project: Path) -> None:
    definition = project / "endpoint_defs" / "customer_usage" / "endpoint.yaml"
    with demo(project) as running:
        line = running.wait_for(r"(?m)^\s*(curl .*)$")[1]
        ui = running.wait_for(r"Dagster +(http://\S+)")[1]

        fresh = running.curl(line)
        assert (fresh["source"], fresh["reason"]) == ("asset", None)
        assert fresh["endpoint_version"] == 2
        assert fresh["columns"] == ["day", "event", "events", "people"]
        assert fresh["results"]
        assert materialized(ui, "customer_usage", 2)

        edit(definition, "freshness: 1h", "freshness: 1s")
        stale = wait_for_reason(running, line, "stale")
        assert stale["source"] == "live"
        assert before_today(stale) == before_today(fresh)

        edit(definition, "rows: {min: 1}", "rows: {min: 1000000}")
        breach = subprocess.run(
            [*MAIN, "materialize", "customer_usage", "--json"], cwd=project, capture_output=True, timeout=240
        )
        assert breach.returncode == 1, breach
        assert json.loads(breach.stdout)["outcome"] == "failed"
        breached = wait_for_reason(running, line, "breached")
        assert breached["source"] == "live"
        assert before_today(breached) == before_today(fresh)

        assert running.stop(signal.SIGINT) == 0, running.said
        assert running.left_over() == []


def test_it_goes_on_from_what_is_there_and_ends_when_told(project: Path) -> None:
    days = sorted((project / "data" / "events").iterdir())
    with demo(project) as running:
        running.wait_for(r"curl ")
        assert sorted((project / "data" / "events").iterdir())[: len(days)] == days
        assert running.stop(signal.SIGTERM) == 0, running.said
        assert running.left_over() == []


def wait_for_reason(running: Demo, line: str, reason: str) -> dict[str, Any]:
    """Ask until the service has seen what changed."""
    deadline = time.monotonic() + 120
    while (answer := running.curl(line))["reason"] != reason:
        assert time.monotonic() < deadline, answer
        time.sleep(0.5)
    return answer


def before_today(answer: dict[str, Any]) -> list[list[Any]]:
    """The rows that new events cannot have changed since the asset was made."""
    today = answer["last_refresh"][:10]
    return [row for row in answer["results"] if row[0] < today]


def materialized(ui: str, endpoint: str, version: int) -> bool:
    """Whether Dagster has recorded a materialization of the asset."""
    query = """query ($key: [AssetKeyInput!]!) {
      assetNodes(assetKeys: $key) { assetMaterializations(limit: 1) { runId } }
    }"""
    key = {"path": ["endpoints", endpoint, f"v{version}"]}
    response = httpx.post(f"{ui}/graphql", json={"query": query, "variables": {"key": [key]}}, timeout=60)
    nodes = response.raise_for_status().json()["data"]["assetNodes"]
    return bool(nodes and nodes[0]["assetMaterializations"])
