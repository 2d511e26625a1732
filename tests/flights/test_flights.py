"""Real flights through the real stack: every number is what Polars finds in the CSV, from asset and live."""

from __future__ import annotations

import csv
import json
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from endpoints.cli.processes import end, python, spawn
from tests.flights import nycflights

SEED = 2013


@pytest.fixture(scope="module")
def flights() -> pl.DataFrame:
    return nycflights.read_flights()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, flights: pl.DataFrame) -> Path:
    """A project over the flights, materialized by its own command."""
    folder = tmp_path_factory.mktemp("flights")
    shutil.copytree(Path(__file__).parent / "endpoint_defs", folder / "endpoint_defs")
    (folder / ".env").touch()
    nycflights.write_flights(folder / "data", flights)
    for outcome in lines(command(folder, "materialize", "--all", "--json")):
        assert outcome["outcome"] == "published", outcome
    return folder


@pytest.fixture(scope="module")
def client(project: Path) -> Iterator[httpx.Client]:
    """The API of the project, in a process of its own, with a key."""
    key = json.loads(command(project, "keys", "create", "--name", "tests", "--json"))["key"]
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = spawn(
        python("-m", "endpoints.cli", "serve", "--port", str(port)),
        environment={},
        folder=project,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60) as client:
            wait_until_ready(client, server)
            yield client
    finally:
        end([server])


def wait_until_ready(client: httpx.Client, server: subprocess.Popen[bytes]) -> None:
    while True:
        assert server.poll() is None, "the server has ended"
        try:
            if client.get("/readyz").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)


def command(project: Path, *arguments: str) -> str:
    done = subprocess.run(
        python("-m", "endpoints.cli", *arguments), cwd=project, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def both_ways(client: httpx.Client, name: str, variables: dict[str, Any]) -> list[list[Any]]:
    """The rows, which are the same from the asset and from ClickHouse."""
    answers = [
        client.post(f"/endpoints/{name}/run", json={"variables": variables, "refresh": refresh})
        .raise_for_status()
        .json()
        for refresh in ("cache", "direct")
    ]
    assert [(answer["source"], answer["reason"]) for answer in answers] == [
        ("asset", None),
        ("live", "direct"),
    ]
    assert answers[0]["types"] == answers[1]["types"]
    assert answers[0]["results"] == answers[1]["results"]
    assert not answers[0]["hasMore"]
    rows: list[list[Any]] = answers[0]["results"]
    return rows


def test_every_carrier(client: httpx.Client, flights: pl.DataFrame) -> None:
    carriers = flights["carrier"].unique(maintain_order=True).to_list()
    assert len(carriers) == 16
    for carrier in carriers:
        expected = nycflights.carrier_months(flights, carrier)
        assert both_ways(client, "carrier_months", {"carrier": carrier}) == expected


def test_routes(client: httpx.Client, flights: pl.DataFrame) -> None:
    routes = flights.select("origin", "dest").unique().sort("origin", "dest").rows()
    for origin, dest in [("JFK", "LAX"), *random.Random(SEED).sample(routes, 12)]:
        expected = nycflights.route(flights, origin, dest)
        assert both_ways(client, "route", {"origin": origin, "dest": dest}) == expected


def test_a_route_that_nobody_flew_has_no_rows(client: httpx.Client) -> None:
    assert both_ways(client, "route", {"origin": "JFK", "dest": "ZZZ"}) == []


@pytest.mark.parametrize("carrier", [None, "UA", "9E"])
@pytest.mark.parametrize(
    ("first", "end"),
    [(date(2013, 1, 1), date(2014, 1, 1)), (date(2013, 2, 27), date(2013, 3, 2)), (date(2013, 5, 5),) * 2],
)
def test_days(
    client: httpx.Client, flights: pl.DataFrame, first: date, end: date, carrier: str | None
) -> None:
    variables = {"date_from": first.isoformat(), "date_to": end.isoformat()}
    if carrier is not None:
        variables["carrier"] = carrier
    answer = client.get("/endpoints/day_range/run", params=variables).raise_for_status().json()
    assert answer["results"] == nycflights.day_range(flights, first, end, carrier)
    assert answer["source"] == "asset" or answer["reason"] == "unservable"


def test_the_command_line_answers_the_same(project: Path, flights: pl.DataFrame) -> None:
    expected = nycflights.carrier_months(flights, "AS")
    for extra, source in (((), "asset"), (("--live",), "live")):
        (answer,) = lines(command(project, "run", "carrier_months", "-v", "carrier=AS", "--json", *extra))
        assert (answer["source"], answer["results"]) == (source, expected)


def test_csv_holds_the_same_rows(client: httpx.Client, flights: pl.DataFrame) -> None:
    response = client.get("/endpoints/route/run", params={"origin": "LGA", "dest": "ATL", "format": "csv"})
    _, *rows = csv.reader(response.raise_for_status().text.splitlines())
    expected = nycflights.route(flights, "LGA", "ATL")
    assert rows == [["" if value is None else str(value) for value in row] for row in expected]


def test_pages_put_together_are_the_whole(client: httpx.Client, flights: pl.DataFrame) -> None:
    expected = nycflights.route(flights, "JFK", "SFO")
    for refresh in ("cache", "direct"):
        pages: list[list[Any]] = []
        while True:
            body = {"variables": {"origin": "JFK", "dest": "SFO"}, "refresh": refresh, "limit": 3000}
            answer = client.post("/endpoints/route/run", json=body | {"offset": len(pages)}).json()
            pages += answer["results"]
            if not answer["hasMore"]:
                break
        assert pages == expected
