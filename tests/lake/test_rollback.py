"""Rollback: older content comes back, held; and collection, whenever it runs, never takes it away."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from endpoints.definition import Version, load_definitions
from endpoints.errors import LakeError, NoSnapshot
from endpoints.lake.collect import collect
from endpoints.lake.layout import rollback_folder
from endpoints.lake.manifest import Manifest
from endpoints.lake.publish import Lake
from endpoints.lake.rollback import release, roll_back
from endpoints.lake.store import Store


@pytest.fixture
def version(tmp_path: Path) -> Version:
    """usage@1, whose fingerprint is the definition's."""
    folder = tmp_path / "endpoint_defs" / "usage"
    folder.mkdir(parents=True)
    (folder / "v1.sql").write_text("SELECT n, name FROM t WHERE n = {n:UInt64}")
    (folder / "endpoint.yaml").write_text("current: 1\nversions: {1: {materialize: {schedule: hourly}}}\n")
    return load_definitions(folder.parent).version("usage")


@pytest.fixture
def published(publish, version: Version) -> Callable[..., Manifest]:
    """Publish rows of this definition; the manifest."""

    def published(lake: Lake, minute: int, **partitions: list[int]) -> Manifest:
        return publish(lake, partitions, minute=minute, fingerprint=version.fingerprint).manifest

    return published


def head(lake: Lake) -> Manifest:
    found = lake.head("usage", 1)
    assert found is not None
    return found


def test_the_content_before_is_the_newest_again_and_held(lake: Lake, version: Version, published) -> None:
    good = published(lake, 1, all=[1])
    published(lake, 2, all=[2])
    done = roll_back(lake, version)
    assert head(lake) == done
    assert (done.number, done.outcome, done.held, done.restored) == (3, "rolled_back", True, 1)
    assert done.partitions == good.partitions
    assert not list(lake.store.list(rollback_folder("usage", 1)))


def test_each_rollback_goes_one_further_back(disk: Lake, version: Version, published) -> None:
    for minute in range(1, 4):
        published(disk, minute, all=[minute])
    assert [roll_back(disk, version).restored for _ in range(2)] == [2, 1]
    with pytest.raises(NoSnapshot, match="no earlier snapshot"):
        roll_back(disk, version)
    assert roll_back(disk, version, to=3).restored == 3
    assert roll_back(disk, version, to=4).restored == 2, "a rollback may be gone back to as well"


def test_release_lets_time_count_again(disk: Lake, version: Version, published) -> None:
    published(disk, 1, all=[1])
    published(disk, 2, all=[2])
    held = roll_back(disk, version)
    done = release(disk, version)
    assert (done.outcome, done.held, done.restored, done.partitions) == (
        "released",
        False,
        None,
        held.partitions,
    )
    with pytest.raises(NoSnapshot, match="not held"):
        release(disk, version)


def test_a_forced_run_ends_the_hold(disk: Lake, version: Version, published) -> None:
    published(disk, 1, all=[1])
    published(disk, 2, all=[2])
    roll_back(disk, version)
    after = published(disk, 3, all=[3])
    assert (after.held, after.restored) == (False, None)


def test_partitions_made_since_are_not_in_the_content(disk: Lake, version: Version, published) -> None:
    published(disk, 1, a=[1])
    published(disk, 2, b=[2])
    assert set(roll_back(disk, version).partitions) == {"a"}


@pytest.mark.parametrize(("to", "said"), [(9, "never there"), (0, "never there"), (-1, "never there")])
def test_a_snapshot_that_never_was(disk: Lake, version: Version, published, to: int, said: str) -> None:
    before = published(disk, 1, all=[1])
    with pytest.raises(NoSnapshot, match=rf"{said}\. Snapshots with data: 1\."):
        roll_back(disk, version, to=to)
    assert head(disk) == before, "nothing has changed"


def test_a_snapshot_that_was_collected(disk: Lake, version: Version, published) -> None:
    for minute in range(1, 4):
        published(disk, minute, all=[minute])
    collect(disk, "usage", 1, now=datetime.now(UTC), retention=timedelta(0), keep=1)
    with pytest.raises(NoSnapshot, match=r"snapshot 1 has been collected\. Snapshots with data: 3\."):
        roll_back(disk, version, to=1)


def test_a_snapshot_without_all_of_its_files(lake: Lake, version: Version, published) -> None:
    (file,) = published(lake, 1, all=[1]).files
    before = published(lake, 2, all=[2])
    lake.store.delete(f"endpoints/usage/v1/{file.path}")
    with pytest.raises(NoSnapshot, match="1 files of snapshot 1 are gone"):
        roll_back(lake, version)
    assert head(lake) == before


def test_a_snapshot_of_another_definition_or_without_data(
    disk: Lake, version: Version, publish, begin
) -> None:
    begin(disk).fail("failed", "no")
    publish(disk, {"all": [1]}, minute=1, fingerprint="another")
    publish(disk, {"all": [2]}, minute=2, fingerprint=version.fingerprint)
    with pytest.raises(NoSnapshot, match="another definition"):
        roll_back(disk, version)
    with pytest.raises(NoSnapshot, match="snapshot 1 has no data"):
        roll_back(disk, version, to=1)


def test_the_mark_of_a_killed_rollback_stops_collection_for_an_hour_only(disk: Lake, published) -> None:
    for minute in range(1, 4):
        published(disk, minute, all=[minute])
    disk.store.put(f"{rollback_folder('usage', 1)}/killed", b"")

    def files_gone(after: timedelta) -> int:
        now = datetime.now(UTC) + after
        return collect(disk, "usage", 1, now=now, retention=timedelta(0), keep=1).files

    assert files_gone(timedelta(minutes=59)) == 0
    assert files_gone(timedelta(minutes=61)) == 2


# -- rollback and collection at once ------------------------------------------------------------------------


class Turnstile(Store):
    """A store whose every operation waits for a permit, so that a test decides who goes when."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._permits, self._free = threading.Semaphore(0), threading.Event()
        self.waiting, self.ended = threading.Semaphore(0), threading.Event()

    def _pass(self) -> None:
        if not self._free.is_set():
            self.waiting.release()
            self._permits.acquire()

    def step(self) -> None:
        """Let one operation through, and wait until the next one is asked for, or all is done."""
        self._permits.release()
        self.await_turn()

    def await_turn(self) -> None:
        while not self.ended.is_set() and not self.waiting.acquire(timeout=0.01):
            continue

    def run_free(self) -> None:
        self._free.set()
        self._permits.release(1000)

    def get(self, key: str) -> bytes | None:
        self._pass()
        return super().get(key)

    def put(self, key: str, body: bytes) -> None:
        self._pass()
        super().put(key, body)

    def put_new(self, key: str, body: bytes) -> bool:
        self._pass()
        return super().put_new(key, body)

    def delete(self, key: str) -> None:
        self._pass()
        super().delete(key)

    def list(self, prefix: str, after: str | None = None) -> Iterator:
        self._pass()
        return super().list(prefix, after)


@contextmanager
def started(store: Turnstile, work: Callable[[], object]) -> Iterator[None]:
    """`work` in a thread, stopped before its first operation."""

    def run() -> None:
        try:
            work()
        except NoSnapshot:
            pass
        finally:
            store.ended.set()

    thread = threading.Thread(target=run)
    thread.start()
    store.await_turn()
    try:
        yield
    finally:
        store.run_free()
        thread.join()


def steps_of(url: str, work: Callable[[Turnstile], object]) -> int:
    """How many operations `work` does by itself."""
    store, count = Turnstile(url), 0
    with started(store, lambda: work(store)):
        while not store.ended.is_set():
            store.step()
            count += 1
    return count


def test_whenever_collection_runs_a_rollback_keeps_its_files(
    tmp_path: Path, version: Version, published
) -> None:
    """Every way in which each stops once while the other goes on: what is published is always whole."""

    def fresh(name: str) -> str:
        lake = Lake(Store(f"file://{tmp_path / name}"))
        for minute in range(1, 4):
            published(lake, minute, all=[minute])
        return lake.store.url

    def back(store: Store) -> None:
        roll_back(Lake(store), version, to=1)

    def clear(store: Store) -> None:
        collect(Lake(store), "usage", 1, now=datetime.now(UTC), retention=timedelta(0), keep=1)

    held = refused = 0
    for first, second in ((back, clear), (clear, back)):
        lengths = (
            steps_of(fresh(f"{first.__name__}-alone"), first),
            steps_of(fresh(f"{second.__name__}-second"), second),
        )
        for i in range(lengths[0] + 1):
            for j in range(1, lengths[1] + 1):
                url = fresh(f"{first.__name__}-{i}-{j}")
                one, other = Turnstile(url), Turnstile(url)
                with started(other, lambda: second(other)), started(one, lambda: first(one)):  # noqa: B023
                    for _ in range(i):
                        one.step()
                    for _ in range(j):
                        other.step()
                lake = Lake(Store(url))
                found = head(lake)
                assert all(lake.store.get(f"endpoints/usage/v1/{f.path}") for f in found.files), (i, j)
                held, refused = held + found.held, refused + (not found.held)
    assert held
    assert refused, "both ends were seen"


def test_rollbacks_publishers_readers_and_collection_at_once(lake: Lake, version: Version, published) -> None:
    """Whoever reads the head can open its files, whatever else goes on."""
    for minute in range(3):
        published(lake, minute, all=[minute])
    stop, wrong = threading.Event(), list[str]()

    def until_stopped(work: Callable[[], object]) -> None:
        while not stop.is_set():
            try:
                work()
            except NoSnapshot:
                continue
            except (LakeError, AssertionError) as error:
                wrong.append(repr(error))
                return

    def read() -> None:
        found = head(lake)
        for file in found.files:
            assert lake.store.get(f"endpoints/usage/v1/{file.path}"), (found.number, found.outcome)

    def clear() -> None:
        # Readers and attempts here take far less than this retention.
        collect(lake, "usage", 1, now=datetime.now(UTC), retention=timedelta(seconds=1), keep=1)

    work = (lambda: roll_back(lake, version), lambda: release(lake, version), read, clear)
    threads = [threading.Thread(target=until_stopped, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for minute in range(3, 12):
        published(lake, minute, all=[minute])
        stop.wait(0.25)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
