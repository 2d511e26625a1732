"""How fast answers are served: `python -m benchmarks.serving [--seconds 5] [--rows 10000000] [--only PART]`.

Each way is measured beside what it is compared with, in the same run, with one worker and 32 connections of
wrk. The parts:

known        a known answer (key, limits, usage, ETag) and its 304, beside an ASGI app that sends the same
             bytes on the same uvicorn, and nginx (where it is installed) that sends them from a file
reads        one key of the asset that `benchmarks.asset` makes, another for each request, beside ROAPI and
             FastAPI with DuckDB on the same sorted file; with the memory of each
connections  a known answer asked for by 1,000 connections
memory       known answers, reads and live runs mixed for `--minutes`; memory and open files at the
             beginning and the end
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import asset, flights
from benchmarks.load import HOST, Load, Server, fetch, load, numbers, started, uvicorn

APP = "serving.app:create_app"
RUN = f"/endpoints/{asset.ENDPOINT}/run?customer_id="
CARRIERS = "/endpoints/carrier_months/run?carrier="
RAW, ROUNDS = "raw ASGI", 4
AS_SERVED = ("--http", "serving.protocol:BoundedHttp", "--ws", "none")  # as `endpoints serve` has uvicorn
WARM = 15  # seconds of reads before the measured ones: most row groups are in memory then
NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 2048; }}
http {{
  access_log off; default_type application/json; keepalive_requests 1000000000;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port}; location / {{ root {folder}; try_files /body =404; }} }}
}}
"""


class Bench:
    """One run of the benchmarks: projects are made when they are first needed."""

    def __init__(self, folder: Path, asked: argparse.Namespace) -> None:
        self.folder, self.seconds, self.rows, self.minutes = folder, asked.seconds, asked.rows, asked.minutes

    def flights(self) -> tuple[Path, dict[str, str]]:
        return self._project("flights", flights.prepare)

    def asset(self) -> tuple[Path, dict[str, str]]:
        def make(project: Path) -> None:
            asset.make_project(project, self.rows)
            asset.run("benchmarks.asset_write", "--way", "published", "--project", str(project))

        return self._project("asset", make)

    def known(self) -> dict[str, dict[str, float]]:
        """Answers that are known, beside raw bytes: all servers stand, and are asked in turn."""
        project, key = self.flights()
        body = project / "body"
        body.touch()
        with ExitStack() as stack:
            ours = stack.enter_context(uvicorn(project, APP, {}, AS_SERVED))
            plain = stack.enter_context(uvicorn(project, APP, {}))
            sent, tag = fetch(f"{ours.url}{CARRIERS}UA", key)
            body.write_bytes(sent)
            environment = {"RIVAL_BODY": str(body)}
            raw = stack.enter_context(uvicorn(project, "benchmarks.rivals:raw", environment))
            ways: dict[str, tuple[Server, dict[str, str], Sequence[str]]] = {
                RAW: (raw, {}, ["UA"]),
                "known answer": (ours, key, ["UA"]),
                "known answer, 16 in turn": (ours, key, flights.CARRIERS),
                "304": (ours, {**key, "If-None-Match": tag}, ["UA"]),
                "known answer, plain uvicorn": (plain, key, ["UA"]),
                "304, plain uvicorn": (plain, {**key, "If-None-Match": tag}, ["UA"]),
            }
            if shutil.which("nginx"):
                nginx = stack.enter_context(started(project, _nginx(project), {}))
                ways["nginx, a file"] = (nginx, {}, ["UA"])
            else:
                print("nginx is not installed (apt-get install nginx-light): not measured", file=sys.stderr)
            rounds = [
                {way: load(on, CARRIERS, *rest, self.seconds / ROUNDS) for way, (on, *rest) in ways.items()}
                for _ in range(ROUNDS)
            ]
        return {way: _median([one[way] for one in rounds], [one[RAW] for one in rounds]) for way in ways}

    def reads(self) -> dict[str, dict[str, float]]:
        """One key of a large asset, another for each request."""
        project, key = self.asset()
        many = asset.customers(self.rows)
        file = _with_strings(project)
        found: dict[str, dict[str, float]] = {}

        def measure(way: str, server: Server, path: str, headers: dict[str, str], suffix: str = "") -> None:
            seen = self._load(server, path, headers, numbers("cust_", many, suffix), warm=WARM)
            found[way] = {**_shown(seen), "MB": server.memory, "MB of workers": server.workers_memory}

        with uvicorn(project, APP, {}, AS_SERVED) as server:
            measure("asset", server, RUN, key)
        with uvicorn(project, "benchmarks.rivals:duckdb_file", {"RIVAL_FILE": str(file)}) as server:
            measure("FastAPI + DuckDB", server, "/read?customer=", {})
        if shutil.which("roapi", path=str(Path(sys.executable).parent)):
            command = [str(Path(sys.executable).with_name("roapi")), "--table", f"usage={file}"]
            with started(project, lambda port: [*command, "--addr-http", f"{HOST}:{port}"], {}) as server:
                path = "/api/tables/usage?columns=day,event,events,people&filter[customer]=%27"
                measure("ROAPI", server, path, {}, "%27")
            for one in found.values():
                one["of ROAPI"] = one["rate"] / found["ROAPI"]["rate"]
                one["by processor"] = found["ROAPI"]["processor µs"] / one["processor µs"]
        else:
            print("roapi is not installed (pip install roapi): not measured", file=sys.stderr)
        return found

    def connections(self) -> dict[str, dict[str, float]]:
        """A thousand connections at once."""
        project, key = self.flights()
        with uvicorn(project, APP, {}, AS_SERVED) as server:
            fetch(f"{server.url}{CARRIERS}UA", key)
            seen = load(server, CARRIERS, key, flights.CARRIERS, self.seconds, connections=1000)
        return {"1,000 connections": _shown(seen)}

    def memory(self) -> dict[str, dict[str, float]]:
        """Whether memory grows under mixed load, once everything has been seen."""
        project, key = self.asset()
        many, seconds = asset.customers(self.rows), self.minutes * 60
        with uvicorn(project, APP, {}, AS_SERVED) as server:
            load(server, RUN, key, numbers("cust_", many), 20)
            before, opened, seen = server.memory, server.files, []

            def ask(values: Any, connections: int) -> None:
                seen.append(load(server, RUN, key, values, seconds, connections=connections))

            mixed: list[tuple[Any, int]] = [
                (numbers("cust_", many), 8),
                (numbers("cust_", many, "&format=csv"), 4),
                (["cust_1", "cust_2", "cust_3"], 8),
                (numbers("cust_", 50, "&refresh=force"), 4),
                (["", "nobody&limit=0"], 2),
            ]
            threads = [threading.Thread(target=ask, args=one) for one in mixed]
            for thread in threads:
                thread.start()
            points = list(_points(server, threads))
            for thread in threads:
                thread.join()
            left_open = server.files
        middle = points[len(points) // 3]
        return {
            f"{self.minutes:g} minutes": {
                "requests": sum(one.rate for one in seen) * seconds,
                **{"MB before": before, "MB after a third": middle, "MB after": points[-1]},
                "MB at most": max(points),
                **{"open files before": opened, "open files after": left_open},
            }
        }

    def _load(self, server: Server, path: str, headers: dict[str, str], values: Any, warm: float = 1) -> Load:
        return load(server, path, headers, values, self.seconds, warm=warm)

    def _project(self, name: str, make: Callable[[Path], None]) -> tuple[Path, dict[str, str]]:
        """A project and the header with a key of it; made once, kept where `--folder` says."""
        project = self.folder / name
        if not (project / "KEY").exists():
            project.mkdir(parents=True)
            make(project)
            options = ("keys", "create", "--name", "bench", "--rate", "100000000/minute", "--json")
            (project / "KEY").write_text(json.loads(flights.command(project, *options))["key"])
        return project, {"Authorization": f"Bearer {(project / 'KEY').read_text()}"}


def _nginx(project: Path) -> Callable[[int], Sequence[str]]:
    def command(port: int) -> Sequence[str]:
        (project / "nginx.conf").write_text(NGINX.format(folder=project, port=port))
        return ["nginx", "-c", str(project / "nginx.conf")]

    return command


def _with_strings(project: Path) -> Path:
    """The asset's file as others read it: the same rows in the same order and row groups, text as text."""
    path = project / "strings.parquet"
    if not path.exists():
        (file,) = (project / "lake").rglob("data/**/*.parquet")
        rows = pq.read_table(file)
        names = {"__d0": "customer"}
        columns = [c.cast(pa.string()) if c.type == pa.binary() else c for c in rows.columns]
        named = pa.table(columns, names=[names.get(name, name) for name in rows.column_names])
        pq.write_table(named, path, row_group_size=pq.ParquetFile(file).metadata.row_group(0).num_rows)
    return path


def _shown(seen: Load) -> dict[str, float]:
    return {
        **{"rate": seen.rate, "median ms": seen.median, "p99 ms": seen.p99, "errors": seen.errors},
        "processor µs": seen.processor,
    }


def _median(loads: Sequence[Load], of: Sequence[Load]) -> dict[str, float]:
    """The middle one of several rounds, and of their ratios to what they are compared with."""
    middle = sorted(loads, key=lambda one: one.rate)[len(loads) // 2]
    ratios = [one.rate / other.rate for one, other in zip(loads, of, strict=True)]
    spared = [other.processor / one.processor for one, other in zip(loads, of, strict=True)]
    return {**_shown(middle), "of raw": asset.median(ratios), "by processor": asset.median(spared)}


def _points(server: Server, threads: Sequence[threading.Thread]) -> Iterator[float]:
    """Memory every second while any of the threads runs."""
    while any(thread.is_alive() for thread in threads):
        time.sleep(1)
        yield server.memory


def main() -> None:
    """Measure what is asked for; print a table for each, or JSON."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--seconds", type=float, default=5, help="per measurement")
    options.add_argument("--rows", type=int, default=asset.EVENTS, help="events of the large asset")
    options.add_argument("--minutes", type=float, default=10, help="of mixed load")
    parts = ["known", "reads", "connections", "memory"]
    options.add_argument("--only", nargs="+", choices=parts, default=parts)
    options.add_argument("--folder", type=Path, help="where the projects are made, and kept")
    options.add_argument("--json", action="store_true")
    asked = options.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk makes the load. On Debian and Ubuntu: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(asked.folder or Path(folder), asked)
        found = {part: getattr(bench, part)() for part in asked.only}
    print(json.dumps(found) if asked.json else "\n\n".join(map(table, found.values())))


def table(found: dict[str, dict[str, float]]) -> str:
    columns = list(dict.fromkeys(name for one in found.values() for name in one))
    lines = [f"{'':28}" + "".join(f"{name:>18}" for name in columns)]
    for way, one in found.items():
        cells = (f"{one[name]:18,.2f}" if name in one else " " * 18 for name in columns)
        lines.append(f"{way:28}" + "".join(cells))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
