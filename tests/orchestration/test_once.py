"""The same work asked for twice is done once, by whoever comes first; killed runs are taken over from."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from endpoints.definition import Version
from endpoints.lake.claims import Claims, Holding
from endpoints.lake.manifest import Server
from endpoints.lake.publish import Attempt, Lake
from endpoints.settings import Settings
from endpoints.types import Column, parse_type
from orchestration import once
from orchestration.once import Ask, Turn, turns

if TYPE_CHECKING:
    from tests.orchestration.conftest import Project

Each = Callable[[str], None]
KEYS = ("a", "b", "c", "d")


class Runs:
    """Runs of one version whose work is a small file each; `made` tells which run made what, in order."""

    def __init__(self, version: Version, lake: Lake, settings: Settings) -> None:
        self.version, self.lake, self.settings = version, lake, settings
        self.made: list[tuple[str, str]] = []

    def make(self, run_id: str, key: str) -> None:
        attempt = self.begin(run_id, key)
        columns = (Column("n", parse_type("UInt64")),)
        with attempt.writer(key, columns) as writer:
            entry = attempt.entry(writer.close(), columns, as_of=datetime.now(UTC))
        attempt.publish({key: entry}, Server())
        self.made.append((run_id, key))

    def fail(self, run_id: str, key: str) -> None:
        self.begin(run_id, key).fail("failed", f"{key} is bad")

    def begin(self, run_id: str, key: str) -> Attempt:
        version = self.version
        return self.lake.begin(
            version.endpoint,
            version.number,
            fingerprint=version.fingerprint,
            run_id=run_id,
            partitions=[key],
        )

    def run(self, run_id: str, ask: Ask | None = None, each: Each = lambda key: None) -> list[Turn]:
        done = []
        ask = ask or Ask(KEYS, frozenset({run_id}))
        for turn in turns(self.version, ask, self.lake, self.settings, run_id=run_id):
            for key in turn.mine:
                each(key)
                self.make(run_id, key)
            done.append(turn)
        return done


@pytest.fixture
def runs(project: Project, monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.setattr(once, "POLL_SECONDS", 0.05)
    settings = project.settings.model_copy(update={"run_lease": timedelta(seconds=3)})
    return Runs(project.define("sales", materialize={}), project.lake, settings)


def test_alone_there_is_one_turn_and_everything_is_made(runs: Runs) -> None:
    (turn,) = runs.run("r1")
    assert (turn.mine, turn.made, turn.failed) == (KEYS, {}, {})
    (again,) = runs.run("r2")  # asked for later: made again
    assert again.mine == KEYS


def test_two_at_once_share_the_work(runs: Runs) -> None:
    both = threading.Barrier(2)

    def run(run_id: str) -> set[str]:
        both.wait()
        done = runs.run(run_id)
        return {key for turn in done for key in (*turn.mine, *turn.made)}

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, ("r1", "r2"))) == [set(KEYS), set(KEYS)]
    assert sorted(key for _, key in runs.made) == sorted(KEYS)


def test_ranges_that_overlap_make_each_partition_once(runs: Runs) -> None:
    both = threading.Barrier(2)

    def run(run_id: str, keys: tuple[str, ...]) -> None:
        both.wait()
        runs.run(run_id, Ask(keys, frozenset({run_id})))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, ("r1", "r2"), (KEYS[:3], KEYS[1:])))
    assert sorted(key for _, key in runs.made) == sorted(KEYS)


def test_who_comes_later_takes_what_the_first_has_made_already(runs: Runs) -> None:
    """Also what was published before the second came: both were asked for while the first was at work."""
    late: list[Turn] = []
    thread = threading.Thread(target=lambda: late.extend(runs.run("r2")))

    def each(key: str) -> None:
        if key == "c":
            thread.start()
            while len(Claims(runs.lake.store, "sales", 1).live()) < 2:
                time.sleep(0.01)

    runs.run("r1", each=each)
    thread.join()
    assert {run_id for run_id, _ in runs.made} == {"r1"}
    assert {key for turn in late for key in turn.made} == set(KEYS)
    assert {entry.run_id for turn in late for entry in turn.made.values()} == {"r1"}


def test_what_a_killed_run_has_not_made_is_taken_over(runs: Runs) -> None:
    killed = turns(runs.version, Ask(KEYS, frozenset({"r1"})), runs.lake, runs.settings, run_id="r1")
    with silenced_renewals():
        next(killed)
    runs.make("r1", "a")
    done = runs.run("r2")  # waits for the lease
    assert runs.made == [("r1", "a"), *(("r2", key) for key in KEYS[1:])]
    assert [key for turn in done for key in turn.made] == ["a"]
    killed.close()


@contextmanager
def silenced_renewals() -> Iterator[None]:
    """As if the process had been killed: nothing renews its claim."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Holding, "_renew", lambda self: None)
        yield


def test_a_run_that_is_tried_again_goes_on_where_it_was(runs: Runs) -> None:
    runs.make("r1", "a")
    runs.make("r0", "b")
    (turn,) = runs.run("r2", Ask(KEYS, frozenset({"r1", "r2"})))
    assert (turn.mine, list(turn.made)) == (("b", "c", "d"), ["a"])


def test_what_was_published_since_it_was_asked_for_is_made(runs: Runs) -> None:
    runs.make("r0", "a")
    base = runs.lake.head("sales", 1)
    assert base is not None
    runs.make("r1", "b")
    (turn,) = runs.run("r2", Ask(("a", "b"), frozenset({"r2"}), base=base.number))
    assert (turn.mine, list(turn.made)) == (("a",), ["b"])
    asked = datetime.now(UTC)
    runs.make("r3", "c")
    (turn,) = runs.run("r4", Ask(("a", "c"), frozenset({"r4"}), since=asked))
    assert (turn.mine, list(turn.made)) == (("a",), ["c"])


def test_what_failed_for_the_first_fails_for_those_who_waited(runs: Runs) -> None:
    late: list[Turn] = []
    thread = threading.Thread(target=lambda: late.extend(runs.run("r2", Ask(("a", "b"), frozenset({"r2"})))))
    ask = Ask(("a", "b"), frozenset({"r1"}))
    for turn in turns(runs.version, ask, runs.lake, runs.settings, run_id="r1"):
        thread.start()
        while len(Claims(runs.lake.store, "sales", 1).live()) < 2:
            time.sleep(0.01)
        runs.fail("r1", "a")
        runs.make("r1", turn.mine[1])
    thread.join()
    assert runs.made == [("r1", "b")]
    assert {key: failure.error for turn in late for key, failure in turn.failed.items()} == {"a": "a is bad"}


def test_rows_of_another_definition_are_made_again(runs: Runs, project: Project) -> None:
    runs.make("r1", "a")
    runs.version = project.define("sales", "SELECT item FROM sales", materialize={})
    (turn,) = runs.run("r2", Ask(("a",), frozenset({"r1", "r2"}), base=0))
    assert turn.mine == ("a",)
