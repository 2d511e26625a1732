"""Load by wrk, and the servers that bear it: one at a time, on the loopback."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from endpoints.cli.processes import choose_port, end, python, spawn

HOST = "127.0.0.1"
CONNECTIONS = 32
_SCRIPT = """
local values = {{{values}}}
local turn, many, step = 0, {many}, {step}
init = function(arguments) turn = arguments[1] * step % math.max(many, 1) end
request = function()
  if many > 0 then
    turn = (turn + step) % many
    return wrk.format("GET", "{path}" .. "{prefix}" .. turn .. "{suffix}")
  end
  turn = turn % #values + 1
  return wrk.format("GET", "{path}" .. values[turn])
end
{headers}
"""
_STEP = 7919  # a prime: with it every number below `many` comes once before any comes twice
_MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk saw: requests a second, milliseconds of the median and of 99 in 100, answers that were errors.

    `processor`: microseconds of it that the server took for a request, which do not depend on what else the
    machine does.
    """

    rate: float
    median: float
    p99: float
    errors: int
    requests: int
    processor: float = 0.0


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs: where, and its process."""

    url: str
    process: psutil.Process

    @property
    def memory(self) -> float:
        """MB that it holds itself, without workers of embedded ClickHouse."""
        return float(self.process.memory_info().rss / 2**20)

    @property
    def workers_memory(self) -> float:
        """MB that its children hold."""
        return sum(one.memory_info().rss for one in self.process.children(recursive=True)) / 2**20

    @property
    def files(self) -> int:
        """Open files and sockets of it and its children."""
        return sum(one.num_fds() for one in self._processes())

    @property
    def processor(self) -> float:
        """Seconds of the processor that it and its children have taken."""
        return sum(sum(one.cpu_times()[:2]) for one in self._processes())

    def _processes(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


@contextmanager
def uvicorn(
    folder: Path, app: str, environment: Mapping[str, str], options: Sequence[str] = ()
) -> Iterator[Server]:
    """One uvicorn worker with the application that `app` makes."""
    arguments = (
        *options,
        "--factory",
        "--no-access-log",
        "--log-level",
        "warning",
        "--no-server-header",
        "--port",
    )
    command = python("-m", "uvicorn", app, *arguments)
    root = str(Path(__file__).parents[1])
    with started(folder, lambda port: [*command, str(port)], {"PYTHONPATH": root, **environment}) as server:
        yield server


@contextmanager
def started(
    folder: Path, command: Callable[[int], Sequence[str]], environment: Mapping[str, str]
) -> Iterator[Server]:
    """A server that `command` starts on a port; yields once it answers, ends it afterwards."""
    port = choose_port(HOST, None, 8200, "")
    quiet = subprocess.DEVNULL
    process = spawn(command(port), environment=environment, folder=folder, stdout=quiet, stderr=quiet)
    try:
        url = f"http://{HOST}:{port}"
        _wait(url)
        yield Server(url, psutil.Process(process.pid))
    finally:
        end([process])


def _wait(url: str) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{url}/healthz", timeout=5).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return
    sys.exit(f"{url} does not answer")


def fetch(url: str, headers: Mapping[str, str]) -> tuple[bytes, str]:
    """The body and the ETag."""
    with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers))) as response:
        return response.read(), response.headers["ETag"]


def numbers(prefix: str, many: int, suffix: str = "") -> tuple[str, int, str]:
    """Values that are another one for each request, `many` in all."""
    return prefix, many, suffix


def load(
    server: Server,
    path: str,
    headers: Mapping[str, str],
    values: Sequence[str] | tuple[str, int, str],
    seconds: float,
    *,
    connections: int = CONNECTIONS,
    warm: float = 0.5,
) -> Load:
    """What `connections` see that ask for `path` and the next of `values`, after some seconds to warm up."""
    numbered = len(values) == 3 and isinstance(values[1], int)
    prefix, many, suffix = values if numbered else ("", 0, "")
    listed = "" if numbered else ", ".join(f'"{value}"' for value in values)
    set_headers = "\n".join(f"wrk.headers[{json.dumps(k)}] = {json.dumps(v)}" for k, v in headers.items())
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(
            _SCRIPT.format(
                **{"values": listed, "many": many, "step": _STEP, "path": path},
                **{"prefix": prefix, "suffix": suffix, "headers": set_headers},
            )
        )
        script.flush()
        asked = 0
        for duration in (warm, seconds):
            began = server.processor
            command = [
                "wrk",
                "-t1",
                f"-c{connections}",
                f"-d{math.ceil(duration)}s",
                "--latency",
                "--timeout",
                "30s",
            ]
            shown = subprocess.run(
                [*command, "-s", script.name, server.url, "--", str(asked)],
                capture_output=True,
                check=True,
                text=True,
            ).stdout
            seen = _read(shown)
            asked = seen.requests + connections  # what was asked to warm up is not asked again
    return replace(seen, processor=(server.processor - began) / seen.requests * 1e6)


def _read(shown: str) -> Load:
    rate = re.search(r"Requests/sec:\s+([\d.]+)", shown)
    assert rate is not None, shown
    done = re.search(r"(\d+) requests in", shown)
    assert done is not None, shown
    return Load(float(rate[1]), _latency(shown, "50%"), _latency(shown, "99%"), _errors(shown), int(done[1]))


def _latency(shown: str, part: str) -> float:
    found = re.search(rf"{part}\s+([\d.]+)(us|ms|s)", shown)
    assert found is not None, shown
    return float(found[1]) * _MILLISECONDS[found[2]]


def _errors(shown: str) -> int:
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", shown)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", shown)
    return (int(refused[1]) if refused else 0) + (sum(map(int, broken.groups())) if broken else 0)
