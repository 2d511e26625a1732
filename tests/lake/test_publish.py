"""Publishing: numbers, rebasing, failures, answers that get lost. On a disk and on S3."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pyarrow.parquet as pq
import pytest

from endpoints.errors import StoreUnavailable
from endpoints.lake.layout import hint_key, manifest_key
from endpoints.lake.manifest import Server
from endpoints.lake.publish import Lake, Published, Superseded
from endpoints.lake.store import Store

SERVER = Server("26.9", "UTC")


def test_an_empty_lake_has_no_head(lake: Lake) -> None:
    assert lake.head("usage", 1) is None
    assert lake.versions() == []
    assert list(lake.history("usage", 1)) == []


def test_each_attempt_is_the_next_number(lake: Lake, publish) -> None:
    for number in (1, 2, 3):
        result = publish(lake, {"all": [number]}, minute=number)
        assert isinstance(result, Published)
        assert result.manifest.number == number
    head = lake.head("usage", 1)
    assert head == result.manifest
    assert head.partitions["all"].snapshot == 3
    assert [m.number for m in lake.history("usage", 1)] == [3, 2, 1]
    assert lake.versions() == [("usage", 1)]


def test_what_is_published_can_be_read(lake: Lake, publish, tmp_path) -> None:
    manifest = publish(lake, {"all": [3, 4]}, minute=0).manifest
    (file,) = manifest.files
    (tmp_path / "copy").write_bytes(lake.store.get(f"endpoints/usage/v1/{file.path}"))
    table = pq.read_table(tmp_path / "copy")
    assert table.column("n").to_pylist() == [3, 4]
    assert file.rows == 2
    assert manifest.attempt_id in file.path


def test_publishing_one_partition_carries_the_others_forward(lake: Lake, publish) -> None:
    publish(lake, {"a": [1], "b": [2]}, minute=1)
    manifest = publish(lake, {"b": [3]}, minute=2).manifest
    assert {key: entry.snapshot for key, entry in manifest.partitions.items()} == {"a": 1, "b": 2}


def test_two_attempts_at_once_merge_their_partitions(lake: Lake, begin, write) -> None:
    first, second = begin(lake, "a"), begin(lake, "b")
    first.publish({"a": write(first, "a", [1], 1)}, SERVER)
    second.publish({"b": write(second, "b", [2], 1)}, SERVER)
    assert set(lake.head("usage", 1).partitions) == {"a", "b"}


def test_a_rebase_replaces_a_partition_only_by_newer_data(lake: Lake, begin, write) -> None:
    slow, fast = begin(lake), begin(lake)
    fast.publish({"all": write(fast, "all", [2], minute=2)}, SERVER)
    result = slow.publish({"all": write(slow, "all", [1], minute=1)}, SERVER)
    assert isinstance(result, Superseded)
    head = lake.head("usage", 1)
    assert (head.number, head.outcome) == (2, "superseded"), "every attempt ends as a manifest"
    assert head.partitions["all"].attempt_id == fast.attempt_id


def test_a_rebase_with_newer_data_replaces(lake: Lake, begin, write) -> None:
    slow, fast = begin(lake), begin(lake)
    fast.publish({"all": write(fast, "all", [2], minute=1)}, SERVER)
    assert isinstance(slow.publish({"all": write(slow, "all", [1], minute=2)}, SERVER), Published)
    assert lake.head("usage", 1).partitions["all"].attempt_id == slow.attempt_id


def test_an_attempt_that_is_half_superseded_publishes_its_other_half(lake: Lake, begin, write) -> None:
    slow, fast = begin(lake, "a", "b"), begin(lake, "a")
    fast.publish({"a": write(fast, "a", [2], minute=2)}, SERVER)
    result = slow.publish({key: write(slow, key, [1], minute=1) for key in "ab"}, SERVER)
    assert isinstance(result, Published)
    assert result.passed_over == ("a",)
    assert {k: e.attempt_id for k, e in result.manifest.partitions.items()} == {
        "a": fast.attempt_id,
        "b": slow.attempt_id,
    }


def test_without_a_rival_the_clock_does_not_matter(disk: Lake, publish) -> None:
    """A warehouse whose clock was set back, or has whole seconds, does not stop publishing."""
    publish(disk, {"all": [1]}, minute=5)
    assert isinstance(publish(disk, {"all": [2]}, minute=5), Published)
    assert isinstance(publish(disk, {"all": [3]}, minute=4), Published)


def test_a_failed_attempt_carries_all_forward_and_marks_what_it_tried(lake: Lake, publish, begin) -> None:
    before = publish(lake, {"a": [1], "b": [2]}, minute=1).manifest
    attempt = begin(lake, "b")
    manifest = attempt.fail("breached", "x" * 10_000)
    assert manifest == lake.head("usage", 1)
    assert manifest.outcome == "breached"
    assert manifest.partitions == before.partitions
    assert set(manifest.failures) == {"b"}
    failure = manifest.failures["b"]
    assert (failure.outcome, failure.attempt_id, failure.fingerprint) == (
        "breached",
        attempt.attempt_id,
        "f1",
    )
    assert len(failure.error) <= 500


def test_a_later_success_clears_the_failure_of_its_partitions_only(lake: Lake, publish, begin) -> None:
    begin(lake, "a", "b").fail("failed", "no")
    assert set(lake.head("usage", 1).failures) == {"a", "b"}
    publish(lake, {"a": [1]}, minute=1)
    assert set(lake.head("usage", 1).failures) == {"b"}


def test_an_attempt_may_fail_in_some_partitions_only(disk: Lake, begin) -> None:
    assert set(begin(disk, "a", "b").fail("failed", "no", partitions=["b"]).failures) == {"b"}


def test_a_failure_does_not_mark_what_a_rival_has_made_meanwhile(disk: Lake, publish, begin) -> None:
    slow = begin(disk)
    publish(disk, {"all": [1]}, minute=1)
    manifest = slow.fail("failed", "no")
    assert manifest.outcome == "failed"
    assert not manifest.failures


def test_an_attempt_that_ran_into_a_rollback_does_not_undo_it(disk: Lake, publish, begin, write) -> None:
    publish(disk, {"all": [1]}, minute=1)
    running = begin(disk)
    head = disk.head("usage", 1)
    _hold(disk, head)
    result = running.publish({"all": write(running, "all", [2], minute=9)}, SERVER)
    assert isinstance(result, Superseded)
    assert disk.head("usage", 1).held
    assert isinstance(publish(disk, {"all": [3]}, minute=10), Published), "a run begun later was forced"
    assert not disk.head("usage", 1).held


def test_a_failure_keeps_the_hold(disk: Lake, publish, begin) -> None:
    publish(disk, {"all": [1]}, minute=1)
    _hold(disk, disk.head("usage", 1))
    assert begin(disk).fail("failed", "no").held


def _hold(lake: Lake, head) -> None:
    from endpoints.lake.manifest import encode

    held = replace(head, number=head.number + 1, attempt_id="rollback", held=True)
    assert lake.store.put_new(manifest_key("usage", 1, held.number), encode(held).body)


class LosesAnswers(Store):
    """A store whose creates succeed but say that the object was there: the client retried a lost answer."""

    def put_new(self, key: str, body: bytes) -> bool:
        super().put_new(key, body)
        return False


def test_a_create_whose_answer_was_lost_has_succeeded(lake_url: str, begin, write) -> None:
    lake = Lake(LosesAnswers(lake_url))
    attempt = begin(lake)
    result = attempt.publish({"all": write(attempt, "all", [1], 1)}, SERVER)
    assert isinstance(result, Published)
    assert result.manifest.number == 1
    assert lake.newest("usage", 1, after=0) == 1, "nothing was published twice"
    assert begin(lake).fail("failed", "no").number == 2


class Dies(Store):
    """A store that writes the manifest and then stops answering, once."""

    died = False

    def put_new(self, key: str, body: bytes) -> bool:
        created = super().put_new(key, body)
        if not self.died:
            self.died = True
            raise StoreUnavailable("gone")
        return created


def test_publishing_again_after_trouble_is_safe(disk: Lake, begin, write) -> None:
    lake = Lake(Dies(disk.store.url))
    attempt = begin(lake)
    entries = {"all": write(attempt, "all", [1], 1)}
    with pytest.raises(StoreUnavailable):
        attempt.publish(entries, SERVER)
    assert isinstance(attempt.publish(entries, SERVER), Published)
    assert lake.head("usage", 1).partitions["all"].attempt_id == attempt.attempt_id


def test_a_backfill_publishes_in_batches(disk: Lake, begin, write) -> None:
    attempt = begin(disk, "a", "b")
    attempt.publish({"a": write(attempt, "a", [1], 1)}, SERVER)
    attempt.publish({"b": write(attempt, "b", [2], 1)}, SERVER)
    head = disk.head("usage", 1)
    assert {key: entry.snapshot for key, entry in head.partitions.items()} == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    "hint", [None, b'{"number": 1}', b'{"number": 99}', b'{"number": -3}', b"[]", b"\xff"]
)
def test_the_head_is_the_truth_whatever_the_hint_says(lake: Lake, publish, hint: bytes | None) -> None:
    for minute in range(5):
        publish(lake, {"all": [minute]}, minute=minute)
    lake.store.delete(hint_key("usage", 1))
    if hint is not None:
        lake.store.put(hint_key("usage", 1), hint)
    assert lake.head("usage", 1).number == 5


def test_a_lost_hint_does_not_fail_the_attempt(disk: Lake, publish, caplog: pytest.LogCaptureFixture) -> None:
    class NoHints(Store):
        def put(self, key: str, body: bytes) -> None:
            raise StoreUnavailable("no")

    assert isinstance(publish(Lake(NoHints(disk.store.url)), {"all": [1]}, minute=1), Published)
    assert "no hint" in caplog.text


def test_eight_publishers_at_once_win_each_number_once_and_lose_nothing(lake: Lake, begin, write) -> None:
    barrier = Barrier(8)

    def work(worker: int) -> list[int]:
        numbers = []
        for turn in range(3):
            key = f"{worker}-{turn}"
            attempt = begin(Lake(Store(lake.store.url)), key)
            entries = {key: write(attempt, key, [worker], turn)}
            if turn == 0:
                barrier.wait()
            result = attempt.publish(entries, SERVER)
            assert isinstance(result, Published)
            numbers.append(result.manifest.number)
        return numbers

    with ThreadPoolExecutor(8) as pool:
        numbers = [number for won in pool.map(work, range(8)) for number in won]
    assert sorted(numbers) == list(range(1, 25))
    head = lake.head("usage", 1)
    assert head.number == 24
    assert set(head.partitions) == {f"{worker}-{turn}" for worker in range(8) for turn in range(3)}
    for manifest in lake.history("usage", 1):
        assert len(manifest.partitions) == manifest.number, "each builds on the one before"


def test_ten_thousand_partitions_are_published_and_changed(disk: Lake, begin, entry) -> None:
    keys = [f"p{number:05}" for number in range(10_000)]
    attempt = begin(disk, *keys)
    attempt.publish({key: entry() for key in keys}, SERVER)
    body = disk.store.get(manifest_key("usage", 1, 1))
    assert len(body) <= 64 * 1024
    segments = {found.key for found in disk.store.list("endpoints/usage/v1/manifests/segments")}
    later = begin(disk, "p00500")
    later.publish({"p00500": entry(5)}, SERVER)
    head = disk.head("usage", 1)
    assert len(head.partitions) == 10_000
    assert head.partitions["p00500"].snapshot == 2
    now = {found.key for found in disk.store.list("endpoints/usage/v1/manifests/segments")}
    assert len(now - segments) == 1, "the other segments are shared"
