"""A ClickHouse server or cluster over the native protocol: `clickhouse://`, `clickhouses://` for TLS.

Connections are kept and reused; each carries one query at a time. One whose query was stopped is closed.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pyarrow as pa

from endpoints.errors import BadQuery, WarehouseUnavailable
from endpoints.types import (
    Column,
    check_storable,
    parse_type,
    render_literal,
    render_parameter,
    to_storage_batch,
)
from endpoints.warehouse.connection import Connection, as_our_errors
from endpoints.warehouse.protocol import Caps, ServerInfo, Statement
from endpoints.warehouse.running import RunningQuery
from endpoints.warehouse.text import describe_sql, own_settings, with_literals, without_semicolon

_QUICK: Final = Caps(timeout=timedelta(seconds=30))
_IDLE_CONNECTIONS: Final = 8
_CLOSED: Final = "the warehouse is closed"
_MICROSECONDS_SINCE: Final = (20, 8)  # the first release that has toUnixTimestamp64Micro


class NativeWarehouse:
    """`clickhouse://user:password@host:9000/database`. Read-only whatever the user's rights are."""

    def __init__(self, url: str) -> None:
        self.url = url  # holds the password: not for logs
        self._pool = _Pool(url)

    def server(self) -> ServerInfo:
        """The server's version, time zone and clock: to the microsecond where it can tell."""
        connection = self._pool.take()
        fine = connection.connection.server_info.version_tuple() >= _MICROSECONDS_SINCE
        self._pool.give_back(connection)
        clock = "toUnixTimestamp64Micro(now64(6))" if fine else "toInt64(toUnixTimestamp(now())) * 1000000"
        [row] = self._rows(f"SELECT version() AS version, timezone() AS timezone, {clock} AS now")
        now = datetime.fromtimestamp(row["now"] // 1_000_000, UTC) + timedelta(
            microseconds=row["now"] % 1_000_000
        )
        return ServerInfo(row["version"].decode(), row["timezone"].decode(), now)

    def describe(self, statement: Statement) -> tuple[Column, ...]:
        """The result's columns, without running the query."""
        rows = self._rows(describe_sql(statement.sql), statement)
        return tuple(Column(_text(row["name"]), parse_type(_text(row["type"]))) for row in rows)

    def run(self, statement: Statement, caps: Caps, *, query_id: str | None = None) -> NativeResult:
        """Start a query on a connection of its own."""
        return self._start(without_semicolon(statement.sql), statement, caps, query_id)

    def write(self, statement: Statement, settings: Mapping[str, str | int]) -> None:
        """Run an INSERT … SELECT of our own making, the one kind of statement that is not read-only.

        The user needs the right to it. Leaving early, by an interrupt say, stops it.
        """
        connection = self._pool.take()
        try:
            with as_our_errors():
                sql, parameters = _bound(connection, statement.sql, statement)
                own = {name: _plain(value) for name, value in own_settings(statement.sql)}
                connection.write(sql, parameters, {**own, **settings})
        except BaseException:
            self._pool.drop(connection)
            raise
        self._pool.give_back(connection)

    def ping(self) -> None:
        """Raise WarehouseUnavailable unless a query can run now."""
        self._rows("SELECT 1")

    def close(self) -> None:
        """Close all connections; queries that still run fail. May be called twice."""
        self._pool.close()

    def _rows(self, sql: str, statement: Statement | None = None) -> list[dict[str, Any]]:
        with self._start(sql, statement or Statement(sql), _QUICK, None) as result:
            return [row for batch in result for row in batch.to_pylist()]

    def _start(self, sql: str, statement: Statement, caps: Caps, query_id: str | None) -> NativeResult:
        """Send `sql` with the statement's values; once more where an idle connection turns out to be dead."""
        connection = self._pool.take()
        while True:
            result = NativeResult(self._pool, connection, caps, query_id or str(uuid.uuid4()))
            try:
                result.begin(sql, statement)
                return result
            except BaseException as error:
                result.close()
                if not isinstance(error, WarehouseUnavailable) or not self._pool.forget_idle(connection):
                    raise
            connection = self._pool.take()


class NativeResult(RunningQuery):
    """A query on a connection, which goes back to the pool after the last row, else is closed."""

    def __init__(self, pool: _Pool, connection: Connection, caps: Caps, query_id: str) -> None:
        super().__init__(caps, query_id)
        self._pool, self._connection = pool, connection
        self._reader: pa.RecordBatchReader | None = None
        self.timezone = connection.timezone

    def begin(self, sql: str, statement: Statement) -> None:
        """Send the query and wait for its header."""
        sql, parameters = _bound(self._connection, sql, statement)
        own = {name: _plain(value) for name, value in own_settings(statement.sql)}
        with as_our_errors():
            self._reader = self._connection.begin(sql, parameters, own, self.caps, query_id=self.query_id)
        self.columns = self._connection.columns
        check_storable(self.columns)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        assert self._reader is not None
        with as_our_errors():
            for batch in self._reader:
                yield to_storage_batch(batch, self.columns)

    def _stop(self) -> None:
        self._connection.cancel()

    def _give_back(self, reusable: bool) -> None:
        if reusable:
            self._pool.give_back(self._connection)
        else:
            self._pool.drop(self._connection)


class _Pool:
    """Connections: those that wait for a query, and all that are open."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._closed = False

    def take(self) -> Connection:
        """The connection that waited least, or a new one."""
        with self._lock:
            if self._closed:
                raise WarehouseUnavailable(_CLOSED)
            if self._idle:
                connection = self._idle.pop()
                self._busy.add(connection)
                return connection
        connection = self._opened()
        with self._lock:
            if not self._closed:
                self._busy.add(connection)
                return connection
        connection.disconnect()
        raise WarehouseUnavailable(_CLOSED)

    def give_back(self, connection: Connection) -> None:
        with self._lock:
            self._busy.discard(connection)
            if not self._closed and len(self._idle) < _IDLE_CONNECTIONS:
                connection.reused = True
                self._idle.append(connection)
                return
        connection.disconnect()

    def drop(self, connection: Connection) -> None:
        with self._lock:
            self._busy.discard(connection)
        connection.cancel()

    def forget_idle(self, dead: Connection) -> bool:
        """Close what waits, since `dead` did not answer. False if `dead` was new: then the server is gone."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.disconnect()
        return dead.reused

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            busy = list(self._busy)
        for connection in idle:
            connection.disconnect()
        for connection in busy:  # their readers disconnect them
            connection.cancel()

    def _opened(self) -> Connection:
        try:
            with as_our_errors():
                return Connection.open(self._url)
        except BadQuery as error:  # an unknown database, say
            raise WarehouseUnavailable(f"ENDPOINTS_CLICKHOUSE_URL: {error}", error.clickhouse_code) from error


def _bound(connection: Connection, sql: str, statement: Statement) -> tuple[str, dict[str, str]]:
    """The text and the parameters to send: older servers bind none, and get literals."""
    values = statement.parameters
    if connection.binds_parameters:
        return sql, {name: render_parameter(t, value) for name, (t, value) in values.items()}
    return with_literals(sql, lambda name: render_literal(*values[name])), {}


def _plain(value: str) -> str:
    """A setting's value without its quotes."""
    return value[1:-1].replace("\\'", "'").replace("\\\\", "\\") if value[:1] == "'" else value


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
