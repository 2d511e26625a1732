"""An application called in this process, without a socket: any bytes, thousands of requests a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson


@dataclass(frozen=True)
class Answered:
    """What came back."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def code(self) -> str | None:
        """The code of a problem; None of an answer."""
        return self.json["code"] if self.status >= 400 else None


class Asgi:
    """A running application."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def ask(
        self,
        path: str,
        query: str | bytes = b"",
        *,
        method: str = "GET",
        headers: Iterable[tuple[bytes, bytes]] = (),
        body: Any = None,
    ) -> Answered:
        """One request; `query` is sent as it is, a `body` that is no bytes as JSON."""
        sent = [(b"host", b"test"), *headers]
        if body is not None and not isinstance(body, bytes):
            body = orjson.dumps(body)
            sent.append((b"content-type", b"application/json"))
        raw = query.encode() if isinstance(query, str) else query
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": quote(path).encode(),
            "root_path": "",
            "query_string": raw,
            "headers": sent,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        requests = iter([{"type": "http.request", "body": body or b"", "more_body": False}])
        messages: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            for request in requests:
                return request
            await asyncio.Event().wait()  # the caller never hangs up
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            messages.append(message)

        await self.app(scope, receive, send)
        whole = b"".join(message.get("body", b"") for message in messages[1:])
        return Answered(messages[0]["status"], dict(messages[0]["headers"]), whole)


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[Asgi]:
    """The application between its start and its end."""
    async with app.router.lifespan_context(app):
        yield Asgi(app)
