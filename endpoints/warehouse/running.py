"""What a running query is in both warehouses: batches until the end, or an error; stopped from any thread."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import pyarrow as pa

from endpoints.errors import OverLimit, QueryCancelled
from endpoints.types import Column
from endpoints.warehouse.failures import QUERY_WAS_CANCELLED, TOO_MANY_ROWS_OR_BYTES
from endpoints.warehouse.protocol import Caps


class RunningQuery(ABC):
    """A query and the worker or connection that it holds until its end.

    Implementations give the batches, a way to stop from any thread, and the way back to their pool.
    """

    columns: tuple[Column, ...] = ()
    timezone: str

    def __init__(self, caps: Caps, query_id: str) -> None:
        self.caps, self.query_id = caps, query_id
        self._lock = threading.Lock()
        self._held = True
        self._cancelled = False
        self._stream = self._counted()

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """The batches not read yet: a second loop goes on where the first one stopped."""
        return self._stream

    def cancel(self) -> None:
        """Stop the query at once, from any thread. Does nothing after its end."""
        with self._lock:
            if self._held:
                self._cancelled = True
                self._stop()

    def close(self) -> None:
        """Stop the query if it still runs, and give up what it holds. May be called twice."""
        self._end(reusable=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def _batches(self) -> Iterator[pa.RecordBatch]:
        """The batches in storage form; ends only where the query ended well."""

    @abstractmethod
    def _stop(self) -> None:
        """Make whoever waits for the query fail at once."""

    @abstractmethod
    def _give_back(self, reusable: bool) -> None:
        """Return the worker or connection; one that is not reusable is ended. Called once."""

    def _counted(self) -> Iterator[pa.RecordBatch]:
        rows = 0
        for batch in self._guarded():
            rows += batch.num_rows
            # ClickHouse checks the limit per block; here it is exact.
            if self.caps.max_rows is not None and rows > self.caps.max_rows:
                self.close()
                raise OverLimit(f"the result has more than {self.caps.max_rows} rows", TOO_MANY_ROWS_OR_BYTES)
            yield batch

    def _guarded(self) -> Iterator[pa.RecordBatch]:
        try:
            if not self._held:
                raise QueryCancelled("the result was closed before it was read", QUERY_WAS_CANCELLED)
            yield from self._batches()
        except BaseException:
            self.close()
            if self._cancelled:
                raise self._cancellation() from None
            raise
        if self._cancelled:
            raise self._cancellation()
        self._end(reusable=True)

    def _end(self, *, reusable: bool) -> None:
        with self._lock:
            held, self._held = self._held, False
        if held:
            self._give_back(reusable and not self._cancelled)

    def _cancellation(self) -> QueryCancelled:
        return QueryCancelled("the query was cancelled", QUERY_WAS_CANCELLED)
