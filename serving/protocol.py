"""uvicorn's HTTP, with bounds on what a connection may hold and for how long.

uvicorn alone keeps the headers of a request however long they are, waits for the rest of one for ever, and
for ever too for a caller who does not read. Proxies bound all this; a service that listens by itself must.

    uvicorn serving.app:create_app --factory --http serving.protocol:BoundedHttp

Requests that the lane knows by their very bytes, and those of a known form, are answered here, before they
are parsed: parsing one, and making of it what ASGI passes on, takes longer than everything that has to be
decided about it.
"""

from __future__ import annotations

import asyncio
import logging
from hashlib import sha256
from typing import Any, ClassVar

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from serving.forms import FORM, Written, written
from serving.lane import WIRE, Sent, lines
from serving.problems import HttpProblem, response_of
from serving.service import Service

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 64 * 1024  # of the request line and all headers
MAX_KNOWN_BYTES = 8 * 1024  # of a request that is known by its bytes

_made: tuple[list[tuple[bytes, bytes]], bytes] = ([], b"")


class BoundedHttp(HttpToolsProtocol):
    """One connection. A request that is whole in what arrived first, as nearly all are, costs no timer."""

    head_seconds: ClassVar[float] = 20.0
    body_seconds: ClassVar[float] = 60.0
    write_seconds: ClassVar[float] = 60.0  # in which a caller has read nothing

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._service: Service | None = self.app_state.get("service")  # None: nothing is known
        self._head_bytes = 0
        self._between = True  # requests: the last one has come whole, and no byte of another
        self._begun = 0  # requests whose first byte was in what arrived last
        self._paid: Scope = {}  # for a request that goes the long way after all
        self._in_turn = False  # a request of a known form waits to be answered, and all that comes behind it
        self._behind: list[bytes] = []
        self._is_last = False
        self._answered_at = float("-inf")
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
        if self._in_turn:
            self._behind.append(data)
            self.flow.pause_reading()
            return
        service, digest = self._service, self._digest(data)
        if service is None or digest is None:
            self._parse(data)
            return
        if self._answer(service, digest):
            return
        request = written(data)
        if request is not None and request.form in service.forms and not self._paid:
            self._begin_turn(service, request, data, digest)
        else:
            self._parse(data, digest, request)

    def _parse(self, data: bytes, digest: bytes | None = None, request: Written | None = None) -> None:
        """The long way, on which a request is learnt by its bytes and by its form."""
        self._head_bytes += len(data)
        self._begun = 0
        super().data_received(data)
        if digest is not None and self._was_one_request():
            self.scope.update({WIRE: digest})  # type: ignore[misc]
            if request is not None:
                self.scope.update({FORM: request.form})  # type: ignore[misc]
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

    def _digest(self, data: bytes) -> bytes | None:
        """Of what may be a whole request that is known. None for anything else.

        Nobody's credential lies in memory longer than its request.
        """
        if self._service is None or not self._between or len(data) > MAX_KNOWN_BYTES:
            return None
        if self.flow.write_paused or self.config.access_log or self.limit_concurrency is not None:
            return None  # uvicorn sees to these
        if not data.startswith(b"GET ") or not data.endswith(b"\r\n\r\n"):
            return None
        if self.cycle is not None and not self.cycle.response_complete:
            return None  # its turn has not come
        return sha256(data).digest()

    def _was_one_request(self) -> bool:
        """What has just been parsed: these bytes alone, on a connection that stays open."""
        cycle = self.cycle
        return self._begun == 1 and self._between and cycle.keep_alive and not self.expect_100_continue

    def _answer(self, service: Service, digest: bytes) -> bool:
        """Answer a request that the lane knows; whether it was one."""
        scope: Scope = {}
        answer = service.lane.at_once(digest, scope)
        if answer is None:
            self._paid = scope
            return False
        self._send(answer)
        return True

    def _begin_turn(self, service: Service, request: Written, data: bytes, digest: bytes) -> None:
        self._in_turn = True
        task = self.loop.create_task(self._take_turn(service, request, data, digest))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _take_turn(self, service: Service, request: Written, data: bytes, digest: bytes) -> None:
        """Answer a request of a known form when it is its turn, and then what has come behind it."""
        answer = None
        await service.turns.take()
        self._in_turn = False
        if self.transport.is_closing():
            return
        scope: Scope = {}
        try:
            answer = service.forms.answer(request, scope)
        except Exception:
            log.exception("a read by its form failed")  # and goes the long way, which answers for it
        if answer is not None:
            self._send(answer)
        else:
            self._paid = scope
            self._parse(data, digest, request)
        if self._is_last:
            super().shutdown()
        if self._behind:
            behind, self._behind = b"".join(self._behind), []
            self.flow.resume_reading()
            self.data_received(behind)

    def shutdown(self) -> None:
        """Close when all is answered that has come whole."""
        if self._in_turn:
            self._is_last = True
        else:
            super().shutdown()

    def _send(self, answer: Sent) -> None:
        """An answer to a request that has not been parsed."""
        state = self.server_state
        head = STATUS_LINE[answer.status] + _lines(state) + answer.lines
        self.transport.write(b"%b\r\n%b" % (head, answer.body))
        state.total_requests += 1
        self._answered_at = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._close_later(self.timeout_keep_alive)
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _close_later(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that is idle. Answers of ours do not start the timer anew: that costs more."""
        left = self._answered_at + self.timeout_keep_alive - self.loop.time()
        if left > 0 or self._in_turn:
            self._close_later(max(left, 0.1))
        else:
            super().timeout_keep_alive_handler()

    def on_message_begin(self) -> None:
        self._between, self._begun = False, self._begun + 1
        super().on_message_begin()
        if self._paid:
            self.scope.update(self._paid)  # type: ignore[typeddict-item]
            self._paid = {}

    def on_message_complete(self) -> None:
        self._between = True
        super().on_message_complete()

    def on_headers_complete(self) -> None:
        if self._head_bytes > MAX_HEAD_BYTES and _size(self.url, self.headers) > MAX_HEAD_BYTES:
            self._refusal = "headers_too_large"
            raise ValueError(self._refusal)  # httptools has uvicorn call send_400_response
        self._head_bytes = 0
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before and self.scope["method"] != "HEAD":
            self.cycle.transport = _Corked(self.transport)  # type: ignore[assignment]
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


class _Corked:
    """A transport for one answer that has a body: its head goes with the first of that, in one call.

    A call is a large part of what a small answer takes.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = None
        self._begun = False

    def write(self, data: bytes) -> None:
        if self._head is not None:
            self._transport.write(self._head + data)
            self._head = None
        elif self._begun or data.startswith(b"HTTP/1.1 100 "):
            self._transport.write(data)
        else:
            self._head, self._begun = data, True

    def close(self) -> None:
        if self._head is not None:
            self.write(b"")
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()


def _lines(state: ServerState) -> bytes:
    """What uvicorn puts into every head, the date: made anew when that is, each second."""
    global _made  # one for all connections
    if _made[0] is not state.default_headers:
        _made = state.default_headers, lines(state.default_headers)
    return _made[1]


def _size(url: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    return len(url) + sum(len(name) + len(value) for name, value in headers)
