from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from endpoints.errors import StoreUnavailable, StoreUnsafe
from endpoints.lake.store import Store


def test_objects_come_back_as_they_were_put(store: Store) -> None:
    assert store.get("a/b.json") is None
    store.put("a/b.json", b"one")
    store.put("a/b.json", b"two")
    assert store.get("a/b.json") == b"two"
    store.delete("a/b.json")
    store.delete("a/b.json")
    assert store.get("a/b.json") is None


def test_create_if_absent_keeps_the_first(store: Store) -> None:
    assert store.put_new("k", b"first")
    assert not store.put_new("k", b"second")
    assert store.get("k") == b"first"


def test_of_many_creators_at_once_one_wins(store: Store) -> None:
    def create(number: int) -> int:
        return sum(store.put_new(f"n/{name}", str(number).encode()) for name in range(20))

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(8))) == 20


def test_listing_names_size_and_a_tag_that_follows_content(store: Store) -> None:
    store.put("d/a", b"1")
    store.put("d/b", b"22")
    store.put("elsewhere", b"3")
    before = {found.key: found for found in store.list("d")}
    assert {key: found.size for key, found in before.items()} == {"d/a": 1, "d/b": 2}
    store.put("d/b", b"33")
    after = {found.key: found.tag for found in store.list("d")}
    assert after["d/a"] == before["d/a"].tag
    assert after["d/b"] != before["d/b"].tag
    assert [found.key for found in store.list("d", after="d/a")] == ["d/b"]
    assert list(store.list("nothing")) == []


def test_folders(store: Store) -> None:
    for key in ("e/x/v1/m", "e/x/v2/m", "e/y/v1/m", "e/file"):
        store.put(key, b"")
    assert store.folders("e") == ("x", "y")
    assert store.folders("e/x") == ("v1", "v2")


def test_a_staged_object_appears_whole_or_not_at_all(store: Store) -> None:
    with store.staged("data/a.parquet") as path:
        path.write_bytes(b"x" * 20_000_000)
        assert list(store.list("data")) == []
    assert b"".join(store.chunks("data/a.parquet") or ()) == b"x" * 20_000_000
    with pytest.raises(ZeroDivisionError):
        _break_off(store, "data/b.parquet")
    assert [found.key for found in store.list("data")] == ["data/a.parquet"]
    assert store.chunks("data/b.parquet") is None


def _break_off(store: Store, key: str) -> None:
    with store.staged(key) as path:
        path.write_bytes(b"half")
        raise ZeroDivisionError


def test_the_probe_passes_a_store_that_creates_only_once(store: Store) -> None:
    store.probe()
    assert list(store.list("_probe")) == []


class Overwriting(Store):
    """A store that ignores create-if-absent, as some S3 imitations do."""

    def put_new(self, key: str, body: bytes) -> bool:
        self.put(key, body)
        return True


class OverwritingSilently(Overwriting):
    """One that even says that the object was there."""

    def put_new(self, key: str, body: bytes) -> bool:
        there = self.get(key) is not None
        super().put_new(key, body)
        return not there


@pytest.mark.parametrize("kind", [Overwriting, OverwritingSilently])
def test_the_probe_refuses_a_store_that_ignores_create_if_absent(kind: type[Store], lake_url: str) -> None:
    with pytest.raises(StoreUnsafe, match="If-None-Match"):
        kind(lake_url).probe()


def test_staging_files_of_killed_writers_are_swept_and_others_are_not(tmp_path) -> None:
    store = Store(f"file://{tmp_path}")
    store.put("d/kept.parquet", b"x")
    old, young = tmp_path / "d/old.parquet#1", tmp_path / "d/young.parquet#2"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    (tmp_path / "d/empty").mkdir()
    os.utime(tmp_path / "d/empty", (0, 0))
    assert [found.key for found in store.list("d")] == ["d/kept.parquet"], "staging shows in no listing"
    assert store.sweep("d", datetime.now(UTC) - timedelta(hours=24)) == 1
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == ["kept.parquet", "young.parquet#2"]


def test_a_store_that_does_not_answer_is_unavailable() -> None:
    nowhere = Store("s3://bucket/x", {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_SKIP_SIGNATURE": "true"})
    with pytest.raises(StoreUnavailable, match="reading k"):
        nowhere.get("k")


def test_a_disk_that_cannot_be_written_is_unavailable(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable):
        Store(f"file://{tmp_path / 'file'}")


def test_a_disk_whose_folder_is_gone_is_unavailable_not_empty(tmp_path) -> None:
    store = Store(f"file://{tmp_path}/lake")
    store.put("a/b", b"1")
    (tmp_path / "lake").rename(tmp_path / "unmounted")
    for look in (store.get, store.chunks, store.folders, lambda key: list(store.list(key))):
        with pytest.raises(StoreUnavailable):
            look("a")
    (tmp_path / "unmounted").rename(tmp_path / "lake")
    assert store.get("a/b") == b"1"
