"""How many answers a second: `python -m benchmarks.flights [--seconds 5] [--json]`.

One carrier's months, out of 336,776 flights, asked for 16 carriers in turn by 32 connections (wrk) of one
uvicorn worker: from the asset, revalidated (304), from a FastAPI + DuckDB service, and as raw bytes. One
server at a time on one machine; what counts is the ratios.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from endpoints.cli.processes import choose_port, end, python, spawn
from tests.flights import nycflights

HOST = "127.0.0.1"
CARRIERS = ("UA", "B6", "EV", "DL", "AA", "MQ", "US", "9E", "WN", "VX", "FL", "AS", "F9", "YV", "HA", "OO")
WRK = """
local carriers = {{{carriers}}}
local turn = 0
request = function()
  turn = turn % #carriers + 1
  return wrk.format("GET", "{path}" .. carriers[turn])
end
{headers}
"""


def main() -> None:
    """Build the project, measure each server, print requests a second and ratios."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--seconds", type=int, default=5, help="per measurement")
    options.add_argument("--json", action="store_true")
    asked = options.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk makes the load. On Debian and Ubuntu: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder), asked.seconds)
    if asked.json:
        print(json.dumps(measured))
        return
    for name, rate in measured.items():
        print(f"{name:34} {rate:9,.0f}/s   {rate / measured['raw bytes']:5.2f} of raw")


def measure(project: Path, seconds: int) -> dict[str, float]:
    """Requests a second of every way to answer."""
    key = make_project(project)
    header = {"Authorization": f"Bearer {key}"}
    path = "/endpoints/carrier_months/run?carrier="
    measured: dict[str, float] = {}
    with server(project, "serving.app:create_app", {}) as url:
        answer, tag = fetch(f"{url}{path}UA", header)
        assert json.loads(answer)["source"] == "asset", answer[:300]
        measured["asset"] = load(url, path, header, seconds)
        measured["asset, If-None-Match (one carrier)"] = load(
            url, path, {**header, "If-None-Match": tag}, seconds, ["UA"]
        )
    (project / "body").write_bytes(answer)
    with server(project, "benchmarks.rivals:raw", {"RIVAL_BODY": str(project / "body")}) as url:
        measured["raw bytes"] = load(url, path, {}, seconds)
    flights = {"RIVAL_FLIGHTS": str(project / "data" / "flights.parquet")}
    with server(project, "benchmarks.rivals:duckdb_routes", flights) as url:
        measured["FastAPI + DuckDB, finished table"] = load(url, "/table?carrier=", {}, seconds)
        measured["FastAPI + DuckDB, aggregating"] = load(url, "/query?carrier=", {}, seconds)
    return dict(sorted(measured.items(), key=lambda item: -item[1]))


def make_project(project: Path) -> str:
    """A project over the flights with its asset published; returns a key."""
    prepare(project)
    made = json.loads(
        command(project, "keys", "create", "--name", "bench", "--rate", "100000000/minute", "--json")
    )
    return str(made["key"])


def prepare(project: Path) -> None:
    """A project over the flights with its asset published."""
    shutil.copytree(Path(nycflights.__file__).parent / "endpoint_defs", project / "endpoint_defs")
    (project / ".env").touch()
    nycflights.write_flights(project / "data", nycflights.read_flights())
    command(project, "materialize", "carrier_months")


def command(project: Path, *arguments: str) -> str:
    done = subprocess.run(
        python("-m", "endpoints.cli", *arguments), cwd=project, stdout=subprocess.PIPE, check=True, text=True
    )
    return done.stdout


@contextmanager
def server(project: Path, app: str, environment: Mapping[str, str]) -> Iterator[str]:
    """One uvicorn worker; yields its URL once it answers."""
    port = choose_port(HOST, None, 8200, "")
    root = str(Path(__file__).parents[1])
    arguments = ("--factory", "--port", str(port), "--no-access-log", "--log-level", "warning")
    process = spawn(
        python("-m", "uvicorn", app, *arguments),
        environment={"PYTHONPATH": root, **environment},
        folder=project,
    )
    try:
        url = f"http://{HOST}:{port}"
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{url}/healthz", timeout=5).close()
            except urllib.error.HTTPError:
                break
            except OSError:
                time.sleep(0.1)
            else:
                break
        yield url
    finally:
        end([process])


def fetch(url: str, headers: Mapping[str, str]) -> tuple[bytes, str]:
    """The body and the ETag."""
    with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers))) as response:
        return response.read(), response.headers["ETag"]


def load(
    url: str, path: str, headers: Mapping[str, str], seconds: int, carriers: Sequence[str] = CARRIERS
) -> float:
    """Requests a second, after a second to warm up. Fails where an answer is an error."""
    names = ", ".join(f'"{carrier}"' for carrier in carriers)
    set_headers = "\n".join(f"wrk.headers[{json.dumps(k)}] = {json.dumps(v)}" for k, v in headers.items())
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(WRK.format(carriers=names, path=path, headers=set_headers))
        script.flush()
        for duration in (1, seconds):
            shown = subprocess.run(
                ["wrk", "-t1", "-c32", f"-d{duration}s", "-s", script.name, url],
                capture_output=True,
                check=True,
                text=True,
            ).stdout
    assert "Non-2xx" not in shown, shown
    found = re.search(r"Requests/sec:\s+([\d.]+)", shown)
    assert found is not None, shown
    return float(found[1])


if __name__ == "__main__":
    main()
