"""One authenticated run, as it is kept."""

from __future__ import annotations

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
