"""Whatever the route and whatever is wrong: one shape, no SQL, no trace; and nothing at all without a key."""

from __future__ import annotations

import itertools

import httpx
import pytest

ROUTES = [
    "/endpoints",
    "/endpoints/usage",
    "/endpoints/usage/run",
    "/endpoints/usage/versions",
    "/endpoints/usage/openapi.json",
    "/api/projects/1/endpoints/usage/run",
    "/api/projects/1/endpoints/usage/run/",
    "/openapi.json",
    "/docs",
    "/readyz",
]
NOWHERE = ["/", "/nope", "/endpoints/", "/endpoints/usage/nope", "/redoc", "/docs/oauth2-redirect", "/..%2f"]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "PROPFIND"]
FIELDS = {"type", "title", "status", "detail", "code", "errors"}


def check(answer: httpx.Response) -> None:
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"]
    assert answer.headers["cache-control"] == "no-store"
    if answer.request.method == "HEAD":
        assert answer.content == b""
        return
    body = answer.json()
    assert set(body) >= FIELDS
    assert body["status"] == answer.status_code
    assert body["type"].endswith(body["code"])
    assert "SELECT" not in answer.text


@pytest.mark.parametrize(("path", "method"), list(itertools.product(ROUTES + NOWHERE, METHODS)))
def test_without_a_key_there_is_nothing(client: httpx.Client, ran, path: str, method: str) -> None:
    with httpx.Client(base_url=client.base_url) as anonymous:
        answer = anonymous.request(method, path)
    check(answer)
    assert answer.status_code == 401
    assert "www-authenticate" in answer.headers
    assert ran == []


@pytest.mark.parametrize(("path", "method"), list(itertools.product(NOWHERE, METHODS)))
def test_unknown_paths(client: httpx.Client, path: str, method: str) -> None:
    answer = client.request(method, path)
    check(answer)
    assert answer.status_code == 404


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "PROPFIND"])
def test_methods_that_a_path_does_not_take(client: httpx.Client, path: str, method: str) -> None:
    answer = client.request(method, path)
    check(answer)
    assert answer.status_code == 405
    assert answer.headers["allow"] == client.options(path).headers["allow"]
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize("path", [*ROUTES, "/healthz"])
def test_options_needs_no_key(client: httpx.Client, path: str) -> None:
    with httpx.Client(base_url=client.base_url) as anonymous:
        answer = anonymous.options(path)
    assert answer.status_code == 204
    assert {"GET", "HEAD", "OPTIONS"} <= set(answer.headers["allow"].split(", "))
    assert ("POST" in answer.headers["allow"]) == ("/run" in path)


def test_browsers_of_listed_origins_only(client: httpx.Client) -> None:
    listed = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "GET"}
    answer = client.options("/endpoints/usage/run", headers=listed)
    assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
    assert "Authorization" in answer.headers["access-control-allow-headers"]
    assert "Origin" in answer.headers["vary"]
    other = client.options("/endpoints/usage/run", headers={**listed, "Origin": "https://evil.example.com"})
    assert not [name for name in other.headers if name.startswith("access-control")]
    shown = client.get("/endpoints", headers=listed)
    assert "X-Endpoint-Source" in shown.headers["access-control-expose-headers"]


def test_head_is_get_without_a_body(client: httpx.Client) -> None:
    for path in ["/endpoints", "/endpoints/numbers/run?n=3", "/docs", "/openapi.json", "/healthz", "/readyz"]:
        head, get = client.head(path), client.get(path)
        assert head.status_code == get.status_code == 200, path
        assert head.content == b""
        assert head.headers["content-type"] == get.headers["content-type"]


def test_a_request_id_is_taken_over_if_it_is_harmless(client: httpx.Client) -> None:
    assert client.get("/healthz", headers={"X-Request-Id": "abc-1.2"}).headers["x-request-id"] == "abc-1.2"
    assert client.get("/healthz", headers={"X-Request-Id": "a b"}).headers["x-request-id"] != "a b"
    body = {"variables": {"n": 1}, "client_query_id": "mine-7"}
    answer = client.post("/endpoints/numbers/run", json=body)
    assert answer.headers["x-request-id"] == "mine-7"


def test_both_forms_of_the_url(client: httpx.Client) -> None:
    ours = client.get("/endpoints/numbers/run?n=1").json()
    theirs = client.get("/api/projects/12345/endpoints/numbers/run?n=1").json()
    posted = client.post("/api/projects/12345/endpoints/numbers/run/", json={"variables": {"n": 1}}).json()
    assert ours["results"] == theirs["results"] == posted["results"] == [[0, "n0"]]


def test_health_and_readiness(client: httpx.Client, shared_stand) -> None:
    with httpx.Client(base_url=client.base_url) as anonymous:
        assert anonymous.get("/healthz").status_code == 200
    ready = client.get("/readyz").json()
    assert ready["ready"] is True
    assert set(ready["parts"]) == {"definitions", "keys", "lake", "warehouse"}
    assert ready["parts"]["definitions"]["broken"] == 1
