"""What answers tell the caches between here and their reader: whose they are, and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from endpoints.warehouse.protocol import Warehouse
from tests.serving.conftest import Stand, make_stand, starter
from tests.serving.deployed import define

OPEN = "current: 1\nversions: {1: {public: true, cache: 60s}}\n"
PRIVATE = "current: 1\nversions: {1: {public: true, variables: {n: {private: true}}}}\n"


@pytest.fixture
def stand(real_warehouse: Warehouse, tmp_path: Path) -> Stand:
    for name, yaml in {"open": OPEN, "closed": PRIVATE}.items():
        define(tmp_path, name, "SELECT number AS n FROM numbers({n:UInt8})", yaml)
    return make_stand(tmp_path, real_warehouse, tmp_path)


@pytest.fixture
def client(stand: Stand) -> Iterator[httpx.Client]:
    with ExitStack() as stack:
        yield starter(stand, stack)()


def control(answer: httpx.Response) -> str:
    assert answer.status_code in (200, 304), answer.text
    return answer.headers["cache-control"]


def test_public_answers_may_be_shared(client: httpx.Client, stand: Stand) -> None:
    for _ in range(3):
        assert control(client.get("/endpoints/open/run?n=2")).startswith("public, max-age=60,")
    pinned = stand.keys.create("pinned", pins={"n": "2"})[1]
    for _ in range(3):
        mine = client.get("/endpoints/open/run", headers={"X-API-Key": pinned})
        assert control(mine).startswith("private, max-age=")


def test_values_of_private_variables_are_never_shared(client: httpx.Client) -> None:
    for _ in range(3):
        assert control(client.get("/endpoints/closed/run?n=2")).startswith("private, max-age=60,")


def test_what_operators_see_is_kept_by_no_cache(client: httpx.Client) -> None:
    answer = client.get("/endpoints/open/run?n=2&debug=true")
    assert "debug" in answer.json()
    assert control(answer) == "no-store"
    assert "etag" not in answer.headers


def test_the_age_of_a_reused_result_does_not_count_twice(client: httpx.Client, stand: Stand) -> None:
    """A cache takes Age from max-age (RFC 9111 §4.2): what is left is left there too, and no more."""
    client.get("/endpoints/open/run?n=2")

    def reused() -> httpx.Response:
        answer = client.get("/endpoints/open/run?n=2")
        assert control(answer).startswith("public, max-age=60,"), "of 60 s"
        return answer

    stand.until(lambda: int(reused().headers["age"]) >= 2)
