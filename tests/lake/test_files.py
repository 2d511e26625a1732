from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from endpoints.errors import Corrupt, MissingFile, StoreUnavailable
from endpoints.lake.files import FileCache
from endpoints.lake.manifest import FileEntry
from endpoints.lake.publish import Lake
from endpoints.lake.store import Store


class Counting(Store):
    """A store that counts the files that are fetched."""

    fetched = 0

    def chunks(self, key):
        self.fetched += 1
        return super().chunks(key)


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(lake: Lake, publish) -> FileEntry:
    (file,) = publish(lake, {"all": range(1000)}, minute=1).manifest.files
    return file


def key_of(file: FileEntry) -> str:
    return f"endpoints/usage/v1/{file.path}"


def cache_of(store: Store, folder: Path, budget: int = 10**9, **more) -> FileCache:
    return FileCache(store, folder / "files", budget, **more)


def test_a_file_is_read_where_it_lies_or_copied(lake: Lake, file: FileEntry, tmp_path: Path) -> None:
    path = cache_of(lake.store, tmp_path).local("usage", 1, file)
    assert path.read_bytes() == b"".join(lake.store.chunks(key_of(file)) or ())
    assert lake.store.root is None or path == lake.store.root / key_of(file)


def test_other_bytes_are_corrupt_and_a_repair_is_seen(
    lake: Lake, file: FileEntry, tmp_path: Path, clock: Clock
) -> None:
    cache = cache_of(lake.store, tmp_path, clock=clock)
    good = lake.store.get(key_of(file))
    lake.store.put(key_of(file), good[:-1] + b"X")
    for _ in range(2):
        with pytest.raises(Corrupt, match="other bytes"):
            cache.local("usage", 1, file)
    lake.store.put(key_of(file), good)
    clock.now += 61
    assert cache.local("usage", 1, file).read_bytes() == good


@pytest.mark.parametrize("change", [b"", b"more"])
def test_a_cut_or_grown_file_is_corrupt(lake: Lake, file: FileEntry, tmp_path: Path, change: bytes) -> None:
    body = lake.store.get(key_of(file))
    lake.store.put(key_of(file), body + change if change else body[:100])
    with pytest.raises(Corrupt, match="bytes, the manifest says"):
        cache_of(lake.store, tmp_path).local("usage", 1, file)


def test_a_missing_file_is_missing(lake: Lake, file: FileEntry, tmp_path: Path) -> None:
    lake.store.delete(key_of(file))
    with pytest.raises(MissingFile):
        cache_of(lake.store, tmp_path).local("usage", 1, file)


def test_a_file_of_a_lake_whose_folder_is_gone_is_not_corrupt(disk: Lake, publish, tmp_path: Path) -> None:
    (file,) = publish(disk, {"all": [1]}, minute=1).manifest.files
    assert disk.store.root is not None
    disk.store.root.rename(tmp_path / "unmounted")
    with pytest.raises(StoreUnavailable):
        cache_of(disk.store, tmp_path).local("usage", 1, file)


def test_a_file_that_changes_after_its_check_is_checked_again(disk: Lake, publish, tmp_path: Path) -> None:
    (file,) = publish(disk, {"all": [1]}, minute=1).manifest.files
    cache = cache_of(disk.store, tmp_path)
    path = cache.local("usage", 1, file)
    body = path.read_bytes()
    path.write_bytes(body[:-1] + b"X")
    os.utime(path, (1, 1))
    with pytest.raises(Corrupt):
        cache.local("usage", 1, file)


def test_an_unknown_checksum_is_corrupt(disk: Lake, publish, tmp_path: Path) -> None:
    (file,) = publish(disk, {"all": [1]}, minute=1).manifest.files
    with pytest.raises(Corrupt, match="unknown kind"):
        cache_of(disk.store, tmp_path).local("usage", 1, replace(file, checksum="md5:../../etc"))


class TestCopies:
    """What only S3 needs."""

    @pytest.fixture
    def store(self, s3) -> Counting:
        return Counting(s3.url)

    @pytest.fixture
    def files(self, store: Store, publish) -> list[FileEntry]:
        keys = [f"p{number}" for number in range(4)]
        manifest = publish(Lake(store), {key: [i] for i, key in enumerate(keys)}, minute=1).manifest
        return [manifest.partitions[key].files[0] for key in keys]

    def test_one_copy_serves_many_threads_and_later_processes(self, store, files, tmp_path) -> None:
        cache = cache_of(store, tmp_path)
        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(lambda _: cache.local("usage", 1, files[0]), range(32)))) == 1
        cache_of(store, tmp_path).local("usage", 1, files[0])
        assert store.fetched == 1

    def test_a_copy_that_went_bad_is_fetched_again(self, store, files, tmp_path) -> None:
        path = cache_of(store, tmp_path).local("usage", 1, files[0])
        good = path.read_bytes()
        path.write_bytes(good[:-1] + b"X")
        assert cache_of(store, tmp_path).local("usage", 1, files[0]).read_bytes() == good

    def test_the_least_recently_used_go_when_the_budget_is_spent(self, store, files, tmp_path, clock) -> None:
        cache = cache_of(store, tmp_path, budget=sum(file.bytes for file in files[:2]) + 10, clock=clock)
        paths = []
        for file in files[:2]:
            paths.append(cache.local("usage", 1, file))
            clock.now += 100
        cache.local("usage", 1, files[0])
        clock.now += 100
        cache.local("usage", 1, files[2])
        assert paths[0].exists(), "used again"
        assert not paths[1].exists()
        assert cache.local("usage", 1, files[1]).exists(), "fetched again when it is wanted"

    def test_a_copy_just_handed_out_stays(self, store, files, tmp_path, clock) -> None:
        cache = cache_of(store, tmp_path, budget=1, clock=clock)
        first = cache.local("usage", 1, files[0])
        clock.now += 30
        cache.local("usage", 1, files[1])
        assert first.exists()
        clock.now += 100
        cache.local("usage", 1, files[2])
        assert not first.exists()

    def test_what_a_killed_copier_left_is_removed(self, store, files, tmp_path, clock) -> None:
        cache = cache_of(store, tmp_path, clock=clock)
        cache.local("usage", 1, files[0])
        old, young = tmp_path / "files/a.part", tmp_path / "files/b.part"
        for path, at in ((old, clock.now - 4000), (young, clock.now)):
            path.write_bytes(b"half")
            os.utime(path, (at, at))
        cache.local("usage", 1, files[1])
        assert not old.exists()
        assert young.exists()

    def test_a_bad_object_is_fetched_once_a_minute(self, store, files, tmp_path, clock) -> None:
        store.put(key_of(files[0]), b"X" * files[0].bytes)
        cache = cache_of(store, tmp_path, clock=clock)
        for _ in range(5):
            with pytest.raises(Corrupt):
                cache.local("usage", 1, files[0])
        assert store.fetched == 1
        assert list((tmp_path / "files").iterdir()) == []
