"""Child processes: none is left, however it behaves."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import psutil
import pytest

from endpoints.cli.processes import Processes, choose_port, end, python, spawn

HOST = "127.0.0.1"
SLEEP = "import time; time.sleep(600)"
STUBBORN_PARENT = """
import signal, subprocess, sys, time
deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
code = deaf + "print('up', flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(600)
"""


def test_what_a_child_started_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("endpoints.cli.processes.GRACE", 0.5)
    command = python("-c", STUBBORN_PARENT)
    with spawn(command, environment={}, folder=tmp_path, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        grandchild = psutil.Process(int(parent.stdout.readline()))
        end([parent])
    grandchild.wait(10)
    assert parent.returncode == -signal.SIGTERM


def serve(folder: Path, code: str, wait: Callable[[Processes], None], log: Path | None = None) -> None:
    """Runs `code` as the server "api" and waits for it as `wait` says."""
    with Processes() as processes:
        processes.start("api", python("-c", code), environment={}, folder=folder, log=log)
        wait(processes)


def test_a_server_that_ends_by_itself_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    code = "print('no such table'); raise SystemExit(3)"
    with pytest.raises(click.ClickException) as caught:
        serve(tmp_path, code, Processes.wait, log=tmp_path / "logs" / "api.log")
    assert "api ended with status 3" in caught.value.message
    assert "no such table" in caught.value.message


def test_waiting_for_a_server_ends_when_it_does_not_come(tmp_path: Path) -> None:
    with pytest.raises(click.ClickException, match="did not answer"):
        serve(tmp_path, SLEEP, lambda processes: processes.wait_for("api", lambda: False, seconds=0.2))


@contextmanager
def handled(number: signal.Signals, handler: Any) -> Iterator[None]:
    """What we do on a signal, as whoever started us left it."""
    before = signal.signal(number, handler)
    try:
        yield
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)


def told(number: signal.Signals) -> Callable[[Processes], None]:
    def wait(processes: Processes) -> None:
        threading.Timer(0.3, os.kill, (os.getpid(), number)).start()
        processes.wait_for("api", lambda: False, seconds=10)

    return wait


@pytest.mark.parametrize(
    ("number", "handler"),
    [
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGINT, signal.SIG_IGN),  # as a script's `&` starts its commands
        (signal.SIGTERM, signal.SIG_DFL),
        (signal.SIGTERM, signal.SIG_IGN),
        (signal.SIGHUP, signal.SIG_DFL),
    ],
)
def test_every_way_of_being_told_to_end(tmp_path: Path, number: signal.Signals, handler: Any) -> None:
    with handled(number, handler), pytest.raises(KeyboardInterrupt):
        serve(tmp_path, SLEEP, told(number))
    left = [child for child in psutil.Process().children() if SLEEP in child.cmdline()]
    assert left == []


def test_nohup_outlives_its_terminal(tmp_path: Path) -> None:
    def closed(processes: Processes) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        processes.check()

    with handled(signal.SIGHUP, signal.SIG_IGN):
        serve(tmp_path, SLEEP, closed)


def test_a_port_that_is_taken() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(click.UsageError, match="--port"):
            choose_port(HOST, port, 8000, "--port")
        assert choose_port(HOST, None, port, "--port") > port


def test_the_command_starts_without_what_is_slow() -> None:
    """Importing Dagster, Polars or ClickHouse takes seconds; `--help` must not."""
    code = "import sys, endpoints.cli; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    ).stdout.split()
    heavy = {
        "dagster",
        "fastapi",
        "uvicorn",
        "polars",
        "pyarrow",
        "chdb",
        "pandera",
        "pydantic",
        "numpy",
        "rich",
    }
    assert heavy.isdisjoint(loaded)
