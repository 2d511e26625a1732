"""The warehouse, as everything above it sees it: one protocol, two implementations.

`EmbeddedWarehouse` (chDB over a folder of files) and `NativeWarehouse` (a ClickHouse server) behave alike:
the same Arrow, the same column types, the same errors. One suite of tests runs against both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import TracebackType
from typing import Protocol, Self

import pyarrow as pa

from endpoints.types import ClickHouseType, Column, Value


@dataclass(frozen=True, slots=True)
class Statement:
    """One SELECT and the values of its `{name:Type}` placeholders, which the warehouse binds."""

    sql: str
    parameters: Mapping[str, tuple[ClickHouseType, Value]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Caps:
    """What one query may use; None means no cap.

    `timeout` is wall time in the warehouse, `max_memory` bytes, `max_rows` rows of the result: one row more
    raises OverLimit, nothing is cut.
    """

    timeout: timedelta | None = None
    max_rows: int | None = None
    max_memory: int | None = None

    def settings(self) -> dict[str, str | int | float]:
        """The caps as ClickHouse's settings; for those not given, the user's profile may have its own."""
        given = {
            "max_execution_time": self.timeout.total_seconds() if self.timeout else None,
            "max_result_rows": self.max_rows,
            "max_memory_usage": self.max_memory,
        }
        return {
            "timeout_overflow_mode": "throw",
            "result_overflow_mode": "throw",
            "timeout_before_checking_execution_speed": 0,
            **{name: value for name, value in given.items() if value is not None},
        }


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """The warehouse's version, its time zone (for types that name none) and its clock (aware, UTC)."""

    version: str
    timezone: str
    now: datetime


class Result(Protocol):
    """A running query: record batches in storage form (`types.storage_schema(columns)`), as they come.

    Not known to be good until it has ended: ClickHouse can fail after millions of rows, and iteration then
    raises a WarehouseError. Leaving early (`close`, or the end of `with`) stops the query.
    """

    @property
    def columns(self) -> tuple[Column, ...]: ...
    @property
    def timezone(self) -> str: ...
    @property
    def query_id(self) -> str: ...
    def __iter__(self) -> Iterator[pa.RecordBatch]: ...
    def cancel(self) -> None:
        """Stop the query, from any thread; whoever iterates gets QueryCancelled."""

    def close(self) -> None:
        """Give the connection back, stopping the query if it still runs. May be called twice."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Warehouse(Protocol):
    """ClickHouse, read-only. Thread-safe: many queries at once, each with its own Result."""

    def server(self) -> ServerInfo: ...
    def describe(self, statement: Statement) -> tuple[Column, ...]:
        """The result's columns, without running the query."""

    def run(self, statement: Statement, caps: Caps, *, query_id: str | None = None) -> Result: ...
    def ping(self) -> None:
        """Raise WarehouseUnavailable unless a query could run now."""

    def close(self) -> None: ...
