"""The steps of a request's path, by what each one spares the next."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import httpx

from endpoints.errors import WarehouseUnavailable
from endpoints.usage import RunRecord
from serving.answer import Encoded
from serving.problems import HttpProblem, LiveRateSpent
from serving.results import OVERHEAD, Results
from serving.service import Service

Serve = Callable[..., httpx.Client]
URL = "/endpoints/usage/run?customer_id=acme"


class Recorded:
    """The records of a service's runs."""

    def __init__(self, service: Service) -> None:
        self.runs: list[RunRecord] = []
        service.records = self

    def record(self, run: RunRecord) -> None:
        self.runs.append(run)

    def again(self, run: RunRecord, at: float, duration: float) -> None:
        self.runs.append(run._replace(at=at, duration=duration))


class Limited:
    """Limits that a test sets."""

    def __init__(self) -> None:
        self.spent = self.live_spent = False
        self.admitted: list[tuple[str, bool]] = []

    async def admit(self, scope, principal) -> None:
        return None

    async def run(self, scope, version, *, fresh) -> None:
        self.admitted.append((version.key, fresh))
        if self.spent:
            raise HttpProblem("rate_limited", headers={"Retry-After": "17"})

    def dues(self, principal, version) -> tuple[()]:
        return ()

    def pay_at_once(self, scope, principal, dues) -> bool:
        return False

    async def start_live(self, scope) -> None:
        if self.live_spent:
            raise LiveRateSpent(headers={"Retry-After": "9"})

    async def close(self) -> None:
        return None


def limited(stand) -> Limited:
    limits = Limited()
    stand.prepare.append(lambda service: setattr(service, "limits", limits))
    return limits


def recorded(stand) -> list[RunRecord]:
    runs: list[RunRecord] = []
    stand.prepare.append(lambda service: setattr(Recorded(service), "runs", runs))
    return runs


def test_a_known_answer_touches_no_data(stand, serve: Serve) -> None:
    stand.publish("usage@2")
    client = serve()
    first = client.get(URL)
    for file in stand.files("usage@2"):
        file.unlink()  # whoever reads now will notice
    stand.services[0].assets._reader._groups.__init__(0)  # nothing is decoded any more
    again = client.get(URL)
    assert again.content == first.content
    own = dict.fromkeys(("server-timing", "x-request-id", "x-endpoint-data-age", "ratelimit"), "")
    assert {**again.headers, **own} == {**first.headers, **own}
    assert "asset" not in again.headers["server-timing"]
    forced = client.get(f"{URL}&refresh=force")
    assert (forced.json()["source"], forced.json()["reason"]) == ("live", "corrupt")


def test_a_new_snapshot_is_another_answer(stand, serve: Serve) -> None:
    stand.publish("usage@2")
    client = serve()
    before = client.get(URL).headers["etag"]
    stand.publish("usage@2")
    stand.until(lambda: client.get(URL).headers["etag"] != before)


def test_results_stay_within_their_budget() -> None:
    results = Results(10 * (OVERHEAD + 100))
    for number in range(50):
        results.put(number, Encoded(bytes(100), (), 1))
        results.get(0)
    assert len(results) == 10
    assert results.get(0) is not None
    assert results.get(49) is not None
    assert results.get(30) is None
    results.put("large", Encoded(bytes(5 * (OVERHEAD + 100)), (), 1))
    assert results.get("large") is None
    results.put(49, Encoded(bytes(100), (), 1))
    assert results.held_bytes == 10 * (OVERHEAD + 100)
    assert Results(0).get(1) is None


def test_limits_come_after_the_input_and_before_the_data(stand, serve: Serve) -> None:
    stand.publish("usage@2")
    limits = limited(stand)
    client = serve()
    wrong = client.get("/endpoints/usage/run")
    assert (wrong.status_code, limits.admitted) == (400, [])
    first = client.get(URL)
    for answer in (
        first,
        client.get(URL),
        client.get(URL, headers={"If-None-Match": first.headers["etag"]}),
        client.get("/endpoints/failing/run?at=3"),
    ):
        assert answer.status_code in (200, 304, 503)
    assert limits.admitted[0] == ("usage@2", False)
    limits.spent = True
    refused = client.get(URL)
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert refused.headers["retry-after"] == "17"


def test_only_a_request_that_starts_a_query_pays_for_it(stand, serve: Serve) -> None:
    limits = limited(stand)
    client = serve()
    live = "/endpoints/numbers/run?n=2"
    assert client.get(live).status_code == 200
    limits.live_spent = True
    assert client.get(live).json()["is_cached"] is True
    refused = client.get(f"{live}&refresh=force")
    assert (refused.status_code, refused.json()["code"]) == (429, "live_rate_limited")
    assert refused.headers["retry-after"] == "9"
    stand.publish("usage@2", age=timedelta(hours=5))
    client = serve()
    stale = client.get(URL)
    assert (stale.json()["source"], stale.headers["x-endpoint-live-error"]) == ("stale", "rate")


def test_every_run_leaves_one_record(stand, serve: Serve) -> None:
    stand.publish("usage@2")
    runs = recorded(stand)
    client = serve()
    first = client.get(URL)
    known = client.get(URL)
    client.get(URL, headers={"If-None-Match": first.headers["etag"]})
    client.head(URL)
    client.get("/endpoints/usage/run?customer_id=")
    client.get("/endpoints/nowhere/run")
    live = client.get("/endpoints/numbers/run?n=2")
    client.get(URL, headers={"X-API-Key": "ep_0000000000000000_" + "a" * 43})
    stand.until(lambda: len(runs) >= 7)
    key_id = stand.key.split("_")[1]
    size = len(first.content)
    assert [run[1:7] + run[8:] for run in runs] == [
        ("usage", 2, key_id, "asset", None, 200, 3, size, False),
        ("usage", 2, key_id, "asset", None, 200, 3, len(known.content), True),
        ("usage", 2, key_id, "asset", None, 304, 0, 0, True),
        ("usage", 2, key_id, "asset", None, 200, 3, 0, True),
        ("usage", 2, key_id, None, None, 400, 0, runs[4].bytes, False),
        ("", None, key_id, None, None, 404, 0, runs[5].bytes, False),
        ("numbers", 1, key_id, "live", "not_materialized", 200, 2, len(live.content), False),
    ]
    assert all(run.bytes > 0 for run in runs[4:6])
    assert all(0 < run.duration < 30 for run in runs)


def test_refused_runs_count_for_the_endpoint_that_was_meant(stand, serve: Serve) -> None:
    """Its owner wants to know who still calls what has ended; nobody learns of what a key may not see."""
    stand.publish("usage@2")
    stand.files("usage@2")[0].write_bytes(b"not parquet")
    runs = recorded(stand)
    narrow = stand.keys.create("narrow", endpoints=("numbers",))[1]
    client = serve()
    stand.warehouse.error = WarehouseUnavailable("down")
    asked = [
        ("/endpoints/USAGE/run?customer_id=acme&version=1", stand.key, ("usage", 1, 410)),
        ("/endpoints/usage/run?customer_id=acme&version=99", stand.key, ("usage", None, 404)),
        ("/endpoints/usage/run?customer_id=a&limit=1&limit=2", stand.key, ("usage", 2, 400)),
        (URL, stand.key, ("usage", 2, 503)),
        ("/endpoints/broken/run", stand.key, ("broken", None, 503)),
        (URL, narrow, ("", None, 404)),
    ]
    for path, key, _ in asked:
        client.get(path, headers={"X-API-Key": key})
    stand.until(lambda: len(runs) == len(asked))
    assert [(run.endpoint, run.version, run.status) for run in runs] == [told for _, _, told in asked]
    assert {(run.source, run.rows, run.cached) for run in runs} == {(None, 0, False)}


def test_every_answer_tells_how_long_it_took(stand, serve: Serve) -> None:
    client = serve()
    for path in (
        "/healthz",
        "/readyz",
        "/endpoints",
        "/nope",
        "/endpoints/usage/run",
        "/endpoints/numbers/run?n=1",
    ):
        assert "total;dur=" in client.get(path).headers["server-timing"], path
    assert "total;dur=" in client.options("/endpoints").headers["server-timing"]
