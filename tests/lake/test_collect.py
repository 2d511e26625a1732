from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from endpoints.lake.collect import collect
from endpoints.lake.follow import Follower
from endpoints.lake.layout import hint_key, manifest_key
from endpoints.lake.manifest import Manifest, Server, Tombstone
from endpoints.lake.publish import Lake

DAY = timedelta(hours=24)


def run(lake: Lake, *, keep: int = 1, hours: float = 25):
    """A pass so many hours from now."""
    return collect(lake, "usage", 1, now=datetime.now(UTC) + timedelta(hours=hours), retention=DAY, keep=keep)


def data(lake: Lake) -> set[str]:
    return {
        found.key.removeprefix("endpoints/usage/v1/") for found in lake.store.list("endpoints/usage/v1/data")
    }


def test_old_manifests_become_tombstones_and_their_data_goes(lake: Lake, publish) -> None:
    manifests = [publish(lake, {"all": [minute]}, minute=minute).manifest for minute in range(5)]
    done = run(lake)
    assert (done.floor, done.tombstones, done.files) == (5, 4, 4)
    assert data(lake) == {file.path for file in manifests[-1].files}
    assert [lake.manifest("usage", 1, n) for n in range(1, 5)] == [Tombstone(5)] * 4
    assert lake.head("usage", 1) == manifests[-1]
    assert list(lake.history("usage", 1)) == [manifests[-1]]


def test_numbers_are_never_used_again(lake: Lake, publish) -> None:
    for minute in range(5):
        publish(lake, {"all": [minute]}, minute=minute)
    run(lake)
    lake.store.delete(hint_key("usage", 1))
    assert publish(lake, {"all": [9]}, minute=9).manifest.number == 6


def test_an_idle_reader_at_a_collected_number_finds_the_head(lake: Lake, publish) -> None:
    publish(lake, {"all": [0]}, minute=0)
    follower = Follower(lake)
    follower.refresh()
    for minute in range(1, 20):
        publish(lake, {"all": [minute]}, minute=minute)
    run(lake)
    follower.refresh()
    assert follower.manifest("usage", 1).number == 20


def test_nothing_younger_than_retention_goes(lake: Lake, publish) -> None:
    """A reader that still holds the manifest before can open its files, for as long as retention lasts."""
    for minute in range(5):
        publish(lake, {"all": [minute]}, minute=minute)
    done = run(lake, hours=23)
    assert (done.tombstones, done.files) == (0, 0)
    assert len(data(lake)) == 5


def test_what_was_the_newest_within_retention_stays(lake: Lake, publish, monkeypatch) -> None:
    """A file written long ago, and replaced a moment ago, still has readers."""
    publish(lake, {"all": [1]}, minute=1)
    _age(lake, monkeypatch, hours=100)
    publish(lake, {"all": [2]}, minute=2)
    done = run(lake, hours=1)
    assert (done.floor, done.files) == (1, 0)


def _age(lake: Lake, monkeypatch: pytest.MonkeyPatch, hours: float) -> None:
    """Everything in the lake now is so many hours older to the collector."""
    listed = {found.key for found in lake.store.list("endpoints")}
    original = lake.store.list

    def aged(prefix: str, after: str | None = None):
        for found in original(prefix, after):
            older = found.modified - timedelta(hours=hours)
            yield replace(found, modified=older) if found.key in listed else found

    monkeypatch.setattr(lake.store, "list", aged)


def test_data_that_newer_manifests_name_stays(lake: Lake, publish) -> None:
    first = publish(lake, {"a": [1], "b": [1]}, minute=1).manifest
    for minute in range(2, 6):
        last = publish(lake, {"b": [minute]}, minute=minute).manifest
    run(lake)
    assert data(lake) == {first.partitions["a"].files[0].path, last.partitions["b"].files[0].path}


def test_data_of_attempts_that_never_ended_goes_when_it_is_old(lake: Lake, begin, write, publish) -> None:
    publish(lake, {"all": [1]}, minute=1)
    write(begin(lake), "all", [2], 2)
    assert len(data(lake)) == 2
    assert run(lake, hours=1).files == 0, "it may still be running"
    assert run(lake).files == 1
    assert len(data(lake)) == 1


def test_the_newest_snapshots_are_kept_for_rollback(lake: Lake, publish, begin) -> None:
    for minute in range(6):
        publish(lake, {"all": [minute]}, minute=minute)
        begin(lake).fail("failed", "no")
    run(lake, keep=3)
    outcomes = [manifest.outcome for manifest in lake.history("usage", 1)]
    assert outcomes.count("published") == 3
    assert len(data(lake)) == 3


def test_passes_go_on_from_each_other(lake: Lake, publish) -> None:
    for minute in range(4):
        publish(lake, {"all": [minute]}, minute=minute)
    run(lake)
    for minute in range(4, 8):
        publish(lake, {"all": [minute]}, minute=minute)
    assert run(lake).tombstones == 4
    assert [lake.manifest("usage", 1, n) for n in (1, 2, 4, 7)] == [
        Tombstone(8),
        Tombstone(4),
        Tombstone(8),
        Tombstone(8),
    ]
    lake.store.delete(hint_key("usage", 1))
    assert lake.head("usage", 1).number == 8
    assert run(lake).tombstones == 0


def test_a_pass_that_was_cut_short_is_finished_by_the_next(lake: Lake, publish, monkeypatch) -> None:
    for minute in range(8):
        publish(lake, {"all": [minute]}, minute=minute)
    writes = 0
    original = lake.store.put

    def stop_after_three(key: str, body: bytes) -> None:
        nonlocal writes
        writes += 1
        if writes > 3:
            raise KeyboardInterrupt
        original(key, body)

    with monkeypatch.context() as patch:
        patch.setattr(lake.store, "put", stop_after_three)
        with pytest.raises(KeyboardInterrupt):
            run(lake)
    assert lake.head("usage", 1).number == 8
    assert len(data(lake)) == 8, "no data goes before the tombstones are there"
    publish(lake, {"all": [9]}, minute=9)
    run(lake)
    assert all(isinstance(lake.manifest("usage", 1, n), Tombstone) for n in range(1, 9))
    assert isinstance(lake.manifest("usage", 1, 9), Manifest)


def test_segments_that_no_kept_manifest_names_go(disk: Lake, begin, entry, monkeypatch) -> None:
    keys = [f"p{number:04}" for number in range(500)]
    begin(disk, *keys).publish({key: entry() for key in keys}, Server())
    for minute in range(3):
        begin(disk, "p0250").publish({"p0250": entry(minute)}, Server())
    segments = len(list(disk.store.list("endpoints/usage/v1/manifests/segments")))
    assert run(disk).segments == 3
    assert len(list(disk.store.list("endpoints/usage/v1/manifests/segments"))) == segments - 3
    assert len(disk.head("usage", 1).partitions) == 500


def test_an_empty_version_is_nothing_to_do(lake: Lake) -> None:
    assert run(lake).floor == 0


def test_manifest_keys_are_all_still_there(lake: Lake, publish) -> None:
    for minute in range(4):
        publish(lake, {"all": [minute]}, minute=minute)
    run(lake)
    assert all(lake.store.get(manifest_key("usage", 1, n)) for n in range(1, 5))
