"""One connection to a ClickHouse server: clickhouse-driver, with its traps stepped around."""

from __future__ import annotations

import logging
import math
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
from clickhouse_driver import Client, errors
from clickhouse_driver.columns.arrow import datetimecolumn
from clickhouse_driver.columns.arrow import service as arrow_columns
from clickhouse_driver.columns.numpy.base import NumpyColumn
from clickhouse_driver.connection import ServerInfo as DriverServerInfo
from clickhouse_driver.protocol import ServerPacketTypes
from clickhouse_driver.util.escape import escape_chars_map

from endpoints.errors import BadQuery, QueryTimeout, WarehouseUnavailable
from endpoints.types import Column, check_storable, driver_type, parse_type
from endpoints.warehouse.failures import TIMEOUT_EXCEEDED, failure
from endpoints.warehouse.protocol import Caps

_REVISION_WITH_PARAMETERS: Final = 54459
_REVISION_WITH_TEXT_SETTINGS: Final = 54429
# With no word from the server for so long, not even progress, it is gone.
_SILENCE: Final = timedelta(minutes=5)
_GRACE: Final = timedelta(seconds=2)
_HELLO: Final = timedelta(seconds=5)  # for a server that takes a connection to say so
_CANCEL_WAIT: Final = timedelta(milliseconds=500)
# ClickHouse 26.9 remembers which parts of a table a condition matched nowhere, and after a SEMI JOIN, whose
# filter is made while it runs, remembers it of parts that do match: later queries then lack these rows.
_CONDITION_CACHE: Final = "use_query_condition_cache"
_WHY: Final = "after a SEMI JOIN, ClickHouse 26.9 may leave out rows of later queries"

_log = logging.getLogger(__name__)
# It warns once a block for every nested column that it reads without numpy, and with a stack trace of errors
# that it raises all the same.
for _name in ("columns.service", "connection"):
    logging.getLogger(f"clickhouse_driver.{_name}").setLevel(logging.ERROR)


class _ExactDateTime64(datetimecolumn.ArrowDateTime64Column):  # type: ignore[misc]
    """DateTime64 in its own unit: the driver makes it nanoseconds, which wrap silently after 2262."""

    def read_items(self, n_items: int, buf: Any) -> np.ndarray[Any, Any]:
        digits, unit = next((d, u) for d, u in ((3, "ms"), (6, "us"), (9, "ns")) if self.scale <= d)
        ticks = NumpyColumn.read_items(self, n_items, buf)
        factor = 10 ** (digits - self.scale)
        if factor > 1 and np.abs(ticks).max(initial=0) > np.iinfo(np.int64).max // factor:
            raise BadQuery(f"a DateTime64({self.scale}) past the year 2262: convert it to DateTime64(6)")
        times: np.ndarray[Any, Any] = (ticks * factor).view(f"datetime64[{unit}]")
        return times


def _no_tuples(*_: object) -> None:
    """The driver's fast reader of tuples fails on those that hold strings; this sends it to its plain one."""
    raise errors.UnknownTypeError("Tuple")


datetimecolumn.ArrowDateTime64Column = _ExactDateTime64
arrow_columns.create_tuple_column = _no_tuples


class _UtcServerInfo(DriverServerInfo):  # type: ignore[misc]
    """The driver shifts DateTime without a zone to the server's local time. With UTC it stays an instant."""

    def get_timezone(self) -> str:
        return "UTC"


class _Parameter:
    """A rendered value, quoted as the protocol wants it. (The driver would escape a `str` a second time.)"""

    def __init__(self, rendered: str) -> None:
        self._rendered = rendered

    def __str__(self) -> str:
        return "".join(escape_chars_map.get(character, character) for character in self._rendered)


class _ArrowTypes:
    """The driver's `arrow_types`, decided when it asks, which is once the result's header is here."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, name: str) -> pa.DataType | None:
        connection = self._connection
        check_storable(connection.columns)
        column = next(column for column in connection.columns if column.name == name)
        return driver_type(column)


class Connection(Client):  # type: ignore[misc]
    """A connection for one query at a time; only `cancel` may come from another thread.

    `timezone` is the server's; `columns` are the running query's once it has begun; `reused` says that it has
    waited for a query, and so may have died unnoticed.
    """

    timezone: str
    columns: tuple[Column, ...] = ()
    reused = False

    @classmethod
    def open(cls, url: str) -> Connection:
        """Connect. WarehouseUnavailable if that fails, or if the user's profile would ignore limits."""
        connection: Connection = cls.from_url(url)
        link = connection.connection
        link.disable_reconnect = True  # a new link would lose what is set below
        link.connect_timeout = link.send_receive_timeout = _HELLO.total_seconds()  # each query sets its own
        try:
            link.connect()
            connection.timezone = str(link.server_info.timezone)
            link.server_info = link.context.server_info = _in_utc(link.server_info)
            connection._readonly = connection._read_readonly()
            connection._own = connection._own_settings()
        except BaseException:
            connection.disconnect()
            raise
        return connection

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.client_settings.update(use_numpy=True, strings_as_bytes=True)
        self._waited = 0.0
        self._patience: float | None = None
        self._readonly = 0
        self._own: Mapping[str, int] = {}
        self._reading = threading.Lock()
        self._cancelling = False

    @property
    def binds_parameters(self) -> bool:
        return bool(self.connection.server_info.used_revision >= _REVISION_WITH_PARAMETERS)

    def begin(
        self,
        sql: str,
        parameters: Mapping[str, str],
        settings: Mapping[str, str],
        caps: Caps,
        *,
        query_id: str,
    ) -> pa.RecordBatchReader:
        """Send a query and wait for its header. `parameters` are rendered in ClickHouse's own text form."""
        timeout = caps.timeout
        self.columns, self._waited = (), 0.0
        self._patience = None if timeout is None else (timeout + _GRACE).total_seconds()
        silence = _SILENCE if timeout is None else min(_SILENCE, timeout + _GRACE)
        self.connection.socket.settimeout(silence.total_seconds())
        sent = {name: _Parameter(text) for name, text in parameters.items()}
        return self.query_arrow_stream(
            sql,
            params=sent or None,
            query_id=query_id,
            settings={**settings, **self._limits(caps), "server_side_params": bool(sent)},
            arrow_types=_ArrowTypes(self),
        )

    def write(self, sql: str, parameters: Mapping[str, str], settings: Mapping[str, str | int]) -> None:
        """Run a statement that writes, to its end."""
        self.columns, self._waited, self._patience = (), 0.0, None
        self.connection.socket.settimeout(_SILENCE.total_seconds())
        sent = {name: _Parameter(text) for name, text in parameters.items()}
        self.execute(sql, sent or None, settings={**settings, **self._own, "server_side_params": bool(sent)})

    def packet_generator(self) -> Iterator[Any]:
        """The driver's packets; the first block names the result's columns."""
        for packet in super().packet_generator():
            block = getattr(packet, "block", None)
            if not self.columns and packet.type == ServerPacketTypes.DATA and block is not None:
                types = block.columns_with_types
                self.columns = tuple(Column(name, parse_type(kind)) for name, kind in types)
            yield packet

    def receive_packet(self) -> Any:
        """The next packet. QueryTimeout once the server alone has taken longer than the query's limit."""
        with self._reading:
            if self._cancelling:
                raise EOFError("the query was cancelled")
            started = time.monotonic()
            try:
                packet = super().receive_packet()
            except TimeoutError:
                self._check_patience(time.monotonic() - started)
                raise
            if self._cancelling:  # the server sends progress ten times a second: this is soon
                self._end_query()
                raise EOFError("the query was cancelled")
            self._check_patience(time.monotonic() - started)
            return packet

    def cancel(self) -> None:
        """Stop the running query, from any thread. Whoever reads it fails, in half a second at the latest.

        Closing the connection is not enough: ClickHouse 18.16 goes on with an aggregation. The Cancel packet
        has to come from the thread that reads (TLS has one state for both directions), if there is one.
        """
        self._cancelling = True
        if self._reading.acquire(timeout=_CANCEL_WAIT.total_seconds()):
            try:
                self._end_query()
            finally:
                self._reading.release()
        elif (link := self.connection.socket) is not None:
            with suppress(OSError):
                # not SSLSocket.shutdown: it takes the TLS state away from the thread that reads
                socket.socket.shutdown(link, socket.SHUT_RDWR)

    def _end_query(self) -> None:
        """Tell the server to stop, wait until it has, close the connection. Only while holding `_reading`."""
        link = self.connection
        if link.connected and link.is_query_executing:
            with suppress(Exception):  # it is to be closed in any case
                link.socket.settimeout(_CANCEL_WAIT.total_seconds())
                link.send_cancel()
                ends = time.monotonic() + _CANCEL_WAIT.total_seconds()
                while link.is_query_executing and time.monotonic() < ends:
                    if link.receive_packet().type == ServerPacketTypes.EXCEPTION:
                        break
        self.disconnect()

    def _check_patience(self, waited: float) -> None:
        self._waited += waited
        if self._patience is not None and self._waited > self._patience:
            self._end_query()
            raise QueryTimeout("the query did not stop at its timeout", TIMEOUT_EXCEEDED) from None

    def _limits(self, caps: Caps) -> dict[str, Any]:
        """Read-only, and the caps; whole seconds where the server cannot take less."""
        limits: dict[str, Any] = {**self._own, **caps.settings()}
        if self.connection.server_info.used_revision < _REVISION_WITH_TEXT_SETTINGS and caps.timeout:
            limits["max_execution_time"] = math.ceil(caps.timeout.total_seconds())
        # A profile with readonly=2 lets limits be set, and forbids to touch `readonly` itself.
        return limits if self._readonly else {**limits, "readonly": 1}

    def _read_readonly(self) -> int:
        [[value]] = self.execute("SELECT value FROM system.settings WHERE name = 'readonly'")
        if int(value) == 1:
            raise WarehouseUnavailable(
                "the ClickHouse user of ENDPOINTS_CLICKHOUSE_URL has readonly = 1, under which time, memory "
                "and row limits cannot be set: give it readonly = 2, or 0 and only the grant to SELECT"
            )
        return int(value)

    def _own_settings(self) -> Mapping[str, int]:
        """What every query is sent with, where the server knows it and its profile does not forbid it."""
        known = f"FROM system.settings WHERE name = '{_CONDITION_CACHE}'"
        if not self.execute(f"SELECT 1 {known}"):
            return {}  # such a server may lack the column `readonly` as well
        [[value, fixed]] = self.execute(f"SELECT value, readonly {known}")
        if not int(fixed):
            return {_CONDITION_CACHE: 0}
        if int(value):
            _log.warning("%s is on and the user's profile does not let it be set: %s", _CONDITION_CACHE, _WHY)
        return {}


@contextmanager
def as_our_errors() -> Iterator[None]:
    """The driver's errors as ours."""
    try:
        yield
    except (errors.NetworkError, errors.SocketTimeoutError) as error:
        raise WarehouseUnavailable(f"ClickHouse does not answer: {error}", error.code) from error
    except errors.Error as error:
        raise failure(error.code, str(error.message or error).removeprefix("DB::Exception: ")) from error
    except pa.ArrowInvalid as error:  # an integer of more than 76 digits
        raise BadQuery(f"a value has no Arrow form: {error}") from error
    except (EOFError, OSError) as error:
        raise WarehouseUnavailable(f"the connection to ClickHouse broke: {error}") from error


def _in_utc(info: DriverServerInfo) -> _UtcServerInfo:
    utc = _UtcServerInfo.__new__(_UtcServerInfo)
    utc.__dict__.update(info.__dict__)
    return utc
