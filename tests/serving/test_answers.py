"""What an answer says: envelope, headers, validators, formats, lifecycle."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx
import pytest

Serve = Callable[..., httpx.Client]
URL = "/endpoints/usage/run?customer_id=acme"


def test_the_envelope_of_an_asset(stand, serve: Serve) -> None:
    stand.publish("usage@2", age=timedelta(minutes=10))
    answer = serve().get(URL)
    body = answer.json()
    refreshed = body.pop("last_refresh")
    assert list(body.items()) == [
        ("name", "usage"),
        ("endpoint_version", 2),
        ("columns", ["day", "event", "events", "total"]),
        ("types", ["Date", "String", "UInt64", "Int64"]),
        (
            "results",
            [["2026-01-01", "click", 1, 3], ["2026-01-01", "view", 1, 1], ["2026-01-02", "click", 2, 11]],
        ),
        ("hasMore", False),
        ("limit", 100),
        ("offset", 0),
        ("source", "asset"),
        ("reason", None),
        ("is_cached", False),
        ("execution_id", "run-1"),
    ]
    assert refreshed.endswith("Z")
    age = datetime.now(UTC) - datetime.fromisoformat(refreshed)
    assert timedelta(minutes=9) < age < timedelta(minutes=11)
    assert answer.headers["content-type"] == "application/json"
    assert 590 <= int(answer.headers["x-endpoint-data-age"]) <= 660
    assert parsedate_to_datetime(answer.headers["last-modified"]) == datetime.fromisoformat(refreshed)
    assert answer.headers["x-endpoint-version"] == "2"
    assert answer.headers["cache-control"] == (
        "private, max-age=60, stale-while-revalidate=60, stale-if-error=600"
    )
    assert {"Authorization", "X-API-Key", "Accept"} <= set(answer.headers["vary"].split(", "))
    assert "asset;dur=" in answer.headers["server-timing"]
    assert "age" not in answer.headers


def test_a_fresh_answer_over_dead_data_shows(stand, serve: Serve) -> None:
    """In a header: the envelope's fields are fixed."""
    dead = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    stand.publish("usage@2", source_max=dead)
    client = serve()
    answer = client.get(URL)
    assert (answer.json()["source"], answer.headers["x-endpoint-source-max"]) == (
        "asset",
        "2026-01-02T03:04:05Z",
    )
    again = client.get(URL, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.headers["x-endpoint-source-max"]) == (304, "2026-01-02T03:04:05Z")
    assert "x-endpoint-source-max" not in client.get(f"{URL}&refresh=direct").headers
    versions = {
        one["version"]: one["source_max"] for one in client.get("/endpoints/usage").json()["versions"]
    }
    assert versions == {3: None, 2: "2026-01-02T03:04:05Z", 1: None}


def test_max_age_is_what_is_left_of_the_promise(stand, serve: Serve) -> None:
    stand.publish("usage@2", age=timedelta(hours=1) - timedelta(seconds=30))
    control = serve().get(URL).headers["cache-control"]
    assert 0 < int(control.partition("max-age=")[2].partition(",")[0]) <= 30


def test_a_stale_answer_is_not_reused(stand, serve: Serve) -> None:
    stand.publish("careful", age=timedelta(hours=5))
    assert (
        serve().get("/endpoints/careful/run?customer_id=acme").headers["cache-control"] == "private, no-cache"
    )


def test_post_asks_the_same_and_is_not_stored(stand, serve: Serve) -> None:
    stand.publish("usage@2")
    client = serve()
    body = {"variables": {"customer_id": "acme"}, "version": 2, "limit": 2, "offset": 1, "refresh": "cache"}
    answer = client.post("/endpoints/usage/run", json={**body, "debug": False, "cursor": None})
    assert answer.json()["results"] == [["2026-01-01", "view", 1, 1], ["2026-01-02", "click", 2, 11]]
    assert (answer.json()["limit"], answer.json()["offset"]) == (2, 1)
    assert answer.headers["cache-control"] == "no-store"
    assert "etag" not in answer.headers


def test_not_modified_touches_no_data(stand, serve: Serve) -> None:
    stand.publish("usage@2")
    client = serve()
    first = client.get(URL)
    tag = first.headers["etag"]
    assert tag.startswith('W/"')
    for file in stand.files("usage@2"):
        file.unlink()  # whoever reads now will notice
    for header in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        for method in ("GET", "HEAD"):
            answer = client.request(method, URL, headers={"If-None-Match": header})
            assert answer.status_code == 304, header
            assert answer.content == b""
            assert answer.headers["etag"] == tag
            assert answer.headers["x-endpoint-source"] == "asset"
    assert stand.warehouse.ran == []


def test_what_differs_has_another_tag(stand, serve: Serve) -> None:
    stand.publish("usage@2")
    stand.publish("usage@3")
    client = serve()
    queries = ["", "&limit=1", "&offset=1", "&format=csv", "&shape=objects", "&integers=string", "&version=3"]
    queries += ["&refresh=direct"]
    tags = [client.get(URL + query).headers["etag"] for query in queries]
    tags.append(client.get("/endpoints/usage/run?customer_id=bolt").headers["etag"])
    assert len(set(tags)) == len(tags)
    before = tags[0]
    stand.publish("usage@2")
    stand.until(lambda: client.get(URL, headers={"If-None-Match": before}).status_code == 200)


def test_a_live_answer_has_a_tag_of_its_rows(stand, serve: Serve) -> None:
    client = serve()
    tags = {client.get(f"{URL}&refresh={how}").headers["etag"] for how in ("cache", "force", "cache")}
    assert len(tags) == 1
    assert client.get(URL, headers={"If-None-Match": tags.pop()}).status_code == 304


def test_csv(stand, serve: Serve) -> None:
    stand.publish("usage@2")
    client = serve()
    for request in (f"{URL}&format=csv", URL):
        answer = client.get(f"{request}&limit=2", headers={"Accept": "text/csv"})
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert answer.headers["x-endpoint-has-more"] == "true"
        assert list(csv.reader(io.StringIO(answer.text))) == [
            ["day", "event", "events", "total"],
            ["2026-01-01", "click", "1", "3"],
            ["2026-01-01", "view", "1", "1"],
        ]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/json"),
        ("text/csv", "text/csv; charset=utf-8"),
        ("text/csv;q=0.5, application/json;q=0.6", "application/json"),
        ("application/json;q=0, text/*", "text/csv; charset=utf-8"),
        ("TEXT/CSV, */*;q=0.1", "text/csv; charset=utf-8"),
        ("text/csv; q=nonsense, application/*", "application/json"),
    ],
)
def test_accept(client: httpx.Client, accept: str | None, expected: str) -> None:
    headers = {} if accept is None else {"Accept": accept}
    assert client.get("/endpoints/numbers/run?n=1", headers=headers).headers["content-type"] == expected


def test_objects_and_integers_that_browsers_keep(stand, serve: Serve) -> None:
    stand.publish("usage@2")
    answer = serve().get("/endpoints/usage/run?customer_id=bolt&shape=objects&integers=string").json()
    assert answer["results"][1] == {
        "day": "2026-01-03",
        "event": "view",
        "events": "1",
        "total": "9007199254740993",
    }


def test_values_of_every_kind(client: httpx.Client) -> None:
    query = "small=255&day=2024-02-29&name=%27%3B+DROP+TABLE+x+--+%C3%BC&ids=1&ids=2&price=1234567.89"
    answer = client.get(f"/endpoints/typed/run?{query}").json()
    assert answer["results"] == [[255, "2024-02-29", "'; DROP TABLE x -- ü", [1, 2], "1234567.89", None, 7]]
    body = {
        "small": 255,
        "day": "2024-02-29",
        "name": "\\N\\n",
        "ids": [],
        "price": "1.5",
        "maybe": "null",
        "count": 1,
    }
    posted = client.post("/endpoints/typed/run", json={"variables": body}).json()
    assert posted["results"] == [[255, "2024-02-29", "\\N\\n", [], "1.50", "null", 1]]
    one = client.get("/endpoints/typed/run?small=1&day=2024-01-01&name=&ids=7&price=1&count=3").json()
    assert one["results"] == [[1, "2024-01-01", "", [7], "1.00", None, 3]]


def test_deprecated_versions_say_so(stand, serve: Serve) -> None:
    client = serve()
    old = client.get(f"{URL}&version=3")
    assert old.headers["deprecation"] == "@1767225600"
    assert parsedate_to_datetime(old.headers["sunset"]) == datetime(2099, 1, 1, tzinfo=UTC)
    assert old.headers["link"] == '</endpoints/usage/run?version=2>; rel="successor-version"'
    assert "deprecation" not in client.get(URL).headers
    gone = client.get(f"{URL}&version=1")
    assert gone.status_code == 410
    assert gone.headers["link"] == '</endpoints/usage/run?version=2>; rel="successor-version"'


def test_debug_is_for_operators(stand, serve: Serve) -> None:
    stand.publish("usage@2")
    client = serve()
    usual = client.get(URL)
    for _ in range(3):
        answer = client.get(f"{URL}&debug=true").json()
        debug = answer.pop("debug")
        assert answer == usual.json()
        assert debug["plan"]["seek"] == ["customer_id"]
        assert [file["rows"] for file in debug["files"]] == [5]
        assert {"bind", "asset"} <= set(debug["timings"])
    assert client.get(URL).content == usual.content
    live = client.get("/endpoints/numbers/run?n=3&debug=true").json()
    assert live["debug"]["query_id"] == live["execution_id"]
    assert "numbers({n:UInt32})" in live["debug"]["sql"]
    assert client.get(f"{URL}&debug=true&format=csv").status_code == 400
    _, key = stand.keys.create("reader", scopes=("run", "read"))
    refused = client.get(f"{URL}&debug=true", headers={"X-API-Key": key})
    assert (refused.status_code, refused.json()["code"]) == (403, "missing_scope")
    assert "SELECT" not in refused.text
