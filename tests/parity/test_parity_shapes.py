"""Every shape of the table: served with answers equal to live's, or refused with its code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from endpoints.query.plan.reasons import REASONS
from tests.parity import predicates
from tests.parity.data import write_tables
from tests.parity.harness import Bench, Case
from tests.parity.shapes import SHAPES, Shape


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    data: Path = tmp_path_factory.mktemp("data")
    write_tables(data, seed=7)
    bench = Bench.over(data, tmp_path_factory.mktemp("lake"))
    yield bench
    bench.close()


@pytest.mark.parametrize("shape", [*SHAPES, *predicates.SHAPES], ids=lambda shape: shape.name)
def test_shape(bench: Bench, shape: Shape) -> None:
    outcome = bench.run(
        Case(shape.sql, shape.given, shape.optional, shape.buckets, shape.unaligned, shape.clock)
    )
    if shape.expected != "served":
        assert outcome.refused is not None, "served"
        assert shape.expected in [reason.code for reason in outcome.refused.reasons]
        return
    assert outcome.refused is None, outcome.refused
    assert not outcome.differences, "\n".join(outcome.differences)
    assert outcome.compared >= len(shape.given)


def test_every_code_has_a_shape() -> None:
    shown = {shape.expected for shape in SHAPES}
    elsewhere = {"xor", "version", "unsought"} | {code for code in REASONS if code.startswith("partition")}
    assert set(REASONS) - elsewhere == shown - {"served"}
