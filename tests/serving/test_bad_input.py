"""What a caller may get wrong. Each is told by name, and nothing runs in ClickHouse."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TYPED = {"small": "1", "day": "2026-01-01", "name": "n", "ids": "1", "price": "1.20"}


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["code"] == code
    assert body["status"] == status
    return body


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("customer_id=acme&customer=x", "customer"),
        ("", "customer_id"),
        ("customer_id=acme&customer_id=bolt", "customer_id"),
        ("customer_id=", "customer_id"),
        ("customer_id=acme&limit=0", "limit"),
        ("customer_id=acme&limit=-1", "limit"),
        ("customer_id=acme&limit=1.5", "limit"),
        ("customer_id=acme&limit=101", "limit"),
        ("customer_id=acme&limit=99999999999999999999999", "limit"),
        ("customer_id=acme&limit=%D9%A3", "limit"),
        ("customer_id=acme&limit=1&limit=2", "limit"),
        ("customer_id=acme&offset=-1", "offset"),
        ("customer_id=acme&offset=99999999999999999999999", "offset"),
        ("customer_id=acme&version=x", "version"),
        ("customer_id=acme&version=0", "version"),
        ("customer_id=acme&version=2&version=2", "version"),
        ("customer_id=acme&refresh=now", "refresh"),
        ("customer_id=acme&format=xml", "format"),
        ("customer_id=acme&format=avro", "format"),
        ("customer_id=acme&shape=columns", "shape"),
        ("customer_id=acme&format=csv&shape=objects", "shape"),
        ("customer_id=acme&integers=text", "integers"),
        ("customer_id=acme&cursor=abc", "cursor"),
        ("customer_id=acme&debug=yes", "debug"),
        ("customer_id=acme&count=yes", "count"),
        ("customer_id=acme&client_query_id=%00", "client_query_id"),
        ("customer_id=acme%00", "customer_id"),
        ("customer_id=a%0Ab", "customer_id"),
        ("customer_id=acme%0A", "customer_id"),
        ("customer_id=acme'%20OR%201=1%20--", "customer_id"),
    ],
)
def test_query_parameters(client: httpx.Client, ran, query: str, field: str) -> None:
    body = problem(client.get(f"/endpoints/usage/run?{query}"), 400, "invalid_input")
    assert field in [error["field"] for error in body["errors"]]
    assert all(error["detail"] and error["code"] for error in body["errors"])
    assert ran == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("small", "256"),
        ("small", "-1"),
        ("small", "1.0"),
        ("small", "one"),
        ("small", "1 OR 1=1"),
        ("day", "2026-02-30"),
        ("day", "yesterday"),
        ("price", "1.239"),
        ("price", "12345678.00"),
        ("ids", "4294967296"),
        ("ids", "x"),
        ("name", "x" * 8193),
        ("name", "a\x00b"),
    ],
)
def test_values_outside_their_type(client: httpx.Client, ran, name: str, value: str) -> None:
    body = problem(client.get("/endpoints/typed/run", params={**TYPED, name: value}), 400, "invalid_input")
    assert [error["field"].partition("[")[0] for error in body["errors"]] == [name]
    assert ran == []


def test_every_wrong_field_is_named_at_once(client: httpx.Client) -> None:
    body = problem(
        client.get("/endpoints/typed/run?small=300&day=x&nme=y&ids=1&price=1"), 400, "invalid_input"
    )
    assert {error["field"] for error in body["errors"]} == {"small", "day", "name", "nme"}


def test_wrong_options_are_named_beside_wrong_variables(client: httpx.Client) -> None:
    query = "small=300&small=1&day=x&nme=y&ids=1&price=1&limit=-1&offset=x"
    named = [
        (error["field"], error["code"])
        for error in problem(client.get(f"/endpoints/typed/run?{query}"), 400, "invalid_input")["errors"]
    ]
    assert dict(named) == {
        "small": "repeated",
        "limit": "out_of_range",
        "offset": "wrong_type",
        "nme": "unknown_variable",
        "day": "invalid_value",
        "name": "missing_variable",
    }
    assert len(named) == 6
    asked = {"variables": {"small": 300}, "limit": 10**9, "shape": "objects", "format": "csv"}
    body = problem(client.post("/endpoints/typed/run", json=asked), 400, "invalid_input")
    assert {"small", "day", "limit", "shape"} <= {error["field"] for error in body["errors"]}


@pytest.mark.parametrize("value", ["%FF", "%C3%28", "%ED%A0%80"])
def test_invalid_utf8_in_a_value(client: httpx.Client, ran, value: str) -> None:
    body = problem(client.get(f"/endpoints/usage/run?customer_id={value}"), 400, "invalid_input")
    assert [(error["field"], error["code"]) for error in body["errors"]] == [("customer_id", "not_utf8")]
    assert ran == []


def test_invalid_utf8_in_a_name(client: httpx.Client, ran) -> None:
    problem(client.get("/endpoints/usage/run?%FF=1"), 400, "malformed_query")
    assert ran == []


def test_a_query_string_too_long(client: httpx.Client) -> None:
    problem(client.get("/endpoints/usage/run?" + "a&" * 2_000), 400, "malformed_query")
    problem(client.get(f"/endpoints/usage/run?customer_id={'a' * 40_000}"), 400, "malformed_query")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"x"',
        b"1",
        b"null",
        b'{"variables": {"customer_id": NaN}}',
        b'{"variables": {"customer_id": Infinity}}',
        b'{"limit": 1e999}',
        b'{"limit": 1.00000000000000000000001}',
        b'{"variables": {"customer_id": "\xff"}}',
        b"\xff\xfe{\x00}\x00",
        b"[" * 200_000,
        b'{"limit": ' + b"9" * 10_000 + b"}",
        b'{"variables": {"customer_id": "a\nb"}}',
        b'{"\\ud800": 1}',
        b'{"variables": {"\\udfff": 1}}',
    ],
)
def test_malformed_bodies(client: httpx.Client, ran, body: bytes) -> None:
    answer = client.post("/endpoints/usage/run", content=body, headers={"content-type": "application/json"})
    problem(answer, 400, "malformed_body")
    assert ran == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"variables": {"customer_id": "acme"}, "filters": {}}', "filters"),
        ('{"customer_id": "acme"}', "customer_id"),
        ('{"variables": ["acme"]}', "variables"),
        ('{"variables": {"customer_id": "acme", "customer_id": "bolt"}}', "customer_id"),
        ('{"limit": 1, "limit": 2}', "limit"),
        ('{"variables": {"customer_id": 5}}', "customer_id"),
        ('{"variables": {"customer_id": null}}', "customer_id"),
        ('{"variables": {"customer_id": {"a": 1}}}', "customer_id"),
        ('{"variables": {"customer_id": "acme"}, "limit": "10"}', "limit"),
        ('{"variables": {"customer_id": "acme"}, "limit": true}', "limit"),
        ('{"variables": {"customer_id": "acme"}, "limit": 1.5}', "limit"),
        ('{"variables": {"customer_id": "acme"}, "version": "2"}', "version"),
        ('{"variables": {"customer_id": "acme"}, "refresh": 1}', "refresh"),
        ('{"variables": {"customer_id": "\\u0000"}}', "customer_id"),
        ('{"variables": {"customer_id": "\\ud800"}}', "customer_id"),
        ('{"refresh": "\\ud800"}', "refresh"),
    ],
)
def test_body_fields(client: httpx.Client, ran, body: str, field: str) -> None:
    answer = client.post("/endpoints/usage/run", content=body, headers={"content-type": "application/json"})
    assert field in [error["field"] for error in problem(answer, 400, "invalid_input")["errors"]]
    assert ran == []


def test_other_bodies(client: httpx.Client) -> None:
    url = "/endpoints/usage/run"
    problem(client.post(url, content=b"customer_id=acme"), 415, "unsupported_media_type")
    problem(client.post(url, data={"customer_id": "acme"}), 415, "unsupported_media_type")
    json_type = {"content-type": "application/json"}
    problem(client.post(url, content=b" " * 1_048_577, headers=json_type), 413, "body_too_large")
    chunks = (b" " * 65_536 for _ in range(17))  # no Content-Length tells
    problem(client.post(url, content=chunks, headers=json_type), 413, "body_too_large")
    problem(client.post(f"{url}?limit=1", json={}), 400, "invalid_input")
    problem(client.request("GET", url, content=b"{}"), 400, "malformed_body")


def test_an_accept_that_nothing_fits(client: httpx.Client, ran) -> None:
    headers = {"accept": "application/avro"}
    problem(client.get("/endpoints/usage/run?customer_id=acme", headers=headers), 406, "not_acceptable")
    assert ran == []


def test_names_that_are_not_there(client: httpx.Client, ran) -> None:
    body = problem(client.get("/endpoints/usgae/run"), 404, "unknown_endpoint")
    assert body["near"] == ["usage"]
    body = problem(client.get("/endpoints/usage/run?version=9"), 404, "unknown_version")
    assert "1, 2, 3" in body["detail"]
    problem(client.get("/endpoints/broken/run"), 503, "broken_definition")
    body = problem(client.get("/endpoints/usage/run?version=1&customer_id=acme"), 410, "sunset")
    assert body["successor"] == 2
    assert ran == []


def test_a_failing_query_tells_nothing_of_itself(client: httpx.Client) -> None:
    answer = client.get("/endpoints/failing/run?at=5")
    problem(answer, 503, "query_failed")
    for leak in ("secret", "throwIf", "SELECT", "Code", "Exception", "numbers"):
        assert leak not in answer.text


def test_a_column_that_cannot_be_sent_is_found_before_the_query_runs(client: httpx.Client, ran) -> None:
    problem(client.get("/endpoints/odd/run"), 503, "unsupported_type")
    assert ran == []


def test_a_query_that_runs_out_of_time(client: httpx.Client) -> None:
    problem(client.get("/endpoints/impatient/run?rest=3"), 504, "query_timeout")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=40))
def test_any_bytes_as_a_query_string(client: httpx.Client, ran, raw: bytes) -> None:
    query = "".join(f"%{byte:02X}" if byte < 33 or byte > 126 or byte in b"#" else chr(byte) for byte in raw)
    answer = client.get(f"/endpoints/guarded/run?{query}")
    assert answer.status_code in (400, 503)  # 503: it was a good customer_id, and there is no asset
    assert ran == []


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["variables", "customer_id", "limit", "version", "x"]), inner, max_size=3
            )
        ),
        max_leaves=8,
    )
)
def test_any_json_as_a_body(client: httpx.Client, ran, body: object) -> None:
    raw = json.dumps(body).encode()
    answer = client.post("/endpoints/guarded/run", content=raw, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 404, 503)
    assert answer.headers["content-type"] == "application/problem+json"
    assert ran == []
