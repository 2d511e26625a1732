"""What there is to call, as people and programs read it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import timedelta

import httpx
import jsonschema

from endpoints.errors import WarehouseUnavailable

Serve = Callable[..., httpx.Client]


def test_the_list(client: httpx.Client) -> None:
    entries = {entry["name"]: entry for entry in client.get("/endpoints").json()["endpoints"]}
    assert list(entries) == sorted(entries)
    assert entries["usage"]["current"] == 2
    assert entries["usage"]["versions"] == [3, 2, 1]
    assert entries["usage"]["owner"] == "growth@example.com"
    assert entries["usage"]["state"] == "missing"
    assert entries["numbers"]["state"] == "live_only"
    assert client.get(entries["usage"]["urls"]["run"], params={"customer_id": "acme"}).status_code == 200


def test_a_broken_endpoint_is_listed_and_its_mistakes_are_for_admins(
    client: httpx.Client, shared_stand
) -> None:
    (broken,) = [entry for entry in client.get("/endpoints").json()["endpoints"] if entry["broken"]]
    assert broken["name"] == "broken"
    assert broken["problems"][0]["line"] == 2
    _, reader = shared_stand.keys.create("reader", scopes=("read",))
    shown = client.get("/endpoints", headers={"X-API-Key": reader}).json()["endpoints"]
    assert {"name": "broken", "broken": True} in shown
    assert "freshnes" not in json.dumps(shown)


def test_details(stand, serve: Serve) -> None:
    stand.publish("usage@2", age=timedelta(hours=5))
    stand.fail("usage@2", "breached")
    answer = serve().get("/endpoints/usage")
    newest, current, oldest = answer.json()["versions"]
    assert (current["version"], current["current"], current["state"]) == (2, True, "breached")
    assert (current["rows"], current["freshness_seconds"]) == (5, 3600)
    assert current["variables"] == [
        {
            "name": "customer_id",
            "type": "String",
            "required": True,
            "optional": False,
            "default": None,
            "description": "A customer",
            "example": "acme",
            "enum": None,
            "min": None,
            "max": None,
            "max_length": None,
            "pattern": "^[a-z]+$",
            "private": False,
        }
    ]
    assert (oldest["version"], oldest["sunset"]) == (1, "2026-02-01")
    assert newest["deprecated"] == "2026-01-01"
    assert "secret" not in answer.text
    assert "SELECT" not in answer.text


def test_versions(client: httpx.Client) -> None:
    answer = client.get("/endpoints/usage/versions").json()
    assert [version["version"] for version in answer["versions"]] == [3, 2, 1]


def test_openapi_of_all(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    assert "/endpoints/broken/run" not in document["paths"]
    assert {"get", "post"} == set(document["paths"]["/endpoints/usage/run"])


def test_openapi_fits_the_answers(client: httpx.Client) -> None:
    document = client.get("/endpoints/usage/openapi.json").json()
    get = document["paths"]["/endpoints/usage/run"]["get"]
    schema = get["responses"]["200"]["content"]["application/json"]["schema"]
    for shape in ("arrays", "objects"):
        body = client.get(f"/endpoints/usage/run?customer_id=acme&shape={shape}").json()
        jsonschema.validate(body, schema)
    body["results"] = [["not a day", 1]]
    assert not jsonschema.Draft202012Validator(schema).is_valid(body)
    names = [parameter["name"] for parameter in get["parameters"]]
    assert names[0] == "customer_id"
    assert {"version", "limit", "offset", "refresh", "format"} <= set(names)
    problem = client.get("/endpoints/usage/run?customer=x").json()
    jsonschema.validate(problem, document["components"]["schemas"]["Problem"])
    assert "400" in get["responses"]


def test_openapi_of_one_version(client: httpx.Client) -> None:
    document = client.get("/endpoints/usage/openapi.json?version=3").json()
    operation = document["paths"]["/endpoints/usage/run"]["post"]
    assert operation["deprecated"] is True
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    assert body["properties"]["version"]["enum"] == [3]
    assert set(body["required"]) == {"variables", "version"}
    assert client.get("/endpoints/usage/openapi.json?version=9").status_code == 404
    assert client.get("/endpoints/usage/openapi.json?versoin=2").status_code == 400


def test_openapi_without_a_warehouse_has_no_row_types(stand, serve: Serve) -> None:
    stand.warehouse.error = WarehouseUnavailable("gone")
    client = serve()
    document = client.get("/endpoints/usage/openapi.json").json()
    get = document["paths"]["/endpoints/usage/run"]["get"]
    schema = get["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema["properties"]["results"]["items"] == {}
    ready = client.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["parts"]["warehouse"]["ready"] is False
    assert ready.json()["parts"]["lake"]["ready"] is True


def test_docs_in_a_browser(client: httpx.Client, shared_stand) -> None:
    with httpx.Client(base_url=client.base_url) as browser:
        asked = browser.get("/docs")
        assert asked.status_code == 401
        assert asked.headers["www-authenticate"].startswith("Basic ")
        given = base64.b64encode(f"anyone:{shared_stand.key}".encode()).decode()
        headers = {"Authorization": f"Basic {given}"}
        page = browser.get("/docs", headers=headers)
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert browser.get("/endpoints/usage/openapi.json", headers=headers).status_code == 200
        # What a browser remembers must not run anything.
        assert browser.get("/endpoints/numbers/run?n=1", headers=headers).status_code == 401
    assert "usage" in page.text
    assert "--data-urlencode &#x27;customer_id=acme&#x27;" in page.text
    assert shared_stand.key not in page.text
    assert "<script" not in page.text
