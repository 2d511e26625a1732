"""uvicorn's HTTP, with bounds on what a connection may hold and for how long.

uvicorn alone keeps the headers of a request however long they are, waits for the rest of one for ever, and
for ever too for a caller who does not read. Proxies bound all this; a service that listens by itself must.

    uvicorn serving.app:create_app --factory --http serving.protocol:BoundedHttp
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving.problems import HttpProblem, response_of

MAX_HEAD_BYTES = 64 * 1024  # of the request line and all headers


class BoundedHttp(HttpToolsProtocol):
    """One connection. A request that is whole in what arrived first, as nearly all are, costs no timer."""

    head_seconds: ClassVar[float] = 20.0
    body_seconds: ClassVar[float] = 60.0
    write_seconds: ClassVar[float] = 60.0  # in which a caller has read nothing

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_bytes = 0
        self._refusal = "malformed_request"
        self._reading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._reading = self.loop.call_later(self.head_seconds, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._reading, self._writing):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return  # refused: the rest is not even looked at
        self._head_bytes += len(data)
        super().data_received(data)
        scope, cycle = self.scope, self.cycle
        if scope is None or "method" not in scope:
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self._refuse("headers_too_large")
            self._wait(self.head_seconds)
        elif cycle is not None and cycle.more_body:  # also where the answer, 413 perhaps, did not wait for it
            self._wait(self.body_seconds)
        else:
            self._head_bytes = 0
            if self._reading is not None:
                self._reading.cancel()
                self._reading = None

    def on_headers_complete(self) -> None:
        if self._head_bytes > MAX_HEAD_BYTES and _size(self.url, self.headers) > MAX_HEAD_BYTES:
            self._refusal = "headers_too_large"
            raise ValueError(self._refusal)  # httptools has uvicorn call send_400_response
        self._head_bytes = 0
        super().on_headers_complete()
        if self._reading is not None:  # of the head: the body has time of its own
            self._reading.cancel()
            self._reading = None

    def send_400_response(self, msg: str) -> None:
        self._refuse(self._refusal)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._writing is None:
            self._require_progress(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def _require_progress(self, left: int) -> None:
        """End the connection of a caller who, when the time is over, has not read any of what is left."""

        def look() -> None:
            still = self.transport.get_write_buffer_size()
            if still < left:
                self._require_progress(still)
            else:
                self.transport.abort()

        self._writing = self.loop.call_later(self.write_seconds, look)

    def _wait(self, seconds: float) -> None:
        """For the rest of a request, from its first part on: a byte now and then does not win more time."""
        if self._reading is None:
            self._reading = self.loop.call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        self._reading = None
        self.transport.abort()

    def _refuse(self, code: str) -> None:
        """A problem for what never became a request, and the end of the connection."""
        response = response_of(HttpProblem(code))
        lines = [STATUS_LINE[response.status_code]]
        lines += [name + b": " + value + b"\r\n" for name, value in response.raw_headers]
        self.transport.write(b"".join([*lines, b"connection: close\r\n\r\n", bytes(response.body)]))
        self.transport.close()


def _size(url: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    return len(url) + sum(len(name) + len(value) for name, value in headers)
