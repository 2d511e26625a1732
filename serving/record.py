"""What is kept of every run: one small immutable record, handed on when the answer has been sent."""

from __future__ import annotations

from typing import NamedTuple, Protocol


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


class Records(Protocol):
    """Where records go. Called on the event loop for every run: it must neither wait nor fail."""

    def record(self, run: RunRecord) -> None: ...


class NoRecords:
    """Keeps nothing."""

    def record(self, run: RunRecord) -> None:
        """Forget it."""
