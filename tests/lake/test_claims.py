"""Claims: of two runs that want a partition one gets it, and a killed run's claims lapse."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from endpoints.lake.claims import Claims, Taken
from endpoints.lake.publish import Lake
from endpoints.lake.store import Store

SHORT = timedelta(seconds=0.6)


@pytest.fixture
def claims(store: Store) -> Claims:
    return Claims(store, "usage", 1)


def take(claims: Claims, keys: Collection[str], holder: str, base: int = 0) -> AbstractContextManager[Taken]:
    @contextmanager
    def taking() -> Iterator[Taken]:
        with claims.hold(holder) as holding:
            yield holding.take(keys, base)

    return taking()


def test_what_is_claimed_is_nobody_elses_until_the_block_ends(claims: Claims) -> None:
    with take(claims, ["a", "b"], "first", base=7) as first:
        assert (first.mine, first.others, first.base) == (("a", "b"), (), None)
        with take(claims, ["b", "c"], "second", base=9) as second:
            assert second.mine == ("c",)
            assert [claim.holder for claim in second.others] == ["first"]
            assert second.base == 7
        assert [claim.holder for claim in claims.live()] == ["first"]
    assert claims.live() == []
    with take(claims, ["a", "b"], "third", base=9) as third:
        assert third.mine == ("a", "b")


def test_a_run_that_waits_shows_that_it_is_alive(claims: Claims) -> None:
    with claims.hold("first") as first, claims.hold("second") as second:
        first.take(["a", "b"], 0)
        assert second.take(["a"], 0).mine == ()
        first.release()
        assert [claim.holder for claim in claims.live()] == ["first", "second"]
        assert second.take(["a"], 0).mine == ("a",)
        assert first.take(["a", "b"], 0).mine == ("b",)
    assert claims.live() == []


def test_versions_do_not_meet(store: Store) -> None:
    with take(Claims(store, "usage", 1), ["all"], "one"):
        for endpoint, version in (("usage", 2), ("other", 1)):
            with take(Claims(store, endpoint, version), ["all"], "two") as taken:
                assert taken.mine == ("all",)


def test_of_many_at_once_each_partition_goes_to_one(disk: Lake) -> None:
    keys = [f"p{number}" for number in range(8)]

    everyone = threading.Barrier(8)

    def run(number: int) -> tuple[str, ...]:
        with take(Claims(disk.store, "usage", 1), keys[number % 3 :], f"run-{number}") as taken:
            everyone.wait()
            return taken.mine

    with ThreadPoolExecutor(8) as pool:
        got = [key for mine in pool.map(run, range(8)) for key in mine]
    assert sorted(got) == keys


def test_a_claim_is_renewed_while_its_run_lives(disk: Lake) -> None:
    claims = Claims(disk.store, "usage", 1, lease=SHORT)
    with take(claims, ["all"], "long"):
        time.sleep(2.5 * SHORT.total_seconds())
        assert [claim.holder for claim in claims.live()] == ["long"]


def test_the_claim_of_a_killed_run_lapses(tmp_path: Path) -> None:
    url = f"file://{tmp_path / 'lake'}"
    code = (
        "import time; from datetime import timedelta; from endpoints.lake.claims import Claims;"
        "from endpoints.lake.store import Store;"
        f"claims = Claims(Store({url!r}), 'usage', 1, lease=timedelta(seconds=2));"
        "claims.hold('killed').__enter__().take(['all'], 0); print('taken', flush=True);"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"taken\n"
        process.kill()
    claims = Claims(Store(url), "usage", 1, lease=timedelta(seconds=2))
    assert [claim.holder for claim in claims.live()] == ["killed"]
    while claims.live():
        time.sleep(0.05)
    with take(claims, ["all"], "next") as taken:
        assert taken.mine == ("all",)


def test_what_is_no_claim_does_not_count(claims: Claims, store: Store) -> None:
    store.put("_claims/usage/v1/00000000000000000004.json", b"{}")
    with take(claims, ["all"], "run") as taken:
        assert taken.mine == ("all",)
        assert [claim.number for claim in claims.live()] == [5]
