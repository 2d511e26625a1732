"""Live runs: one query per identical request, few at a time, whole before the first byte, kept for a while.

    fetch ── kept result? ──────────────────────────────▶ answer (cached)
      └─── same question running, here or (with Redis) in another replica? join it
             else: queue → slot → query in a thread → spool → keep

A result is spooled to its end before anyone sees it, because ClickHouse can fail after millions of rows. A
query whose callers have all gone is cancelled, unless one of them left only because an older asset was
there to answer from.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pyarrow as pa

from endpoints.errors import QueryCancelled, QueryTimeout
from endpoints.rows import Rows
from endpoints.spool import Spool, digest
from endpoints.warehouse.protocol import Caps, Result, Statement, Warehouse
from serving.breaker import Breakers
from serving.logs import told
from serving.problems import LiveQueueFull
from serving.shared import SharedRuns

log = logging.getLogger(__name__)

Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """What one live run answers. `key` tells identical ones; `statement` may ask the warehouse and block.

    `pay` is called where a run has to be started, and may refuse by raising. `count` gives the number
    of rows of all pages, where that is asked.
    """

    version: str
    key: Key
    statement: Callable[[], Statement]
    caps: Caps
    limit: int
    offset: int
    count: Statement | None
    keep_for: timedelta
    lapses_for: timedelta  # how much longer it may be shown, while a new one is made
    queue_for: timedelta
    fresh: bool  # a result from before it was asked will not do
    pay: Callable[[], Awaitable[None]]

    @property
    def longest(self) -> float | None:
        """Seconds that a caller may have to wait at all: the queue, the query, and some grace."""
        timeout = self.caps.timeout
        return None if timeout is None else (self.queue_for + timeout).total_seconds() + GRACE


@dataclass(frozen=True, slots=True)
class LiveRows:
    """A whole live result: when its query started, the query's id, a digest of the rows for validators."""

    rows: Rows
    query_id: str
    started: datetime
    digest: str
    ended: float  # monotonic seconds
    keep_for: timedelta
    lapses_for: timedelta
    reused: bool = False  # another replica had it already

    def age(self, at: float | None = None) -> float:
        """Seconds since the result was whole, now or at a monotonic time."""
        return max(0.0, (time.monotonic() if at is None else at) - self.ended)

    def left(self, at: float | None = None) -> float:
        """Seconds for which it may still be reused."""
        return self.keep_for.total_seconds() - self.age(at)

    @property
    def shown_for(self) -> float:
        """Seconds for which it may still be shown at all."""
        return self.left() + self.lapses_for.total_seconds()


GRACE = 3.0  # seconds that a server may take longer than the query was given, before nobody waits for it


class Slow(Exception):
    """The run goes on, but this caller's patience is over."""


@dataclass(slots=True)
class _Query:
    """The side of a run that a thread reads and anyone may cancel."""

    id: str = field(default_factory=lambda: f"live-{uuid.uuid4().hex}")
    lock: threading.Lock = field(default_factory=threading.Lock)
    running: bool = False
    cancelled: bool = False
    result: Result | None = None

    def attach(self, result: Result) -> None:
        with self.lock:
            self.result = result
        self.check()

    def detach(self) -> None:
        with self.lock:
            self.result = None

    def check(self) -> None:
        if self.cancelled:
            raise QueryCancelled("every caller has gone")

    def cancel(self) -> None:
        with self.lock:
            self.cancelled = True
            if self.result is not None:
                self.result.cancel()


@dataclass(slots=True, eq=False)
class _Run:
    query: _Query
    task: asyncio.Task[LiveRows]
    callers: int = 0
    wanted: bool = False  # for the cache, whoever leaves


class LiveRuns:
    """The live side of the service. All but `_read` belongs to the event loop."""

    def __init__(
        self,
        warehouse: Warehouse,
        *,
        concurrency: int,
        queue: int,
        cache_bytes: int,
        memory_bytes: int,
        spool_bytes: int,
        spool_folder: Path,
        shared: SharedRuns | None = None,
    ) -> None:
        self._warehouse, self._shared = warehouse, shared
        self._slots = asyncio.Semaphore(concurrency)
        self._most, self.unfinished = concurrency + queue, 0
        self._spool = partial(Spool, memory_bytes, spool_bytes, spool_folder)
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="live")
        self._runs: dict[Key, _Run] = {}
        self._tasks: set[asyncio.Task[LiveRows]] = set()
        self._kept = _Kept(cache_bytes)
        self.breakers = Breakers()
        self.joined = 0
        """How many callers found their question being asked already."""

    async def close(self) -> None:
        """Cancel what runs, and wait for it."""
        for run in list(self._runs.values()):
            self._abandon(run)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown(wait=True, cancel_futures=True)

    def kept(self, key: Key) -> LiveRows | None:
        """A result that may still be reused."""
        found = self._kept.get(key)
        return found if found is not None and found.left() > 0 else None

    def lapsed(self, key: Key) -> LiveRows | None:
        """A result that may be shown only while a new one is made."""
        found = self._kept.get(key)
        return found if found is not None and found.left() <= 0 else None

    async def fetch(self, question: Question, *, patience: timedelta | None = None) -> LiveRows:
        """Rows for `question`, from a run that is under way or from a new one.

        With `patience`, raises Slow when it is over and lets the run end for the cache. Else raises what
        `pay` does, BreakerOpen, LiveQueueFull, WarehouseError, UnsupportedType; QueryTimeout too where a run
        that has had all its time does not end. A caller that is cancelled leaves; the last to leave stops
        the query.
        """
        run = self._runs.get(question.key)
        self.joined += run is not None
        if run is None:
            self._require_room()  # nobody pays for what cannot start
            self.breakers.require(question.version)
            await question.pay()
            run = self._runs.get(question.key) or self._start(question)  # another may have been quicker
        run.callers += 1
        try:
            seconds = question.longest if patience is None else patience.total_seconds()
            done, _ = await asyncio.wait({run.task}, timeout=seconds)
            if not done and patience is None:  # connected, and not a word
                raise QueryTimeout("the warehouse did not answer in time")
            if not done:
                run.wanted = True
                raise Slow
            if run.task.cancelled():
                raise QueryCancelled("the service is stopping")
            return run.task.result()
        finally:
            run.callers -= 1
            if not run.callers and not run.wanted and not run.task.done():
                self._abandon(run)

    def _start(self, question: Question) -> _Run:
        self._require_room()
        self.breakers.enter(question.version)
        query = _Query()
        run = _Run(query, asyncio.create_task(self._execute(question, query)))
        self.unfinished += 1
        self._runs[question.key] = run
        self._tasks.add(run.task)
        run.task.add_done_callback(lambda task: self._ended(question, run))
        return run

    def _require_room(self) -> None:
        if self.unfinished >= self._most:
            raise LiveQueueFull("as many live queries run and wait as may")

    def _ended(self, question: Question, run: _Run) -> None:
        self.unfinished -= 1
        self._tasks.discard(run.task)
        if self._runs.get(question.key) is run:
            del self._runs[question.key]
        error = QueryCancelled("the run was") if run.task.cancelled() else run.task.exception()
        self.breakers.ended(question.version, error)
        if error is not None and not run.task.cancelled():
            log.warning("live query %s failed: %s", run.query.id, told(error))

    def _abandon(self, run: _Run) -> None:
        """Stop a run that nobody waits for; whoever asks the same now starts another."""
        for key in [key for key, other in self._runs.items() if other is run]:
            del self._runs[key]
        if not run.query.running:  # still in the queue, where it would hold a place
            run.task.cancel()
        threading.Thread(target=run.query.cancel, name="live-cancel", daemon=True).start()

    async def _execute(self, question: Question, query: _Query) -> LiveRows:
        if self._shared is None:
            answer = await self._ask(question, query)
        else:
            answer = await self._shared.run(question, partial(self._ask, question, query))
        self._kept.put(question.key, answer)
        return answer

    async def _ask(self, question: Question, query: _Query) -> LiveRows:
        """Run the query when it is its turn."""
        try:
            async with asyncio.timeout(question.queue_for.total_seconds()):
                await self._slots.acquire()
        except TimeoutError:
            raise LiveQueueFull("no place became free in time") from None
        try:
            query.running = True
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._read, question, query)
        finally:
            self._slots.release()

    def _read(self, question: Question, query: _Query) -> LiveRows:
        """Run the query and spool one page, in a thread."""
        statement = question.statement()
        query.check()
        started = datetime.now(UTC)
        last = question.offset + question.limit
        with (
            self._spool() as spool,
            self._warehouse.run(statement, question.caps, query_id=query.id) as result,
        ):
            query.attach(result)
            seen = 0
            try:
                for batch in result:
                    first = max(question.offset - seen, 0)
                    if first < batch.num_rows and seen < last:
                        spool.add(_part(batch, first, min(batch.num_rows, last - seen)))
                    seen += batch.num_rows
                    if seen > last:  # one row more is known: leaving stops the query
                        break
            finally:
                query.detach()
            table = spool.table(result.columns)
            rows = Rows(result.columns, table, result.timezone, has_more=seen > last, mapped=spool.mapped)
        if question.count is not None:
            rows = replace(rows, total=self._count(question.count, question.caps, query))
        ended = time.monotonic()
        return LiveRows(rows, query.id, started, digest(rows), ended, question.keep_for, question.lapses_for)

    def _count(self, statement: Statement, caps: Caps, query: _Query) -> int:
        with self._warehouse.run(statement, caps, query_id=f"{query.id}-count") as result:
            query.attach(result)
            try:
                return sum(int(n) for batch in result for n in batch.column(0).to_pylist())
            finally:
                query.detach()


def _part(batch: pa.RecordBatch, first: int, end: int) -> pa.RecordBatch:
    """Some rows of a batch, copied: a slice would keep the whole batch in memory for as long as itself."""
    return batch if end - first == batch.num_rows else batch.take(pa.array(range(first, end)))


class _Kept:
    """Results that may be shown, newest use last, within a budget of bytes."""

    def __init__(self, budget: int) -> None:
        self._budget, self._bytes = budget, 0
        self._results: OrderedDict[Key, LiveRows] = OrderedDict()

    def get(self, key: Key) -> LiveRows | None:
        found = self._results.get(key)
        if found is None:
            return None
        if found.shown_for <= 0:
            self._drop(key)
            return None
        self._results.move_to_end(key)
        return found

    def put(self, key: Key, answer: LiveRows) -> None:
        self._drop(key)
        if answer.shown_for <= 0 or answer.rows.table.nbytes > self._budget:
            return
        self._results[key] = answer
        self._bytes += answer.rows.table.nbytes
        while self._bytes > self._budget:
            self._drop(next(iter(self._results)))

    def _drop(self, key: Key) -> None:
        dropped = self._results.pop(key, None)
        if dropped is not None:
            self._bytes -= dropped.rows.table.nbytes
