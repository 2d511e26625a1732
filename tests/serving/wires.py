"""Services over sockets that may know requests again, beside some that may not."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from typing import Any

from serving.protocol import BoundedHttp
from serving.service import Service
from tests.serving.conftest import Running, Stand

RUN = "/endpoints/usage/run?customer_id=acme&version=2"
CHANGING = {
    b"date",
    b"last-modified",
    b"x-request-id",
    b"server-timing",
    b"ratelimit",
    b"age",
    b"cache-control",
}
Answer = tuple[int, dict[bytes, bytes], bytes]


class Patient(BoundedHttp):
    """A connection that may be idle for a second."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.timeout_keep_alive = 1


@dataclass
class Wire:
    """Services whose connections may know requests, and may not; what the first has answered at once.

    `services` are theirs.
    """

    stand: Stand
    knowing: Running
    other: Running
    at_once: list[Any]
    services: tuple[Service, ...] = ()

    def request(self, head: str = f"GET {RUN} HTTP/1.1", more: str = "", body: bytes = b"") -> bytes:
        lines = f"{head}\r\nHost: x\r\nX-API-Key: {self.stand.key}\r\n{more}\r\n"
        return lines.encode("latin-1") + body

    def connect(self, running: Running | None = None) -> socket.socket:
        port = int((running or self.knowing).url.rpartition(":")[2])
        sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def ask(self, request: bytes, running: Running | None = None) -> Answer:
        with self.connect(running) as sock, sock.makefile("rb") as answers:
            sock.sendall(request)
            return read_answer(answers, bare=request.startswith(b"HEAD"))

    def know(self, request: bytes) -> None:
        """Ask until it is answered at once."""
        for _ in range(5):
            before = len(self.at_once)
            self.ask(request)
            if len(self.at_once) > before:
                return
        raise AssertionError("it is never known")


def read_answer(answers: Any, *, bare: bool = False) -> Answer:
    status = int(answers.readline().split()[1])
    lines = iter(answers.readline, b"\r\n")
    pairs = [line.strip().partition(b": ")[::2] for line in lines]
    headers = {name: value for name, value in pairs if name not in CHANGING}
    assert len(pairs) == len(dict(pairs)), pairs
    body = b"" if bare or status == 304 else answers.read(int(dict(pairs)[b"content-length"]))
    # When a live answer was made, and by which query, are the server's own.
    return status, headers, re.sub(rb'"(last_refresh|execution_id)":"[^"]*"', b"", body)


def spy(part: Any, name: str, answered: list[Any]) -> None:
    """Note the answers, where there are any, that this method of a part of a service gives."""
    method = getattr(part, name)

    def spied(request: Any, scope: Any) -> Any:
        found = method(request, scope)
        if found is not None:
            answered.append(found)
        return found

    setattr(part, name, spied)
