"""A server of today's protocol, for tests: chDB (ClickHouse 26.9) behind the native protocol, revision 54459.

No newer server than 18.16 can be installed here, and 18.16 binds no parameters. This one speaks just enough
for a client to say hello, ping, and run one SELECT at a time; values and types are ClickHouse's own, in its
Native format.
"""

from __future__ import annotations

import re
import socketserver
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

REVISION = 54459  # the first with parameters
BLOCK_INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"


class ModernServer(socketserver.ThreadingTCPServer):
    """Remembers what it was sent: `queries` as (text, settings, parameters as they were on the wire)."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, profile_readonly: int, tls: ssl.SSLContext | None, fixed: bool = False) -> None:
        from chdb.session import Session

        super().__init__(("127.0.0.1", 0), _Connection)
        self.queries: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self.profile_readonly, self.fixed = profile_readonly, fixed
        self._tls = tls
        self.session: Any = Session()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"clickhouse{'s' if self._tls else ''}://localhost:{self.server_address[1]}"

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Runs in the connection's own thread: so does the handshake."""
        if self._tls is None:
            return super().finish_request(request, client_address)
        with suppress(OSError), self._tls.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def columns(self, sql: str, parameters: dict[str, str]) -> list[tuple[bytes, bytes, int, bytes]]:
        """Name, type, number of rows and Native data of each column: one query each, to have them apart."""
        with self._lock:
            described = self._query(f"DESCRIBE ({sql})", "TSVRaw", parameters).decode().splitlines()
            return [self._column(sql, *line.split("\t")[:2], parameters) for line in described]

    def describe(self, sql: str, parameters: dict[str, str]) -> str:
        """A SELECT that gives the rows of a DESCRIBE: its own columns cannot be described."""
        with self._lock:
            lines = self._query(sql, "TSV", parameters).decode().splitlines()
        rows = ", ".join("('{}', '{}')".format(*line.split("\t")[:2]) for line in lines)
        return f"SELECT * FROM values('name String, type String', {rows})"

    def insert(self, sql: str, parameters: dict[str, str]) -> None:
        """An INSERT … SELECT, which a client may send only without `readonly`."""
        assert "readonly" not in sql
        with self._lock:
            self._query(sql, "Null", parameters)

    def _column(
        self, sql: str, name: str, kind: str, parameters: dict[str, str]
    ) -> tuple[bytes, bytes, int, bytes]:
        whole = "SETTINGS max_block_size = 10000000, max_threads = 1"  # one block
        data = self._query(f"SELECT `{name}` FROM ({sql}) {whole}", "Native", parameters)
        if not data:
            return name.encode(), kind.encode(), 0, b""
        native = _Reader(data)
        assert native.varint() == 1
        rows = native.varint()
        return native.string(), native.string(), rows, native.rest()

    def _query(self, sql: str, output: str, parameters: dict[str, str]) -> bytes:
        result: bytes = self.session.query(sql, output, params=parameters).bytes()
        return result


@contextmanager
def modern_server(
    profile_readonly: int = 0, tls: ssl.SSLContext | None = None, fixed: bool = False
) -> Iterator[ModernServer]:
    """A running server. `fixed`: its profile lets no settings be changed but the limits."""
    with ModernServer(profile_readonly, tls, fixed) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class _Connection(socketserver.StreamRequestHandler):
    server: ModernServer

    def handle(self) -> None:
        wire = _Wire(self.rfile)
        while (packet := wire.packet()) is not None:
            if packet == 0:
                self._hello(wire)
            elif packet == 1:
                self._select(wire)
            elif packet == 4:
                self._send(varint(4))
            else:
                raise AssertionError(packet)

    def _hello(self, wire: _Wire) -> None:
        wire.string()
        revision = [wire.varint() for _ in range(3)][-1]
        assert revision >= REVISION
        for _ in range(3):
            wire.string()
        name, zone = string(b"ClickHouse"), string(b"America/New_York")
        version = varint(22) + varint(8) + varint(REVISION)
        self._send(varint(0) + name + version + zone + string(b"modern") + varint(1))
        wire.string()  # the addendum: a quota key

    def _select(self, wire: _Wire) -> None:
        wire.client_info()
        settings = wire.settings()
        wire.string()
        wire.varint()
        wire.varint()
        sql = wire.string().decode()
        parameters = wire.settings()
        assert wire.packet() == 2  # the empty block that ends a query
        wire.string()
        wire.read(len(BLOCK_INFO) + 2)
        self.server.queries.append((sql, settings, parameters))
        try:
            if "name = 'readonly'" in sql:
                sql = f"SELECT '{self.server.profile_readonly}' AS value"
            if self.server.fixed and sql.startswith("SELECT value, readonly"):
                sql = sql.replace("readonly FROM", "toUInt8(1) AS readonly FROM")
            dumped = {name: undump(text) for name, text in parameters.items()}
            if sql.startswith("INSERT"):
                changed = ", ".join(f"{name} = {_setting(value)}" for name, value in settings.items())
                self.server.insert(f"{sql}\nSETTINGS {changed}", dumped)
                self._send(varint(5))
                return
            if sql.startswith("DESCRIBE"):
                sql = self.server.describe(sql, dumped)
            self._answer(self.server.columns(sql, dumped))
        except Exception as error:
            self._fail(str(error))

    def _answer(self, columns: list[tuple[bytes, bytes, int, bytes]]) -> None:
        names = b"".join(string(name) + string(kind) + b"\0" for name, kind, _, _ in columns)
        self._send(varint(1) + string(b"") + BLOCK_INFO + varint(len(columns)) + varint(0) + names)
        data = b"".join(string(name) + string(kind) + b"\0" + values for name, kind, _, values in columns)
        rows = columns[0][2]
        self._send(varint(1) + string(b"") + BLOCK_INFO + varint(len(columns)) + varint(rows) + data)
        self._send(varint(5))

    def _fail(self, message: str) -> None:
        found = re.search(r"Code: (\d+)", message)
        code = int(found.group(1)) if found else 1002
        texts = string(b"DB::Exception") + string(message.encode()) + string(b"")
        self._send(varint(2) + struct.pack("<i", code) + texts + b"\0")

    def _send(self, data: bytes) -> None:
        self.wfile.write(data)


class _Reader:
    """Native data in hand."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, count: int) -> bytes:
        self._at += count
        return self._data[self._at - count : self._at]

    def rest(self) -> bytes:
        return self._data[self._at :]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.read(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    def string(self) -> bytes:
        return self.read(self.varint())


class _Wire(_Reader):
    """What a client sends."""

    def __init__(self, stream: Any) -> None:
        super().__init__(b"")
        self._stream = stream

    def read(self, count: int) -> bytes:
        data: bytes = self._stream.read(count)
        if len(data) < count:
            raise EOFError
        return data

    def packet(self) -> int | None:
        try:
            return self.varint()
        except (EOFError, OSError):
            return None

    def settings(self) -> dict[str, str]:
        found = {}
        while name := self.string():
            self.read(1)
            found[name.decode()] = self.string().decode()
        return found

    def client_info(self) -> None:
        self.string()  # query id
        self.read(1)
        for _ in range(3):
            self.string()
        self.read(8 + 1)  # start time, interface
        for _ in range(3):
            self.string()
        for _ in range(3):
            self.varint()
        self.string()  # quota key
        self.varint()
        self.varint()
        assert self.read(1) == b"\0"  # no trace
        for _ in range(3):
            self.varint()


def _setting(value: str) -> str:
    return value if re.fullmatch(r"[0-9.]+", value) else f"'{value}'"


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def string(data: bytes) -> bytes:
    return varint(len(data)) + data


def undump(text: str) -> str:
    """A string as ClickHouse's `Field::dump` writes it, read back: quoted, with backslash escapes."""
    assert text[0] == text[-1] == "'", text
    escapes = {"b": "\b", "f": "\f", "r": "\r", "n": "\n", "t": "\t", "0": "\0", "a": "\a", "v": "\v"}

    def plain(match: re.Match[str]) -> str:
        return escapes.get(match.group(1), match.group(1))

    assert re.fullmatch(r"(?:[^'\\]|\\.)*", text[1:-1], re.DOTALL), text
    return re.sub(r"\\(.)", plain, text[1:-1], flags=re.DOTALL)
