from __future__ import annotations

import threading
from collections import Counter

import pytest

from endpoints.errors import StoreUnavailable
from endpoints.lake.follow import EVERY_SECONDS, Follower
from endpoints.lake.layout import hint_key, manifest_key
from endpoints.lake.manifest import Server, encode_tombstone
from endpoints.lake.publish import Lake
from endpoints.lake.store import Store


class Watched(Store):
    """A store that counts its requests, and can go away."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.requests: Counter[str] = Counter()
        self.down = False

    def get(self, key: str) -> bytes | None:
        self._request("get")
        return super().get(key)

    def list(self, prefix: str, after: str | None = None):
        self._request("list")
        return super().list(prefix, after)

    def _request(self, kind: str) -> None:
        if self.down:
            raise StoreUnavailable("gone")
        self.requests[kind] += 1


@pytest.fixture
def store(lake_url: str) -> Watched:
    return Watched(lake_url)


@pytest.fixture
def follower(lake: Lake) -> Follower:
    return Follower(lake)


def number(follower: Follower, endpoint: str = "usage") -> int:
    manifest = follower.manifest(endpoint, 1)
    return manifest.number if manifest else 0


def test_one_round_sees_every_publish(lake: Lake, follower: Follower, publish) -> None:
    follower.refresh()
    assert follower.manifest("usage", 1) is None
    for minute in range(1, 4):
        manifest = publish(lake, {"all": [minute]}, minute=minute).manifest
        follower.refresh()
        assert follower.manifest("usage", 1) == manifest
    assert EVERY_SECONDS <= 2, "a publish is to be seen within five seconds"


def test_what_is_known_costs_no_request(store: Watched, lake: Lake, follower: Follower, publish) -> None:
    publish(lake, {"all": [1]}, minute=1)
    follower.refresh()
    store.requests.clear()
    assert number(follower) == 1
    assert not store.requests


@pytest.mark.parametrize("known", [0, 1])
def test_a_publish_whose_hint_was_lost_is_still_seen(
    store, lake, follower: Follower, publish, known: int
) -> None:
    for minute in range(known):
        publish(lake, {"all": [minute]}, minute=minute)
    follower.watch([("usage", 1)])
    follower.refresh()
    assert number(follower) == known
    hint = store.get(hint_key("usage", 1))
    publish(lake, {"all": [9]}, minute=9)
    store.put(hint_key("usage", 1), hint) if hint else store.delete(hint_key("usage", 1))
    follower.refresh()
    assert number(follower) == known + 1


def test_a_version_asked_for_is_watched(store: Watched, lake: Lake, follower: Follower, publish) -> None:
    publish(lake, {"all": [1]}, minute=1)
    store.delete(hint_key("usage", 1))
    follower.refresh()
    assert follower.manifest("usage", 1) is None
    follower.refresh()
    assert number(follower) == 1


def test_a_hint_that_goes_back_or_lies_changes_nothing(lake: Lake, store, follower, publish) -> None:
    for minute in range(3):
        publish(lake, {"all": [minute]}, minute=minute)
    follower.refresh()
    for hint in (b'{"number": 1}', b'{"number": 50}', b"nonsense"):
        store.put(hint_key("usage", 1), hint)
        follower.refresh()
        assert number(follower) == 3
        fresh = Follower(lake)
        fresh.refresh()
        assert number(fresh) == 3


def test_a_store_that_is_down_leaves_what_is_known(lake: Lake, store: Watched, follower, publish) -> None:
    publish(lake, {"all": [1]}, minute=1)
    assert not follower.healthy
    follower.refresh()
    assert follower.healthy
    refreshed = follower.last_refresh
    store.down = True
    with pytest.raises(StoreUnavailable):
        follower.refresh()
    assert number(follower) == 1
    assert follower.last_refresh == refreshed
    store.down = False
    publish(lake, {"all": [2]}, minute=2)
    follower.refresh()
    assert number(follower) == 2


def test_without_a_good_round_for_a_while_it_is_unhealthy(lake, follower, monkeypatch) -> None:
    follower.refresh()
    monkeypatch.setattr("endpoints.lake.follow.UNHEALTHY_AFTER_SECONDS", 0.0)
    assert not follower.healthy


def test_an_idle_reader_jumps_over_collected_numbers(lake: Lake, store: Watched, follower, publish) -> None:
    publish(lake, {"all": [0]}, minute=0)
    follower.refresh()
    for minute in range(1, 40):
        publish(lake, {"all": [minute]}, minute=minute)
    for gone in range(1, 40):
        store.put(manifest_key("usage", 1, gone), encode_tombstone(40))
    store.requests.clear()
    follower.refresh()
    assert number(follower) == 40
    assert store.requests["get"] < 12, "a walk of forty steps would take forty"


def test_a_manifest_that_cannot_be_read_leaves_the_one_before(lake, store, follower, publish, caplog) -> None:
    publish(lake, {"all": [1]}, minute=1)
    lake.begin("other", 1, fingerprint="f", run_id="r").fail("failed", "no")
    follower.refresh()
    store.put_new(manifest_key("usage", 1, 2), b"{")
    lake.begin("other", 1, fingerprint="f", run_id="r").fail("failed", "no")
    follower.refresh()
    assert number(follower) == 1
    assert number(follower, "other") == 2, "others are followed all the same"
    assert "is not a manifest" in caplog.text


def test_thousands_of_versions_cost_one_listing_and_a_few_walks(disk: Lake, entry) -> None:
    store = Watched(disk.store.url)
    for name in range(300):
        disk.begin(f"e{name}", 1, fingerprint="f", run_id="r").publish({"all": entry()}, Server())
    follower = Follower(Lake(store), walks_per_round=20)
    follower.refresh()
    assert sum(number(follower, f"e{name}") for name in range(300)) == 300
    store.requests.clear()
    follower.refresh()
    assert store.requests == {"list": 1, "get": 20}
    for name in (7, 250):
        disk.begin(f"e{name}", 1, fingerprint="f", run_id="r").publish({"all": entry(1)}, Server())
    follower.refresh()
    assert number(follower, "e7") == number(follower, "e250") == 2


def test_every_version_is_walked_in_turn(disk: Lake, entry) -> None:
    for name in range(30):
        disk.begin(f"e{name}", 1, fingerprint="f", run_id="r").publish({"all": entry()}, Server())
    follower = Follower(disk, walks_per_round=10)
    follower.refresh()
    hints = {found.key: disk.store.get(found.key) for found in disk.store.list("_heads")}
    for name in range(30):
        disk.begin(f"e{name}", 1, fingerprint="f", run_id="r").publish({"all": entry(1)}, Server())
    for key, hint in hints.items():
        disk.store.put(key, hint)
    hints_changed = 1  # rewritten with what they said before, they still look new to one round
    for _ in range(hints_changed + 3):
        follower.refresh()
    assert [number(follower, f"e{name}") for name in range(30)] == [2] * 30


def test_the_thread_follows_and_stops(lake: Lake, publish) -> None:
    follower = Follower(lake, every=0.05)
    follower.start()
    try:
        assert follower.wait_ready(60)
        publish(lake, {"all": [1]}, minute=1)
        seen = threading.Event()
        while not seen.wait(0.02):
            if number(follower) == 1:
                seen.set()
    finally:
        follower.stop()
    assert "lake-follower" not in {thread.name for thread in threading.enumerate()}


def test_the_thread_outlives_a_store_that_goes_away(disk: Lake, publish) -> None:
    store = Watched(disk.store.url)
    store.down = True
    follower = Follower(Lake(store), every=0.02)
    follower.start()
    try:
        assert not follower.wait_ready(0.2)
        store.down = False
        assert follower.wait_ready(60)
    finally:
        follower.stop()
