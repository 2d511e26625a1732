"""ClickHouse's error codes as our few errors: one table for both warehouses."""

from __future__ import annotations

import re
from typing import Final

from endpoints.errors import (
    BadQuery,
    OverLimit,
    QueryCancelled,
    QueryTimeout,
    WarehouseError,
    WarehouseUnavailable,
)

UNKNOWN_TABLE: Final = 60
TIMEOUT_EXCEEDED: Final = 159
TOO_MANY_ROWS_OR_BYTES: Final = 396
QUERY_WAS_CANCELLED: Final = 394

# Any code not named here is the query's own fault: BadQuery.
_KINDS: Final[dict[type[WarehouseError], frozenset[int]]] = {
    QueryTimeout: frozenset({TIMEOUT_EXCEEDED, 160}),  # TOO_SLOW: it would not have made it
    OverLimit: frozenset(
        {
            158,  # TOO_MANY_ROWS
            161,  # TOO_MANY_COLUMNS
            191,  # SET_SIZE_LIMIT_EXCEEDED
            201,  # QUOTA_EXCEEDED
            241,  # MEMORY_LIMIT_EXCEEDED
            290,  # LIMIT_EXCEEDED
            307,  # TOO_MANY_BYTES
            TOO_MANY_ROWS_OR_BYTES,
        }
    ),
    QueryCancelled: frozenset({QUERY_WAS_CANCELLED, 734}),
    WarehouseUnavailable: frozenset(
        {
            3,  # UNEXPECTED_END_OF_FILE
            32,  # ATTEMPT_TO_READ_AFTER_EOF
            173,  # CANNOT_ALLOCATE_MEMORY
            192,  # UNKNOWN_USER
            193,  # WRONG_PASSWORD
            194,  # REQUIRED_PASSWORD
            198,  # DNS_ERROR
            202,  # TOO_MANY_SIMULTANEOUS_QUERIES
            203,  # NO_FREE_CONNECTION
            209,  # SOCKET_TIMEOUT
            210,  # NETWORK_ERROR
            225,  # NO_ZOOKEEPER
            236,  # ABORTED
            243,  # NOT_ENOUGH_SPACE
            279,  # ALL_CONNECTION_TRIES_FAILED
            439,  # CANNOT_SCHEDULE_TASK
            516,  # AUTHENTICATION_FAILED
            745,  # SERVER_OVERLOADED
            999,  # KEEPER_EXCEPTION
        }
    ),
}
_BY_CODE: Final = {code: kind for kind, codes in _KINDS.items() for code in codes}
_CODE: Final = re.compile(r"Code: (\d+)\.")
_NOISE: Final = re.compile(r"Streaming query failed: |Code: \d+\. ?|DB::Exception: ")


def failure(code: int | None, message: str) -> WarehouseError:
    """The error for ClickHouse's `code`. Its message, without stack trace, is for operators only."""
    text = message.partition("Stack trace:")[0].strip()
    return _BY_CODE.get(code or 0, BadQuery)(text, code)


def failure_of(text: str) -> WarehouseError:
    """The error for a text that ClickHouse wrote, as in `Code: 62. DB::Exception: Syntax error…`."""
    codes = _CODE.findall(text)
    return failure(int(codes[0]) if codes else None, _NOISE.sub("", text))
