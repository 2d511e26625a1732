"""What the process says of itself, on stderr: lines of text, or with `ENDPOINTS_LOG=json` lines of JSON.

JSON has a line for every request too. Text has none: at thousands of requests a second they would cost more
than the answers do, and who ran what is in the usage log.

No line holds a key, a token, SQL or the value of a variable. So of an exception that nothing expected only
its kind and its frames are told, of ClickHouse's errors their kind and code, and of a request nothing that
its caller wrote: the route, not the path.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from time import perf_counter
from types import TracebackType
from typing import Any

import orjson
from starlette.types import Message, Scope, Send

from endpoints.errors import Unservable, UnsupportedType, WarehouseError, WarehouseUnavailable
from endpoints.settings import Settings
from serving.limits import SCOPE, Account

OURS = ("serving", "endpoints", "uvicorn")
_METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS"})
_ROUTE = re.compile(
    r"(?P<prefix>/api/projects/[^/]+)?/endpoints/(?P<name>[^/]+)"
    r"(?P<rest>/run|/versions|/openapi\.json|/usage|/materialize)?(?P<id>/[^/]+)?/?"
)
_OTHER_ROUTES = frozenset({"/endpoints", "/openapi.json", "/docs", "/metrics", "/readyz", "/healthz"})

requests = logging.getLogger("serving.requests")

_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


def correlate(request_id: str) -> None:
    """What is logged from here on, by this request and the tasks that it starts, is logged under its id."""
    _request_id.set(request_id)


def told(error: BaseException) -> str:
    """What a log may say of an error: ClickHouse's texts cite the query and the values in it."""
    if isinstance(error, (WarehouseUnavailable, UnsupportedType)):  # these cite neither
        return f"{type(error).__name__}: {error}"
    if isinstance(error, WarehouseError):
        return f"{type(error).__name__} (ClickHouse code {error.clickhouse_code})"
    if isinstance(error, Unservable):
        return error.reason
    return type(error).__name__


def configuration(settings: Settings) -> dict[str, Any]:
    """For `logging.config.dictConfig`: everything to stderr, in the form of the settings."""
    handler = {"class": "logging.StreamHandler", "formatter": "lines", "filters": ["correlated"]}
    level = settings.log_level.upper()
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"correlated": {"()": Correlated}},
        "formatters": {"lines": {"()": JsonLines if settings.log == "json" else TextLines}},
        "handlers": {"stderr": handler},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {name: {"level": level} for name in OURS},
    }


class Correlated(logging.Filter):
    """Gives every record the id of the request that it is of."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "request_id"):
            record.request_id = _request_id.get()
        return True


class TextLines(logging.Formatter):
    """`time level logger [request id] message`, then the frames of an exception."""

    def format(self, record: logging.LogRecord) -> str:
        request_id = getattr(record, "request_id", None)
        about = f" [{request_id}]" if request_id else ""
        line = f"{_at(record)} {record.levelname.lower()} {record.name}{about} {record.getMessage()}"
        return "\n  ".join([line, *_frames(record)])


class JsonLines(logging.Formatter):
    """An object a line: `at`, `level`, `logger`, `message`, `request_id`, fields of its own, `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": _at(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": getattr(record, "request_id", None),
            **getattr(record, "fields", {}),
        }
        if frames := _frames(record):
            line["exception"] = frames
        return orjson.dumps(line, default=str).decode()


def _at(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _frames(record: logging.LogRecord) -> list[str]:
    """The kinds of an exception and of its causes, and where they were raised; never their words."""
    if not record.exc_info or record.exc_info[1] is None:
        return []
    lines: list[str] = []
    error: BaseException | None = record.exc_info[1]
    while error is not None:
        lines.append(told(error))
        lines += _places(error.__traceback__)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return lines


def _places(trace: TracebackType | None) -> list[str]:
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace)]


class RequestLog:
    """A line for every request, written when its last byte has been handed over. `known` tells whether there
    is an endpoint of a name: only such names are written.
    """

    def __init__(self, known: Callable[[str], bool]) -> None:
        self._known = known

    def watch(self, scope: Scope, send: Send) -> Send:
        """A `send` that tells of the answer once it is sent."""
        begun, said = perf_counter(), {"bytes": 0}
        start: Message = {}

        async def watched(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                await send(message)
                return
            said["bytes"] += len(message.get("body", b""))
            await send(message)
            if not message.get("more_body"):
                self._tell(scope, start, perf_counter() - begun, said["bytes"])

        return watched

    def _tell(self, scope: Scope, start: Message, seconds: float, size: int) -> None:
        headers = {name: value.decode("latin-1") for name, value in start.get("headers", ())}
        route, endpoint = self._route(scope["path"])
        account: Account | None = scope.get(SCOPE)
        fields = {
            "method": scope["method"] if scope["method"] in _METHODS else "other",
            "route": route,
            "endpoint": endpoint,
            "version": headers.get(b"x-endpoint-version"),
            "key": account.principal.id if account is not None else None,
            "status": start.get("status"),
            "source": headers.get(b"x-endpoint-source"),
            "reason": headers.get(b"x-endpoint-reason"),
            "live_error": headers.get(b"x-endpoint-live-error"),
            "ms": round(seconds * 1000, 3),
            "bytes": size,
        }
        extra = {"request_id": headers.get(b"x-request-id"), "fields": fields}
        requests.info("%s %s", route, fields["status"], extra=extra)

    def _route(self, path: str) -> tuple[str, str | None]:
        """The route of a path, and the endpoint in it where there is one."""
        if path in _OTHER_ROUTES:
            return path, None
        found = _ROUTE.fullmatch(path)
        if found is None:
            return "other", None
        prefix = "/api/projects/{project}" if found["prefix"] else ""
        route = f"{prefix}/endpoints/{{name}}{found['rest'] or ''}{'/{id}' if found['id'] else ''}"
        name = found["name"].lower()
        return route, name if self._known(name) else None
