"""Callers who send too much, too slowly, half, or not HTTP at all, against uvicorn over a socket."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator

import httpx
import psutil
import pytest

from serving.protocol import MAX_HEAD_BYTES, BoundedHttp
from tests.serving.conftest import Running, Stand


class Quick(BoundedHttp):
    head_seconds = 0.4
    body_seconds = 0.8
    write_seconds = 0.4


class Server:
    """A service, sockets to it, and a client that shows that it still answers."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.running = Running(stand.app, Quick)
        self.port = int(self.running.url.rpartition(":")[2])
        self.client = httpx.Client(base_url=self.running.url, headers={"X-API-Key": stand.key}, timeout=30)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def send(self, data: bytes) -> bytes:
        """Everything that comes back until the end of the connection."""
        with self.connect() as sock:
            sock.sendall(data)
            return read_all(sock)

    def lives(self) -> None:
        assert self.client.get("/endpoints/numbers/run?n=2").json()["results"] == [[0, "n0"], [1, "n1"]]

    def head(self, target: str = "/endpoints/numbers/run?n=1", method: str = "GET", more: str = "") -> bytes:
        lines = f"{method} {target} HTTP/1.1\r\nHost: x\r\nX-API-Key: {self.stand.key}\r\n{more}"
        return lines.encode("latin-1")


def read_all(sock: socket.socket) -> bytes:
    received = b""
    try:
        while chunk := sock.recv(65536):
            received += chunk
    except ConnectionResetError:
        pass
    return received


def problem_in(received: bytes) -> tuple[int, str]:
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    return int(head.split()[1]), json.loads(body)["code"]


@pytest.fixture(scope="module")
def server(shared_stand: Stand) -> Iterator[Server]:
    server = Server(shared_stand)
    yield server
    server.client.close()
    server.running.stop()


def test_headers_without_end(server: Server) -> None:
    """They are refused early, and never held."""
    before, sent = psutil.Process().memory_info().rss, 0
    with server.connect() as sock:
        sock.sendall(server.head())
        try:
            while sent < 100_000_000:
                sent += sock.send(b"X-Long: " + b"a" * 100_000 + b"\r\n")
        except OSError:
            pass
    assert sent < 100_000_000
    assert psutil.Process().memory_info().rss - before < 50_000_000
    server.lives()


@pytest.mark.parametrize("what", ["header", "headers", "target", "name"])
def test_headers_that_are_too_large(server: Server, what: str) -> None:
    long = "a" * (MAX_HEAD_BYTES + 1)
    sent = {
        "header": server.head(more=f"X-Long: {long}\r\n\r\n"),
        "headers": server.head(more="X-Many: aaaaaaaa\r\n" * 6000 + "\r\n"),
        "target": server.head(f"/endpoints/numbers/run?n=1&x={long}", more="\r\n"),
        "name": server.head(more=f"{long}: x\r\n\r\n"),
    }[what]
    received = server.send(sent)
    assert received == b"" or problem_in(received) == (431, "headers_too_large")
    server.lives()


def test_headers_that_are_large_but_fit(server: Server) -> None:
    with server.connect() as sock:
        sock.sendall(server.head(more="X-Long: " + "a" * 50_000 + "\r\nConnection: close\r\n\r\n"))
        assert read_all(sock).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("part", [b"", b"GET", b"GET / HTTP/1.1\r\nHost: x\r\nX-"])
def test_a_head_that_never_ends(server: Server, part: bytes) -> None:
    assert server.send(part) == b"", "the connection is ended"
    server.lives()


def test_a_byte_now_and_then_wins_no_time(server: Server) -> None:
    with server.connect() as sock:
        try:
            for byte in server.head(more="X-Slow: " + "a" * 400):
                sock.sendall(bytes([byte]))
                time.sleep(0.02)
        except OSError:
            return
        assert read_all(sock) == b""


def test_a_second_head_on_the_same_connection_has_its_own_time(server: Server) -> None:
    with server.connect() as sock:
        for _ in range(2):
            sock.sendall(server.head(more="\r\n"))
            assert b" 200 " in sock.recv(65536)
            time.sleep(0.6)  # idle connections may stay for longer than a head may take
        sock.sendall(server.head())
        assert read_all(sock) == b""


def test_a_body_that_never_ends(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    more = "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    assert server.send(server.head("/endpoints/numbers/run", "POST", more)) == b""
    server.lives()
    assert "Traceback" not in caplog.text


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(server: Server) -> None:
    more = "Content-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n"
    received = server.send(server.head("/endpoints/numbers/run", "POST", more))
    assert received.startswith(b"HTTP/1.1 413 ")
    chunked = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    with server.connect() as sock:
        sock.sendall(server.head("/endpoints/numbers/run", "POST", chunked))
        try:
            for _ in range(2000):
                sock.sendall(b"1000\r\n" + b" " * 4096 + b"\r\n")
        except OSError:
            pass
        assert b" 413 " in read_all(sock)[:20]
    server.lives()


def test_a_caller_who_does_not_read(server: Server) -> None:
    """What is left unread is dropped, and the connection with it."""
    target = "/endpoints/wide/run?n=20000"
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", server.port))
        sock.sendall(server.head(target, more="\r\n"))
        connections = server.running.server.server_state.connections
        server.stand.until(lambda: any(c.transport.get_write_buffer_size() > 0 for c in set(connections)))
        server.stand.until(lambda: all(c.transport.get_write_buffer_size() == 0 for c in set(connections)))
    server.lives()


def test_a_caller_who_reads_slowly_gets_everything(server: Server) -> None:
    whole = server.client.get(
        "/endpoints/wide/run?n=20000&format=csv", headers={"Accept-Encoding": "identity"}
    )
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.settimeout(20)
        sock.connect(("127.0.0.1", server.port))
        sock.sendall(server.head("/endpoints/wide/run?n=20000&format=csv", more="Connection: close\r\n\r\n"))
        received = b""
        while chunk := sock.recv(128 * 1024):
            received += chunk
            time.sleep(0.02)
    assert received.endswith(whole.content[-1000:])


def test_half_closed_sockets_stop_their_query(server: Server) -> None:
    """Who will not hear the answer needs none."""
    ran = server.stand.warehouse.ran
    ran.clear()
    with server.connect() as sock:
        sock.sendall(server.head("/endpoints/slow/run?rest=5", more="\r\n"))
        server.stand.until(lambda: len(ran) == 1)
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b""
    server.lives()
    live = server.stand.services[-1].live
    server.stand.until(lambda: not live._tasks)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(32)),  # TLS where none is spoken
        b"\x00" * 100,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: \x00\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"BREW /coffee HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET http://other.example.com/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ],
)
def test_what_is_not_http_as_it_must_be(server: Server, data: bytes, ran: list) -> None:
    received = server.send(data)
    if received:
        status = int(received.split()[1])
        assert status in (204, 400, 401, 404, 405), received
        assert b"Traceback" not in received
        if status == 400:
            assert problem_in(received) == (400, "malformed_request")
    assert ran == []
    server.lives()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /endpoints/%FF%FE/run HTTP/1.1\r\n", 404),
        (b"GET /endpoints/%/run HTTP/1.1\r\n", 404),
        (b"GET /endpoints/..%2F..%2Fetc/run HTTP/1.1\r\n", 404),
        (b"GET /endpoints/%00/run HTTP/1.1\r\n", 404),
        (b"GET /endpoints/numbers/run?n=%FF HTTP/1.1\r\n", 400),
        (b"GET /endpoints/numbers/run?n=1&%ED%A0%80=1 HTTP/1.1\r\n", 400),
        (b"GET /endpoints/numbers/run?n=1 HTTP/1.1\r\nAccept: \xff\xfe\r\n", 406),
        (b"GET /endpoints/numbers/run?n=1 HTTP/1.1\r\nX-Request-Id: \xff\xfe\r\n", 200),
        (b"GET /endpoints/numbers/run?n=1 HTTP/1.1\r\nIf-None-Match: \xff\xfe\r\n", 200),
        (b"GET /endpoints/numbers/run?n=1 HTTP/1.1\r\nAccept-Encoding: \xff;q=\xfe\r\n", 200),
        (b"GET /endpoints/numbers/run?n=1 HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n", 200),
        (b"POST /endpoints/numbers/run HTTP/1.1\r\nContent-Type: application/json; charset=utf-16\r\n"
         b"Content-Length: 6\r\n", 400),
        (b"POST /endpoints/numbers/run HTTP/1.1\r\nContent-Type: \xff\r\nContent-Length: 6\r\n", 415),
    ],
)  # fmt: skip
def test_invalid_encodings(server: Server, head: bytes, status: int) -> None:
    body = b"\xff\xfe{\x00}\x00" if head.startswith(b"POST") else b""
    key = f"X-API-Key: {server.stand.key}\r\nConnection: close\r\n\r\n"
    received = server.send(head + b"Host: x\r\n" + key.encode() + body)
    assert int(received.split()[1]) == status, received
    server.lives()


def test_a_credential_that_is_no_text(server: Server) -> None:
    for header in (b"X-API-Key: \xff\xfe", b"Authorization: Bearer \xff.\xfe.\xfd", b"Authorization: \xff"):
        received = server.send(
            b"GET /endpoints HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + header + b"\r\n\r\n"
        )
        assert int(received.split()[1]) == 401, received


def test_many_slow_callers_do_not_keep_others_waiting(server: Server) -> None:
    socks = [server.connect() for _ in range(200)]
    for sock in socks:
        sock.sendall(b"GET /endpoints")
    server.lives()
    for sock in socks:
        assert read_all(sock) == b""
        sock.close()
    server.lives()
