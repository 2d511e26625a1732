"""Claims: of two runs that want a partition one gets it, and a killed run's claims lapse."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from endpoints.lake.claims import Claims
from endpoints.lake.publish import Lake
from endpoints.lake.store import Store

SHORT = timedelta(seconds=0.6)


@pytest.fixture
def claims(store: Store) -> Claims:
    return Claims(store, "usage", 1)


def test_what_is_claimed_is_nobody_elses_until_the_block_ends(claims: Claims) -> None:
    with claims.take(["a", "b"], "first", base=7) as first:
        assert (first.mine, first.others, first.base) == (("a", "b"), (), None)
        with claims.take(["b", "c"], "second", base=9) as second:
            assert second.mine == ("c",)
            assert [claim.holder for claim in second.others] == ["first"]
            assert second.base == 7
        assert [claim.holder for claim in claims.live()] == ["first"]
    assert claims.live() == []
    with claims.take(["a", "b"], "third", base=9) as third:
        assert third.mine == ("a", "b")


def test_nothing_is_written_by_who_gets_nothing(claims: Claims, store: Store) -> None:
    with claims.take(["a"], "first", 0), claims.take(["a"], "second", 0) as second:
        assert second.mine == ()
        assert len(list(store.list("_claims"))) == 1


def test_versions_do_not_meet(store: Store) -> None:
    with Claims(store, "usage", 1).take(["all"], "one", 0):
        for endpoint, version in (("usage", 2), ("other", 1)):
            with Claims(store, endpoint, version).take(["all"], "two", 0) as taken:
                assert taken.mine == ("all",)


def test_of_many_at_once_each_partition_goes_to_one(disk: Lake) -> None:
    keys = [f"p{number}" for number in range(8)]

    def take(number: int) -> tuple[str, ...]:
        with Claims(disk.store, "usage", 1).take(keys[number % 3 :], f"run-{number}", 0) as taken:
            time.sleep(0.3)
            return taken.mine

    with ThreadPoolExecutor(8) as pool:
        got = [key for mine in pool.map(take, range(8)) for key in mine]
    assert sorted(got) == keys


def test_a_claim_is_renewed_while_its_run_lives(disk: Lake) -> None:
    claims = Claims(disk.store, "usage", 1, lease=SHORT)
    with claims.take(["all"], "long", 0):
        time.sleep(2.5 * SHORT.total_seconds())
        assert [claim.holder for claim in claims.live()] == ["long"]


def test_the_claim_of_a_killed_run_lapses(tmp_path: Path) -> None:
    url = f"file://{tmp_path / 'lake'}"
    code = (
        "import time; from datetime import timedelta; from endpoints.lake.claims import Claims;"
        "from endpoints.lake.store import Store;"
        f"claims = Claims(Store({url!r}), 'usage', 1, lease=timedelta(seconds=2));"
        "taken = claims.take(['all'], 'killed', 0); taken.__enter__(); print('taken', flush=True);"
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
    with claims.take(["all"], "next", 0) as taken:
        assert taken.mine == ("all",)


def test_what_is_no_claim_does_not_count(claims: Claims, store: Store) -> None:
    store.put("_claims/usage/v1/00000000000000000004.json", b"{}")
    with claims.take(["all"], "run", 0) as taken:
        assert taken.mine == ("all",)
        assert [claim.number for claim in claims.live()] == [5]
