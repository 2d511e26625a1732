"""Asking for partitions over HTTP: what is left in the lake, and how it is followed. No Dagster is there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import jsonschema
import pytest

from endpoints.lake.requests import Requests

if TYPE_CHECKING:
    from tests.serving.conftest import Stand

PATH = "/endpoints/usage/materialize"
JSON = {"Content-Type": "application/json"}
Serve = Callable[..., httpx.Client]


@pytest.fixture
def asker(serve: Serve) -> httpx.Client:
    return serve()


def requests(stand: Stand) -> Requests:
    return Requests(stand.lake)


def test_a_request_is_left_and_followed(stand: Stand, asker: httpx.Client) -> None:
    answer = asker.post(PATH, json={"version": 2})
    assert answer.status_code == 202
    left = answer.json()
    assert answer.headers["location"] == left["url"] == f"{PATH}/{left['id']}"
    assert answer.headers["retry-after"] == "2"
    assert (left["name"], left["endpoint_version"], left["state"]) == ("usage", 2, "queued")
    (kept,) = requests(stand).open()
    assert (kept.id, kept.partitions, kept.by) == (left["id"], ("all",), "api")
    assert kept.fingerprint == stand.version("usage@2").fingerprint
    assert asker.get(left["url"]).json() == left

    requests(stand).started(kept, "run-1")
    running = asker.get(left["url"]).json()
    assert (running["state"], running["run_id"]) == ("running", "run-1")
    assert running["run_url"].endswith("/runs/run-1")

    stand.publish("usage@2")
    published = asker.get(left["url"]).json()
    assert published["state"] == "published"
    assert published["partitions"][0]["rows"] == 5
    document = asker.get("/openapi.json").json()
    schema = document["paths"][f"{PATH}/{{id}}"]["get"]["responses"]["200"]["content"]["application/json"]
    for body in (left, running, published):
        jsonschema.validate(body, schema["schema"])


def test_a_failure_is_told_to_admins(stand: Stand, asker: httpx.Client) -> None:
    left = asker.post(PATH).json()
    (kept,) = requests(stand).open()
    requests(stand).close(requests(stand).started(kept, "run-1"), {"all": "ClickHouse: no such table"})
    answer = asker.get(left["url"])
    assert (answer.json()["state"], answer.json()["partitions"][0]["error"]) == (
        "failed",
        "ClickHouse: no such table",
    )
    assert "retry-after" not in answer.headers


def test_the_same_asked_twice_is_one_request(stand: Stand, asker: httpx.Client) -> None:
    first, second = asker.post(PATH, json={}).json(), asker.post(PATH, json={"partitions": ["all"]}).json()
    assert first["id"] == second["id"]
    assert len(list(requests(stand).open())) == 1


@pytest.mark.parametrize(
    ("path", "body", "wrong"),
    [
        (PATH, {"version": "2"}, [("version", "wrong_type")]),
        (PATH, {"version": True}, [("version", "wrong_type")]),
        (PATH, {"partitions": "all"}, [("partitions", "wrong_type")]),
        (PATH, {"partitions": [1]}, [("partitions", "wrong_type")]),
        (PATH, {"from": 2, "x": 3}, [("from", "wrong_type"), ("x", "unknown_field")]),
        (PATH, {"partitions": ["2026-01-01"]}, [("partitions", "unknown_partition")]),
        (PATH, {"partitions": []}, [("partitions", "empty")]),
        (PATH, {"from": "2026-01-01"}, [("from", "no_range")]),
        ("/endpoints/numbers/materialize", None, [("version", "live_only")]),
    ],
)
def test_bad_input_names_its_fields_and_leaves_nothing(
    shared_stand: Stand, client: httpx.Client, path: str, body: object, wrong: list[tuple[str, str]]
) -> None:
    answer = client.post(path, json=body) if body is not None else client.post(path)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert [(error["field"], error["code"]) for error in answer.json()["errors"]] == wrong
    assert not list(requests(shared_stand).open())


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/endpoints/nope/materialize", 404, "unknown_endpoint"),
        ("POST", "/endpoints/broken/materialize", 503, "broken_definition"),
        ("GET", f"{PATH}/0123456789abcdef-0", 404, "unknown_request"),
        ("GET", f"{PATH}/..%2f..%2f_keys", 404, "not_found"),
        ("GET", PATH, 405, "method_not_allowed"),
        ("POST", f"{PATH}/0123456789abcdef-0", 405, "method_not_allowed"),
    ],
)
def test_what_is_not_there(client: httpx.Client, method: str, path: str, status: int, code: str) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_versions_that_cannot_be_asked_for(client: httpx.Client) -> None:
    assert client.post(PATH, json={"version": 9}).json()["code"] == "unknown_version"
    assert client.post(PATH, json={"version": 1}).status_code == 410
    assert client.post(PATH, content="{", headers=JSON).json()["code"] == "malformed_body"
    assert client.post(f"{PATH}?version=2").json()["errors"][0]["code"] == "not_in_url"


def test_only_admins_of_the_endpoint_may_ask_or_look(stand: Stand, asker: httpx.Client) -> None:
    left = asker.post(PATH).json()
    _, reader = stand.keys.create("reader", scopes=("run", "read"))
    _, other = stand.keys.create("other", scopes=("admin",), endpoints=("landing_*",))
    for method, path in (("POST", PATH), ("GET", left["url"])):
        shown = asker.request(method, path, headers={"X-API-Key": reader})
        assert (shown.status_code, shown.json()["code"]) == (403, "missing_scope")
        shown = asker.request(method, path, headers={"X-API-Key": other})
        assert (shown.status_code, shown.json()["code"]) == (404, "unknown_endpoint")
    seen = asker.get("/openapi.json", headers={"X-API-Key": reader}).json()["paths"]
    assert not [path for path in seen if "materialize" in path]
    assert asker.get("/endpoints/since/materialize/" + left["id"]).json()["code"] == "unknown_request"


DAILY = """
current: 1
versions:
  1: {materialize: {schedule: daily, partitions: {column: day, by: day, start: 2026-01-01, end: 2026-01-05}}}
"""


@pytest.fixture
def daily(folder: Path, serve: Serve) -> Iterator[httpx.Client]:
    """A service with one partitioned endpoint more."""
    added = folder / "endpoint_defs" / "daily"
    added.mkdir()
    (added / "endpoint.yaml").write_text(DAILY)
    (added / "v1.sql").write_text("SELECT day, count() AS n FROM events GROUP BY day ORDER BY day")
    yield serve()
    shutil.rmtree(added)


def keys(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 202, answer.text
    return [one["partition"] for one in answer.json()["partitions"]]


def test_partitions_by_key_by_range_and_what_is_due(daily: httpx.Client) -> None:
    path = "/endpoints/daily/materialize"
    days = [f"2026-01-0{day}" for day in range(1, 5)]
    assert keys(daily.post(path, json={"from": days[1], "to": days[2]})) == days[1:3]
    assert keys(daily.post(path, json={"partitions": [days[3], days[0]]})) == [days[0], days[3]]
    assert keys(daily.post(path)) == days
