"""The benchmarks of assets run, at a small size, and measure what they say. No times are checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import asset_read, asset_write

pytestmark = pytest.mark.slow


def test_every_way_to_make_the_asset_gives_the_same_rows(tmp_path: Path) -> None:
    measured = asset_write.measure(tmp_path, rows=20_000, rounds=1)
    assert set(measured) == {*asset_write.WAYS, "first"}
    assert len({one["rows"] for one in measured.values()}) == 1
    assert 10_000 < measured["first"]["rows"] < 20_000
    assert all(one["seconds"] > 0 and one["peak"] > 0 and one["bytes"] > 0 for one in measured.values())
    assert "rows" in asset_write.table(measured)


def test_every_way_to_read_finds_the_same_rows(tmp_path: Path) -> None:
    measured = asset_read.measure(tmp_path, rows=20_000, reads=20)
    assert set(measured) == set(asset_read.WAYS)
    assert measured["asset"]["rows"] == pytest.approx(69, abs=5)
    assert asset_read.LIMIT in asset_read.table(measured)
