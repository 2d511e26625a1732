"""Pages by cursor, the total, and answers in every format and encoding."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from typing import Any

import httpx
import orjson
import polars as pl
import pyarrow as pa
import pytest
import zstandard

Serve = Callable[..., httpx.Client]
URL = "/endpoints/usage/run?customer_id=acme"
ROWS = [["2026-01-01", "click", 1, 3], ["2026-01-01", "view", 1, 1], ["2026-01-02", "click", 2, 11]]


def test_cursors_lead_through_one_snapshot(stand, serve: Serve) -> None:
    stand.publish("usage@2")
    client = serve()
    first = client.get(f"{URL}&limit=2").json()
    assert first["results"] == ROWS[:2]
    stand.publish("usage@2", where="event = 'view'")
    stand.until(lambda: client.get(URL).json()["results"] == ROWS[1:2])
    second = client.get(f"{URL}&limit=2&cursor={first['nextCursor']}").json()
    assert second["results"] == ROWS[2:]
    assert (second["hasMore"], second["offset"], "nextCursor" in second) == (False, 2, False)
    posted = {"variables": {"customer_id": "acme"}, "cursor": first["nextCursor"]}
    assert client.post("/endpoints/usage/run", json=posted).json()["results"] == ROWS[2:]
    assert stand.warehouse.ran == []


def test_a_cursor_is_the_callers_own(stand, serve: Serve) -> None:
    """Whoever sends it must be who got it, and ask the same: also while an answer is reused."""
    stand.publish("usage@2")
    mine, other = serve(), serve(stand.keys.create("other", scopes=("run",))[1])
    cursors = [client.get(f"{URL}&limit=1").json()["nextCursor"] for client in (mine, other)]
    for client, cursor in zip((mine, other), cursors, strict=True):
        assert client.get(f"{URL}&limit=1&cursor={cursor}").json()["results"] == ROWS[1:2]
    refused = [
        other.get(f"{URL}&cursor={cursors[0]}"),
        mine.get(f"/endpoints/usage/run?customer_id=bolt&cursor={cursors[0]}"),
        mine.get(f"{URL}&version=3&cursor={cursors[0]}"),
        mine.get(f"{URL}&offset=1&cursor={cursors[0]}"),
        mine.get(f"{URL}&refresh=direct&cursor={cursors[0]}"),
        mine.get(f"{URL}&cursor={cursors[0][:-3]}"),
        mine.get(f"{URL}&cursor=WzEsMSwxLDEsIiJd"),
        mine.get(f"{URL}&cursor=%F0%9F%92%A3"),
    ]
    for answer in refused:
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input"), answer.text
    assert stand.warehouse.ran == []


def test_a_cursor_whose_snapshot_is_gone(stand, serve: Serve) -> None:
    stand.publish("usage@2")
    client = serve()
    cursor = client.get(f"{URL}&limit=1").json()["nextCursor"]
    old = stand.files("usage@2")
    stand.publish("usage@2")
    stand.until(lambda: client.get(f"{URL}&limit=1").json()["nextCursor"] != cursor)
    for file in old:
        file.unlink()
    answer = serve().get(f"{URL}&cursor={cursor}")  # another process, which has not read them
    assert (answer.status_code, answer.json()["code"]) == (410, "cursor_gone")


def test_live_rows_have_no_cursor(stand, serve: Serve) -> None:
    body = serve().get(f"{URL}&limit=1").json()
    assert (body["source"], body["hasMore"], "nextCursor" in body) == ("live", True, False)


@pytest.mark.parametrize("how", ["cache", "direct"])
def test_the_total_counts_the_rows_of_all_pages(stand, serve: Serve, how: str) -> None:
    stand.publish("usage@2")
    client = serve()
    body = client.get(f"{URL}&limit=1&offset=1&count=true&refresh={how}").json()
    assert (body["total"], body["results"]) == (3, ROWS[1:2])
    lines = client.get(f"{URL}&limit=1&count=true&refresh={how}&format=ndjson")
    assert lines.headers["x-endpoint-total"] == "3"
    assert "total" not in client.get(URL).json()


def test_the_total_of_what_a_finish_makes(stand, serve: Serve) -> None:
    stand.publish("since")
    body = serve().get("/endpoints/since/run?customer_id=acme&since=2026-01-01&limit=1&count=true").json()
    assert (body["source"], body["total"], len(body["results"])) == ("asset", 2, 1)


def read(answer: httpx.Response) -> list[list[Any]]:
    """The rows of an answer, as other programs read them."""
    match answer.headers["content-type"]:
        case "application/x-ndjson":
            return [list(orjson.loads(line).values()) for line in answer.content.splitlines()]
        case "application/vnd.apache.arrow.stream":
            frame = pl.from_arrow(pa.ipc.open_stream(answer.content).read_all())
        case "application/vnd.apache.parquet":
            frame = pl.read_parquet(io.BytesIO(answer.content))
    assert isinstance(frame, pl.DataFrame)
    return [[str(row[0]), *row[1:]] for row in frame.rows()]


@pytest.mark.parametrize("name", ["ndjson", "arrow", "parquet"])
def test_formats_hold_the_same_rows(stand, serve: Serve, name: str) -> None:
    stand.publish("usage@2")
    client = serve()
    answer = client.get(f"{URL}&format={name}&limit=2")
    assert read(answer) == ROWS[:2]
    assert answer.headers["x-endpoint-has-more"] == "true"
    following = client.get(f"{URL}&cursor={answer.headers['x-endpoint-next-cursor']}")
    assert following.json()["results"] == ROWS[2:]
    accepted = client.get(f"{URL}&limit=2", headers={"Accept": answer.headers["content-type"]})
    assert accepted.headers["etag"] == answer.headers["etag"]
    assert read(client.get(f"/endpoints/usage/run?customer_id=nobody&format={name}")) == []


def test_lines_in_both_shapes(stand, serve: Serve) -> None:
    stand.publish("usage@2")
    client = serve()
    assert orjson.loads(client.get(f"{URL}&format=ndjson&limit=1").content)["event"] == "click"
    arrays = client.get(f"{URL}&format=ndjson&limit=1&shape=arrays")
    assert orjson.loads(arrays.content) == ROWS[0]
    assert client.get(f"{URL}&format=arrow&shape=objects").status_code == 400


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip", "gzip"),
        ("zstd;q=0.5, gzip", "gzip"),
        ("gzip;q=0", None),
        ("br", None),
        ("identity, gzip;q=0.5", None),
    ],
)
@pytest.mark.parametrize("rows", [200, 25_000])
def test_encodings(client: httpx.Client, accepted: str, encoding: str | None, rows: int) -> None:
    """Of a whole answer, and of one that is sent in parts."""
    name = "numbers" if rows <= 1000 else "many"
    with client.stream(
        "GET", f"/endpoints/{name}/run?n={rows}", headers={"Accept-Encoding": accepted}
    ) as got:
        raw = b"".join(got.iter_raw())
    assert got.headers.get("content-encoding") == encoding
    assert ("content-length" in got.headers) == (rows <= 1000)
    plain = {"gzip": gzip.decompress, "zstd": unzstd, None: bytes}[encoding](raw)
    body = orjson.loads(plain)
    assert [row[0] for row in body["results"]] == list(range(rows))
    assert body["hasMore"] is False


def unzstd(raw: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(raw)


def test_little_is_not_compressed(client: httpx.Client) -> None:
    answer = client.get("/endpoints/numbers/run?n=1", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in answer.headers
