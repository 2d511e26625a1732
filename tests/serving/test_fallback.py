"""Design §5's table: what every state of an asset answers, under every `live_when`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from endpoints.errors import BadQuery, OverLimit, QueryTimeout, WarehouseError, WarehouseUnavailable
from endpoints.lake.manifest import Server
from endpoints.lake.read import AssetReader
from endpoints.query.bind import Bound, live_statement
from endpoints.types import example_value
from serving.clock import Clock

Serve = Callable[[], httpx.Client]
OLD = timedelta(hours=5)
ACME = {"customer_id": "acme"}
ACME_ROWS = [["2026-01-01", "click", 1, 3], ["2026-01-01", "view", 1, 1], ["2026-01-02", "click", 2, 11]]


def stage(stand, key: str, state: str) -> None:
    if state != "missing":
        stand.publish(key, age=OLD if state == "stale" else timedelta(minutes=5))
    if state in ("failed", "breached"):
        stand.fail(key, state)
    if state == "refused":
        stand.fail(key, "failed", unservable=True)


@pytest.mark.parametrize(
    ("name", "state", "source", "reason"),
    [
        ("usage", "fresh", "asset", None),
        ("usage", "stale", "live", "stale"),
        ("usage", "failed", "live", "failed"),
        ("usage", "breached", "live", "breached"),
        ("usage", "refused", "live", "unservable"),
        ("usage", "missing", "live", "missing"),
        ("careful", "fresh", "asset", None),
        ("careful", "stale", "stale", "stale"),
        ("careful", "failed", "stale", "failed"),
        ("careful", "breached", "stale", "breached"),
        ("careful", "missing", "live", "missing"),
        ("guarded", "fresh", "asset", None),
        ("guarded", "stale", "stale", "stale"),
        ("guarded", "failed", "stale", "failed"),
        ("guarded", "breached", "stale", "breached"),
        ("guarded", "missing", None, "missing"),
    ],
)
def test_every_row_of_the_table(stand, serve: Serve, name, state, source, reason) -> None:
    key = "usage@2" if name == "usage" else name
    stage(stand, key, state)
    answer = serve().get(f"/endpoints/{name}/run", params=ACME)
    if source is None:
        assert answer.status_code == 503
        assert answer.json()["code"] == "no_asset"
        assert answer.json()["reason"] == reason
        assert answer.headers["retry-after"]
        assert stand.warehouse.ran == []
        return
    assert answer.status_code == 200
    body = answer.json()
    assert (body["source"], body["reason"]) == (source, reason)
    assert body["results"] == ACME_ROWS
    assert body["types"] == ["Date", "String", "UInt64", "Int64"]
    assert answer.headers["x-endpoint-source"] == source
    assert answer.headers.get("x-endpoint-reason") == reason
    assert len(stand.warehouse.ran) == (1 if source == "live" else 0)


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (WarehouseUnavailable("gone: secret"), "unavailable"),
        (QueryTimeout("slow: secret"), "timeout"),
        (OverLimit("memory: secret"), "over_limit"),
        (BadQuery("near 'secret'"), "failed"),
    ],
)
def test_live_fails_and_an_older_asset_stands_in(
    stand, serve: Serve, error: WarehouseError, word: str
) -> None:
    stand.publish("usage@2", age=OLD)
    client = serve()
    stand.warehouse.error = error
    answer = client.get("/endpoints/usage/run", params=ACME)
    assert answer.status_code == 200
    assert answer.json()["source"] == "stale"
    assert answer.json()["reason"] == "stale"
    assert answer.json()["results"] == ACME_ROWS
    assert answer.headers["x-endpoint-live-error"] == word
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (WarehouseUnavailable("gone: secret"), 503, "unavailable"),
        (QueryTimeout("slow: secret"), 504, "query_timeout"),
        (OverLimit("memory: secret"), 503, "query_over_limit"),
        (BadQuery("near 'secret'"), 503, "query_failed"),
    ],
)
def test_live_fails_and_there_is_nothing_else(
    stand, serve: Serve, error: WarehouseError, status: int, code: str
) -> None:
    client = serve()
    stand.warehouse.error = error
    answer = client.get("/endpoints/usage/run", params=ACME)
    assert answer.status_code == status
    assert answer.json()["code"] == code
    assert answer.headers["retry-after"]
    assert "secret" not in answer.text


def test_slow_live_gives_way_to_the_older_asset_and_ends_for_the_cache(stand, serve: Serve) -> None:
    stand.publish("usage@2", age=OLD)
    client = serve()
    stand.warehouse.open.clear()
    answer = client.get("/endpoints/usage/run", params=ACME)
    assert answer.json()["source"] == "stale"
    assert answer.headers["x-endpoint-live-error"] == "slow"
    stand.warehouse.open.set()

    def cached() -> bool:
        later = client.get("/endpoints/usage/run", params=ACME).json()
        return later["source"] == "live" and later["is_cached"]

    stand.until(cached)
    assert len(stand.warehouse.ran) == 1


def test_publishing_drops_a_kept_live_result(stand, serve: Serve) -> None:
    client = serve()
    assert client.get("/endpoints/usage/run", params=ACME).json()["source"] == "live"
    assert client.get("/endpoints/usage/run", params=ACME).json()["is_cached"] is True
    stand.publish("usage@2")
    stand.until(lambda: client.get("/endpoints/usage/run", params=ACME).json()["source"] == "asset")


def test_an_input_error_never_falls_back(stand, serve: Serve) -> None:
    stand.publish("usage@2", age=OLD)
    answer = serve().get("/endpoints/usage/run", params={"customer_id": "ACME!"})
    assert answer.status_code == 400
    assert stand.warehouse.ran == []


@pytest.mark.parametrize("damage", ["changed", "deleted"])
def test_corrupt_files_run_live(stand, serve: Serve, caplog, damage: str) -> None:
    stand.publish("usage@2")
    (file,) = stand.files("usage@2")
    if damage == "deleted":
        file.unlink()
    else:
        raw = bytearray(file.read_bytes())
        raw[len(raw) // 2] ^= 0xFF
        file.write_bytes(raw)
    client = serve()
    for _ in range(2):
        body = client.get("/endpoints/usage/run", params=ACME).json()
        assert (body["source"], body["reason"]) == ("live", "corrupt")
        assert body["results"] == ACME_ROWS
    assert "usage@2" in caplog.text
    stand.publish("usage@2")
    stand.until(lambda: client.get("/endpoints/usage/run", params=ACME).json()["source"] == "asset")


def test_corrupt_files_of_a_version_that_never_runs_live(stand, serve: Serve) -> None:
    stand.publish("guarded")
    stand.files("guarded")[0].write_bytes(b"not parquet")
    answer = serve().get("/endpoints/guarded/run", params=ACME)
    assert answer.status_code == 503
    assert answer.json()["reason"] == "corrupt"
    assert stand.warehouse.ran == []


def test_a_snapshot_of_another_definition_counts_as_missing(stand, serve: Serve) -> None:
    version = stand.version("usage@2")
    attempt = stand.lake.begin("usage", 2, fingerprint="another", run_id="run-0")
    values = {name: example_value(variable.type) for name, variable in version.variables.items()}
    statement = live_statement(Bound(version, values, frozenset(), ""))
    columns = stand.warehouse.inner.describe(statement)
    with attempt.writer("all", columns) as writer:
        files = writer.close()
    attempt.publish({"all": attempt.entry(files, columns, as_of=datetime.now(UTC))}, Server("26", "UTC"))
    body = serve().get("/endpoints/usage/run", params=ACME).json()
    assert (body["source"], body["reason"]) == ("live", "changed")


def test_direct_skips_the_asset_and_force_only_the_cache(stand, serve: Serve) -> None:
    stand.publish("usage@2")
    client = serve()
    direct = client.get("/endpoints/usage/run", params={**ACME, "refresh": "direct"}).json()
    assert (direct["source"], direct["reason"]) == ("live", "direct")
    assert direct["results"] == ACME_ROWS
    assert client.get("/endpoints/usage/run", params={**ACME, "refresh": "force"}).json()["source"] == "asset"
    refused = client.get("/endpoints/guarded/run", params={**ACME, "refresh": "direct"})
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["field"] == "refresh"


def test_live_only_versions_say_so(stand, serve: Serve) -> None:
    body = serve().get("/endpoints/numbers/run", params={"n": "2"}).json()
    assert (body["source"], body["reason"]) == ("live", "not_materialized")
    assert body["results"] == [[0, "n0"], [1, "n1"]]


def test_asset_and_live_give_the_same_answer(stand, serve: Serve) -> None:
    stand.publish("usage@2")
    client = serve()
    pages: list[dict[str, str]] = [{}, {"limit": "1"}, {"limit": "2", "offset": "1"}, {"offset": "99"}]
    questions = [{"customer_id": name, **page} for name in ("acme", "nobody") for page in pages]
    questions.append({"customer_id": "bolt", "shape": "objects", "integers": "string"})
    for params in questions:
        asset = client.get("/endpoints/usage/run", params=params)
        live = client.get("/endpoints/usage/run", params={**params, "refresh": "direct"})
        assert asset.headers["x-endpoint-source"] == "asset"
        for field in ("columns", "types", "results", "hasMore", "limit", "offset"):
            assert asset.json()[field] == live.json()[field]
        asset = client.get("/endpoints/usage/run", params={**params, "shape": "arrays", "format": "csv"})
        live = client.get(asset.url.copy_add_param("refresh", "direct"))
        assert asset.text == live.text
        assert asset.headers["x-endpoint-has-more"] == live.headers["x-endpoint-has-more"]


def test_a_reader_that_breaks_is_no_reason_to_break(stand, serve: Serve, monkeypatch, caplog) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise KeyError("a mistake of ours")

    monkeypatch.setattr(AssetReader, "read", broken)
    stand.publish("usage@2")
    body = serve().get("/endpoints/usage/run", params=ACME).json()
    assert (body["source"], body["reason"]) == ("live", "corrupt")
    assert "a mistake of ours" in caplog.text


def test_what_the_plan_leaves_to_read_time(stand, serve: Serve) -> None:
    stand.publish("since")
    client = serve()
    params = {"customer_id": "acme", "since": "2026-01-02"}
    for more in ({}, {"refresh": "direct"}):
        body = client.get("/endpoints/since/run", params={**params, **more}).json()
        assert body["results"] == [["click", 2, 2]]
        assert body["source"] == ("live" if more else "asset")


@pytest.mark.parametrize(
    ("since", "source", "reason", "clicks"),
    [("2025-12-29", "asset", None, 3), ("2026-01-02", "live", "unaligned", 2)],
)
def test_a_bound_within_a_bucket_runs_live(stand, serve: Serve, since, source, reason, clicks) -> None:
    stand.publish("weekly")
    answer = serve().get("/endpoints/weekly/run", params={"since": since})
    body = answer.json()
    assert (body["source"], body["reason"]) == (source, reason)
    assert body["results"][0] == ["click", clicks]
    assert answer.headers.get("x-endpoint-reason") == reason


def test_a_wall_clock_that_is_set_forward_and_back(stand, serve: Serve) -> None:
    """Freshness follows the wall; what is kept, and for how long, does not."""
    ahead = timedelta()
    stand.prepare.append(lambda service: setattr(service, "clock", Clock(lambda: datetime.now(UTC) + ahead)))
    stand.publish("usage@2")
    client = serve()

    def get(name: str = "usage", **more: str) -> httpx.Response:
        answer = client.get(f"/endpoints/{name}/run", params={**ACME, **more} if name == "usage" else more)
        assert answer.status_code == 200, answer.text
        assert int(answer.headers.get("age", "0")) >= 0
        return answer

    def source(**more: str) -> tuple[str, str | None]:
        body = get(**more).json()
        return body["source"], body["reason"]

    page = get(limit="1").json()
    assert page["source"] == "asset"
    assert get("numbers", n="3").json()["is_cached"] is False
    ahead = timedelta(hours=6)
    stand.until(lambda: source() == ("live", "stale"))
    assert get("numbers", n="3").json()["is_cached"] is True, "kept for 60 s, of which none has passed"
    stand.warehouse.error = WarehouseUnavailable("down")
    behind = get(refresh="force")
    assert (behind.json()["source"], behind.headers["x-endpoint-live-error"]) == ("stale", "unavailable")
    assert int(behind.headers["x-endpoint-data-age"]) >= 6 * 3600
    ahead = timedelta(hours=-6)
    stand.until(lambda: source() == ("asset", None))
    early = get()
    assert early.headers["x-endpoint-data-age"] == "0"
    assert "max-age=60," in early.headers["cache-control"]
    rest = get(cursor=page["nextCursor"]).json()
    assert page["results"] + rest["results"] == ACME_ROWS, "a cursor of the time before goes on"
    assert get("numbers", n="3").json()["is_cached"] is True
