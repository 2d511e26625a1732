"""Redis, asked within a short time or not at all: while it is away each process goes by what it has."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable
from typing import Any, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from endpoints.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")

ANSWERS_WITHIN = 0.25  # seconds; a slower Redis counts as none
TRY_AGAIN = 5.0
CONNECTIONS = 32


class Away(Exception):
    """Redis does not answer."""


class Link:
    """The Redis of all replicas that have the same lake and warehouse. Belongs to the event loop."""

    def __init__(self, url: str, settings: Settings) -> None:
        pool: Any = BlockingConnectionPool.from_url(
            url, max_connections=CONNECTIONS, timeout=ANSWERS_WITHIN, retry=Retry(NoBackoff(), 0)
        )
        self.redis: Any = Redis(connection_pool=pool)
        self._pool = pool
        self._namespace = repr((settings.lake_url, settings.clickhouse_url))
        self._away_until = float("-inf")

    async def close(self) -> None:
        await self._pool.disconnect()

    def name(self, kind: str, key: object) -> str:
        """The name of a thing in Redis, which gives away no value."""
        digest = hashlib.sha256(repr((self._namespace, key)).encode()).hexdigest()
        return f"endpoints:{kind}:{digest}"

    async def call(self, command: Awaitable[T]) -> T:
        """What Redis says. Away where it does not, or did not a moment ago."""
        if time.monotonic() < self._away_until:
            if asyncio.iscoroutine(command):
                command.close()
            raise Away
        try:
            async with asyncio.timeout(ANSWERS_WITHIN):
                return await command
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("Redis is away, nothing is shared: %s", type(error).__name__)
            self._away_until = time.monotonic() + TRY_AGAIN
            raise Away from None
