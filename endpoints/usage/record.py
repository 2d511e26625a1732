"""One authenticated run, as it is kept; and many that are alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class RunRecord(NamedTuple):
    """One authenticated run. Never a variable's value.

    `at` is Unix seconds, `duration` seconds until the last byte was handed over. `endpoint` is empty and
    `version` None where the caller named none that there is; `source` None where no rows were found. `rows`
    and `bytes` are what was sent; `cached`: without reading an asset or asking ClickHouse.
    """

    at: float
    endpoint: str
    version: int | None
    key_id: str
    source: str | None
    reason: str | None
    status: int
    duration: float
    rows: int
    bytes: int
    cached: bool


class Alike(NamedTuple):
    """Runs of one kind, `run` one of them: they differ in these columns alone. Never none."""

    run: RunRecord
    at: list[float]
    duration: list[float]
    rows: list[int]
    bytes: list[int]

    def since(self, first: int) -> Alike:
        """All but the `first` runs."""
        run, at, duration, rows, sizes = self
        return Alike(run, at[first:], duration[first:], rows[first:], sizes[first:])


def alike(runs: Iterable[RunRecord]) -> list[Alike]:
    """Runs in groups of one kind."""
    return together((run, run.at, run.duration) for run in runs)


def together(runs: Iterable[tuple[RunRecord, float, float]]) -> list[Alike]:
    """Runs, each with when it was and how long it took, in groups of one kind.

    A busy process records thousands of runs a second of a few kinds: everything that is done to them
    afterwards is done to a kind, and to columns of numbers.
    """
    groups: dict[tuple[object, ...], Alike] = {}
    for run, at, duration in runs:
        kind = (*run[1:7], run.cached)
        group = groups.get(kind)
        if group is None:
            group = groups[kind] = Alike(run, [], [], [], [])
        group.at.append(at)
        group.duration.append(duration)
        group.rows.append(run.rows)
        group.bytes.append(run.bytes)
    return list(groups.values())
