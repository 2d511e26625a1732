"""What an answer is measured against: its bytes without any work, and the service one would write in an hour.

`raw` is an ASGI app that sends the very bytes; nothing can be faster on the same server. `duckdb_routes` is
FastAPI over DuckDB: `/table` asks a table of finished rows, `/query` aggregates the flights, as live does.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import duckdb
from fastapi import FastAPI

ANSWER = """
SELECT month(day) AS month, origin, count(*) AS flights, count(*) FILTER (dep_delay > 15) AS late,
       count(DISTINCT tailnum) AS planes, sum(distance)::BIGINT AS miles,
       avg(arr_delay) AS mean_arrival_delay,
       quantile_disc(dep_delay, 0.5) AS median_departure_delay, max(air_time) AS longest_air_time
FROM flights WHERE carrier = ? GROUP BY month, origin ORDER BY month, origin
"""


def raw() -> Callable[..., Awaitable[None]]:
    """The bytes of the file that RIVAL_BODY names, for every request."""
    body = Path(os.environ["RIVAL_BODY"]).read_bytes()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    return app


def duckdb_routes() -> FastAPI:
    """FastAPI over DuckDB, over the flights in the file that RIVAL_FLIGHTS names."""
    database = duckdb.connect()
    database.execute("CREATE TABLE flights AS FROM read_parquet(?)", [os.environ["RIVAL_FLIGHTS"]])
    carriers = [row[0] for row in database.execute("SELECT DISTINCT carrier FROM flights").fetchall()]
    finished = ANSWER.replace("SELECT", "SELECT ?::VARCHAR AS carrier,", 1)
    for number, carrier in enumerate(carriers):
        into = "INSERT INTO answers" if number else "CREATE TABLE answers AS"
        database.execute(f"{into} {finished}", [carrier, carrier])
    app = FastAPI()

    def answer(sql: str, carrier: str) -> dict[str, Any]:
        found = database.cursor().execute(sql, [carrier])
        columns = [column[0] for column in found.description or ()]
        return {"columns": columns, "results": found.fetchall()}

    @app.get("/table")
    def table(carrier: str) -> dict[str, Any]:
        sql = "SELECT * EXCLUDE (carrier) FROM answers WHERE carrier = ? ORDER BY month, origin"
        return answer(sql, carrier)

    @app.get("/query")
    def query(carrier: str) -> dict[str, Any]:
        return answer(ANSWER, carrier)

    return app


def duckdb_file() -> FastAPI:
    """FastAPI over DuckDB, over the sorted file that RIVAL_FILE names, whose `customer` is asked for."""
    database = duckdb.connect()
    sql = "SELECT day, event, events, people FROM read_parquet(?) WHERE customer = ?"
    app = FastAPI()

    @app.get("/read")
    def read(customer: str) -> dict[str, Any]:
        found = database.cursor().execute(sql, [os.environ["RIVAL_FILE"], customer])
        columns = [column[0] for column in found.description or ()]
        return {"columns": columns, "results": found.fetchall()}

    return app
