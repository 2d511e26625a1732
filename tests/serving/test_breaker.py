"""Who fails again and again is left alone, then tried by one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.errors import BadQuery, QueryCancelled, QueryTimeout, WarehouseUnavailable
from serving.breaker import LOST_CONNECTIONS, MOST_REST, TIMEOUTS, VERSION_RESTS, WAREHOUSE_RESTS, Breakers
from serving.problems import BreakerOpen

Serve = Callable[..., httpx.Client]


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def run(breakers: Breakers, version: str, error: Exception | None) -> None:
    breakers.enter(version)
    breakers.ended(version, error)


def test_lost_connections_open_it_for_every_version() -> None:
    clock = Time()
    breakers = Breakers(monotonic=clock)
    for _ in range(LOST_CONNECTIONS - 1):
        run(breakers, "a@1", WarehouseUnavailable("gone"))
    run(breakers, "a@1", BadQuery("it answers"))
    for _ in range(LOST_CONNECTIONS):
        run(breakers, "a@1", WarehouseUnavailable("gone"))
    for version in ("a@1", "b@1"):
        with pytest.raises(BreakerOpen) as refused:
            breakers.enter(version)
        assert refused.value.headers["Retry-After"] == str(int(WAREHOUSE_RESTS))
    assert breakers.open == 1
    clock.now += WAREHOUSE_RESTS
    breakers.enter("b@1")  # the probe
    with pytest.raises(BreakerOpen):
        breakers.enter("a@1")
    breakers.ended("b@1", QueryCancelled("its caller has gone"))
    run(breakers, "b@1", None)
    run(breakers, "a@1", None)
    assert breakers.open == 0


def test_timeouts_open_it_for_one_version_and_rests_grow() -> None:
    clock = Time()
    breakers = Breakers(monotonic=clock)
    for _ in range(TIMEOUTS):
        run(breakers, "a@1", QueryTimeout("slow"))
    rest = VERSION_RESTS
    for _ in range(5):
        with pytest.raises(BreakerOpen):
            breakers.enter("a@1")
        run(breakers, "b@1", None)
        clock.now += rest
        run(breakers, "a@1", QueryTimeout("still"))
        rest = min(MOST_REST, rest * 2)
    clock.now += rest
    run(breakers, "a@1", None)
    run(breakers, "a@1", QueryTimeout("once"))
    breakers.require("a@1")


ERRORS = [None, WarehouseUnavailable("x"), QueryTimeout("x"), BadQuery("x"), QueryCancelled("x")]


@given(st.lists(st.tuples(st.sampled_from(ERRORS), st.floats(0, 100))))
def test_it_always_opens_again(steps: list[tuple[Exception | None, float]]) -> None:
    clock = Time()
    breakers = Breakers(monotonic=clock)
    for error, seconds in steps:
        clock.now += seconds
        try:
            breakers.enter("a@1")
        except BreakerOpen:
            continue
        breakers.ended("a@1", error)
    clock.now += MOST_REST
    run(breakers, "a@1", None)
    assert breakers.open == 0


def test_callers_hear_of_it(stand, serve: Serve) -> None:
    stand.publish("usage@2", age=timedelta(hours=5))
    client = serve()
    stand.warehouse.error = WarehouseUnavailable("nobody there")
    words = [
        client.get("/endpoints/usage/run?customer_id=acme").headers["x-endpoint-live-error"]
        for _ in range(LOST_CONNECTIONS + 1)
    ]
    assert words == ["unavailable"] * LOST_CONNECTIONS + ["breaker"]
    asked = len(stand.warehouse.ran)
    refused = client.get("/endpoints/numbers/run?n=1")
    assert (refused.status_code, refused.json()["code"]) == (503, "breaker_open")
    assert int(refused.headers["retry-after"]) in (1, 2)
    assert len(stand.warehouse.ran) == asked
    stand.warehouse.error = None
    stand.until(lambda: client.get("/endpoints/numbers/run?n=1").status_code == 200)
