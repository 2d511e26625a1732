"""Random queries over random rows: each answer from an asset equals the live one. `make parity` runs more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parity.data import write_tables
from tests.parity.generate import generate, generate_sliced
from tests.parity.harness import Bench

SEEDS = range(200)
PER_TEST = 50


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    data: Path = tmp_path_factory.mktemp("data")
    write_tables(data, seed=1)
    bench = Bench.over(data, tmp_path_factory.mktemp("lake"))
    yield bench
    bench.close()


def test_random_queries_over_partitions(bench: Bench) -> None:
    outcomes = [bench.run(generate_sliced(seed)) for seed in range(24)]
    assert [d for outcome in outcomes for d in outcome.differences] == []
    assert sum(outcome.compared for outcome in outcomes) > 30
    assert sum(outcome.pruned for outcome in outcomes) > 5, "conditions say which partitions are needed"
    assert sum(outcome.live for outcome in outcomes) > 3, "some need one that is missing"


@pytest.mark.parametrize("first", SEEDS[::PER_TEST])
def test_random_queries(bench: Bench, first: int) -> None:
    outcomes = [bench.run(generate(seed)) for seed in range(first, first + PER_TEST)]
    assert [d for outcome in outcomes for d in outcome.differences] == []
    served = sum(outcome.refused is None for outcome in outcomes)
    assert served > PER_TEST * 0.7, "the generator makes what is refused"
