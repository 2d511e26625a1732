"""Embedded ClickHouse: chDB over a folder of Parquet and CSV files, in worker processes of its own.

A crash, a leak or a runaway query cannot touch this process, and several queries run at once. Results come
through a pipe as Arrow, a block at a time: a slow reader slows the query down, nothing piles up.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from endpoints.errors import WarehouseUnavailable
from endpoints.types import Column, check_storable, parse_type, render_parameter, to_storage_batch
from endpoints.warehouse.failures import failure_of
from endpoints.warehouse.process import WorkerProcess, readable
from endpoints.warehouse.protocol import Caps, ServerInfo, Statement
from endpoints.warehouse.running import RunningQuery
from endpoints.warehouse.text import describe_sql, own_settings, without_semicolon
from endpoints.warehouse.worker import BATCH, COLUMNS, DONE, FAILED, STARTED

_START_UP: Final = timedelta(minutes=2)  # Python, chDB, and reading the headers of thousands of files
_GRACE: Final = timedelta(seconds=2)  # past its timeout ClickHouse stops between blocks; then we kill
_QUICK: Final = Caps(timeout=timedelta(seconds=30))
_TIMEZONE: Final = "UTC"  # the workers' TZ


@dataclass(frozen=True, slots=True)
class RowsFile:
    """A Parquet file that one query sees as `table`, its columns typed by `structure` (`name Type, …`).

    `timezone` is what types without one mean there. All of it is ours, none of it a caller's text.
    """

    table: str
    structure: str
    path: Path
    timezone: str


class EmbeddedWarehouse:
    """`chdb://DIR`. Starts workers when queries need them: at most `workers`, and one for quick questions."""

    def __init__(self, folder: Path, workers: int = 2) -> None:
        self.folder = folder
        self._pool = _Pool(folder)
        self._queries = threading.BoundedSemaphore(workers)
        # describe, server and ping do not wait behind long queries, and whoever reads a result may ask them.
        self._questions = threading.BoundedSemaphore(1)

    def server(self) -> ServerInfo:
        """chDB's ClickHouse version, UTC, and this machine's clock."""
        sql = "SELECT version() AS version, now64(6, 'UTC') AS now"
        with self._start(Statement(sql), _QUICK, self._questions) as result:
            [row] = pa.Table.from_batches(list(result)).to_pylist()
        return ServerInfo(row["version"].decode(), _TIMEZONE, row["now"].astimezone(UTC))

    def describe(self, statement: Statement) -> tuple[Column, ...]:
        """The result's columns, without running the query."""
        with self._start(statement, _QUICK, self._questions, run=False) as result:
            for _ in result:
                pass
            return result.columns

    def run(
        self,
        statement: Statement,
        caps: Caps,
        *,
        query_id: str | None = None,
        rows: Sequence[RowsFile] = (),
    ) -> EmbeddedResult:
        """Start a query, once a worker is free; waits for one as long as `caps.timeout`."""
        result = self._start(statement, caps, self._queries, query_id=query_id, rows=rows)
        try:
            check_storable(result.columns)
        except BaseException:
            result.close()
            raise
        return result

    def ping(self) -> None:
        """Raise WarehouseUnavailable unless a query can run now. Starts a worker if there is none."""
        self.server()

    def close(self) -> None:
        """End all workers; queries that still run fail. May be called twice."""
        self._pool.close()

    def _start(
        self,
        statement: Statement,
        caps: Caps,
        slots: threading.BoundedSemaphore,
        *,
        query_id: str | None = None,
        run: bool = True,
        rows: Sequence[RowsFile] = (),
    ) -> EmbeddedResult:
        if not self.folder.is_dir():
            raise WarehouseUnavailable(
                f"ENDPOINTS_CLICKHOUSE_URL names the folder {self.folder}, which does not exist: "
                "create it, or name the folder that holds the Parquet and CSV files"
            )
        if not slots.acquire(timeout=-1 if caps.timeout is None else caps.timeout.total_seconds()):
            raise WarehouseUnavailable(
                "all workers of embedded ClickHouse are busy (ENDPOINTS_EMBEDDED_WORKERS)"
            )
        try:
            worker = self._pool.take()
        except BaseException:
            slots.release()
            raise
        result = EmbeddedResult(self._pool, worker, slots, caps, query_id or str(uuid.uuid4()))
        try:
            result.begin(_request(statement, caps, run=run, rows=rows))
        except BaseException:
            result.close()
            raise
        return result


class EmbeddedResult(RunningQuery):
    """A query in a worker, which goes back to the pool after the last row and is killed on anything else."""

    timezone = _TIMEZONE

    def __init__(
        self,
        pool: _Pool,
        worker: WorkerProcess,
        slots: threading.BoundedSemaphore,
        caps: Caps,
        query_id: str,
    ) -> None:
        super().__init__(caps, query_id)
        self._pool, self._worker, self._slots = pool, worker, slots
        self._deadline: float | None = None

    def begin(self, request: Mapping[str, Any]) -> None:
        """Send the query and wait for its columns."""
        self._deadline = time.monotonic() + _START_UP.total_seconds()
        self._worker.send(request)
        self._expect(STARTED)
        timeout = self.caps.timeout
        self._deadline = None if timeout is None else time.monotonic() + (timeout + _GRACE).total_seconds()
        columns = json.loads(bytes(self._expect(COLUMNS) or b"[]"))
        self.columns = tuple(Column(name, parse_type(kind)) for name, kind in columns)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        while (body := self._expect(BATCH, DONE)) is not None:
            with pa.ipc.open_file(pa.py_buffer(body)) as file:
                for index in range(file.num_record_batches):
                    yield to_storage_batch(file.get_batch(index), self.columns)

    def _stop(self) -> None:
        self._worker.kill()

    def _give_back(self, reusable: bool) -> None:
        if reusable:
            self._pool.give_back(self._worker)
        else:
            self._pool.replace(self._worker)
        self._slots.release()

    def _expect(self, wanted: bytes, last: bytes | None = None) -> memoryview | None:
        """The body of the next frame, which must be `wanted`; None if it is `last`."""
        kind, body = self._worker.receive(self._deadline)
        if kind == FAILED:
            self._end(reusable=True)  # the worker has dropped the session, and is ready for the next query
            raise failure_of(bytes(body).decode(errors="replace"))
        assert kind in (wanted, last), kind
        return body if kind == wanted else None


class _Pool:
    """Worker processes: those that wait for a query, and all that run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._idle: list[WorkerProcess] = []
        self._all: set[WorkerProcess] = set()
        self._closed = False

    def take(self) -> WorkerProcess:
        """A worker for one query: the one that waited least, or a new one."""
        while True:
            with self._lock:
                if self._closed:
                    raise WarehouseUnavailable("the warehouse is closed")
                if not self._idle:
                    return self._started()
                worker = self._idle.pop()
            if worker.alive and worker.may_read == readable(self._folder):
                return worker
            self._drop(worker)

    def give_back(self, worker: WorkerProcess) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(worker)

    def replace(self, worker: WorkerProcess) -> None:
        """End this one and start another, so that the next query need not wait for that."""
        self._drop(worker)
        with self._lock:
            if not self._closed:
                self._idle.append(self._started())

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            busy = self._all.difference(idle)
        for worker in idle:
            self._drop(worker)
        for worker in busy:  # whoever reads their results closes them
            worker.kill()

    def _started(self) -> WorkerProcess:
        try:
            worker = WorkerProcess(self._folder)
        except OSError as error:
            raise WarehouseUnavailable(
                f"no worker of embedded ClickHouse could be started: {error}"
            ) from error
        self._all.add(worker)
        return worker

    def _drop(self, worker: WorkerProcess) -> None:
        with self._lock:
            self._all.discard(worker)
        worker.close()


def _request(statement: Statement, caps: Caps, *, run: bool, rows: Sequence[RowsFile]) -> dict[str, Any]:
    sql = without_semicolon(statement.sql)
    settings = [f"{name} = {value}" for name, value in own_settings(sql)]
    settings += [f"session_timezone = '{zone}'" for zone in {file.timezone for file in rows}]
    return {
        "sql": sql if run else None,
        "describe": describe_sql(sql),
        "parameters": {name: render_parameter(t, value) for name, (t, value) in statement.parameters.items()},
        "settings": ", ".join(settings),
        "rows": [{"table": file.table, "structure": file.structure, "path": str(file.path)} for file in rows],
        "caps": ", ".join(f"{name} = {value!r}" for name, value in caps.settings().items()),
    }
