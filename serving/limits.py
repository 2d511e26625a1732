"""How often each caller may ask: rates per key, per subject of a token, and per key and endpoint.

A request pays from every rate that applies to it. What starts a ClickHouse query pays from `live` as well,
`refresh=force` and `direct` from `refresh`. Rates are sliding windows: the last window counts for the part of
it that is still in view, so that nobody gets twice the rate across an edge.

With Redis the windows are shared by all processes (the `limits` library's script, one round trip per rate).
While Redis is away, and without it, each process counts by itself, a request for microseconds: n workers
divide every rate by n.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from limits import RateLimitItem, parse
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from starlette.types import Scope

from endpoints.definition import Version
from endpoints.settings import Settings
from serving.auth import Principal
from serving.problems import LiveRateSpent, RateSpent

log = logging.getLogger(__name__)

REDIS_SECONDS = 0.25  # a slower answer counts as none
REDIS_CONNECTIONS = 32
REDIS_AGAIN = 5.0  # seconds between tries while it is away
SWEEP_ABOVE = 10_000  # windows; more are looked through for ended ones, at most once a minute
SWEEP_SECONDS = 60.0
SCOPE = "endpoints.rates"  # where a request carries its account

RawHeaders = tuple[tuple[bytes, bytes], ...]
_Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rate:
    """One rate as it is enforced here: `amount` requests in any `seconds`."""

    name: str
    amount: int
    seconds: int
    item: RateLimitItem  # undivided, for windows that all processes share
    label: bytes  # its name and its policy as headers have them, made once
    policy: bytes


Dues = tuple[tuple[Rate, _Key], ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a caller is in one rate: what is left, and in how many seconds there is more."""

    allowed: bool
    left: int
    wait: float


@dataclass(slots=True)
class Account:
    """What one request has paid, for the headers of its answer."""

    principal: Principal
    lines: list[tuple[Rate, Standing]] = field(default_factory=list)

    def headers(self) -> RawHeaders:
        """`RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10), a member per rate."""
        if not self.lines:
            return ()
        left = b", ".join(
            [b"%b;r=%d;t=%d" % (rate.label, now.left, math.ceil(now.wait)) for rate, now in self.lines]
        )
        return (b"ratelimit", left), (
            b"ratelimit-policy",
            b", ".join([rate.policy for rate, _ in self.lines]),
        )


class Limits:
    """The rates of one process. Belongs to the event loop."""

    def __init__(self, settings: Settings, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._divide = settings, settings.workers
        self._own = Windows(monotonic)
        self._shared = _Shared(settings.redis_url, monotonic) if settings.redis_url else None
        if self._divide > 1 and self._shared is None:
            log.warning(
                "rates are counted per process: %d workers divide them by %d; ENDPOINTS_REDIS_URL shares",
                *(self._divide, self._divide),
            )

    async def close(self) -> None:
        if self._shared is not None:
            await self._shared.close()

    async def admit(self, scope: Scope, principal: Principal) -> Account:
        """Pay for one request, whatever it asks for. Raises RateSpent.

        The account goes into the scope too, from where the outermost layer takes the answer's headers.
        """
        account = scope[SCOPE] = Account(principal)
        for rate, key in self._of_request(principal):
            await self._pay(account, rate, key, RateSpent)
        return account

    async def run(self, scope: Scope, version: Version, *, fresh: bool) -> None:
        """Pay what a run costs besides; `fresh`: with `refresh=force` or `direct`. Raises RateSpent."""
        account: Account = scope[SCOPE]
        for rate, key in self._of_run(account.principal, version):
            await self._pay(account, rate, key, RateSpent)
        if fresh:
            rate = self._rate("refresh", self._settings.refresh_rate)
            await self._pay(account, rate, ("refresh", account.principal.id), RateSpent)

    async def start_live(self, scope: Scope) -> None:
        """Pay for a query that starts in ClickHouse. Raises LiveRateSpent."""
        account: Account = scope[SCOPE]
        rate = self._rate("live", self._settings.live_rate)
        await self._pay(account, rate, ("live", account.principal.id), LiveRateSpent)

    def dues(self, principal: Principal, version: Version) -> Dues:
        """What `admit` and `run` would have a caller pay for a run of what is known."""
        return *self._of_request(principal), *self._of_run(principal, version)

    def pay_at_once(self, scope: Scope, principal: Principal, dues: Dues) -> bool:
        """Pay these, where that takes no waiting: not where Redis counts. RateSpent."""
        if self._shared is not None:
            return False
        account = scope[SCOPE] = Account(principal)
        for rate, key in dues:
            self._count(account, rate, key, RateSpent)
        return True

    def _of_request(self, principal: Principal) -> Iterator[tuple[Rate, _Key]]:
        yield self._rate("key", principal.record.rate or self._settings.rate), ("key", principal.id)
        if principal.subject is not None:
            rate = self._rate("subject", self._settings.subject_rate)
            yield rate, ("subject", principal.id, principal.subject)

    def _of_run(self, principal: Principal, version: Version) -> Iterator[tuple[Rate, _Key]]:
        if version.limits.rate is not None:
            yield self._rate("endpoint", version.limits.rate), ("endpoint", principal.id, version.key)

    def _rate(self, name: str, text: str) -> Rate:
        return _rate(name, text, 1 if self._shared is not None and self._shared.answers else self._divide)

    async def _pay(
        self, account: Account, rate: Rate, key: _Key, problem: type[RateSpent | LiveRateSpent]
    ) -> None:
        standing = None
        if self._shared is not None:
            standing = await self._shared.hit(rate, key)
            if standing is None:
                rate = self._rate(rate.name, str(rate.item))  # divided, now that we count alone
        self._count(account, rate, key, problem, standing)

    def _count(
        self,
        account: Account,
        rate: Rate,
        key: _Key,
        problem: type[RateSpent | LiveRateSpent],
        standing: Standing | None = None,
    ) -> None:
        """Write down what one rate says, by our own windows where nobody else has told."""
        standing = standing or self._own.hit(key, rate.amount, rate.seconds)
        account.lines.append((rate, standing))
        if not standing.allowed:
            raise problem(headers={"Retry-After": str(max(1, math.ceil(standing.wait)))})


@lru_cache(maxsize=4096)
def _rate(name: str, text: str, divide: int) -> Rate:
    item = parse(text)
    amount, seconds, label = max(1, item.amount // divide), item.get_expiry(), f'"{name}"'
    policy = f"{label};q={amount};w={seconds}"
    return Rate(name, amount, seconds, item, label.encode(), policy.encode())


class Windows:
    """Sliding windows in memory: for each key when its window began, the count before, the count in it."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._now = monotonic
        self._windows: dict[_Key, list[float]] = {}  # [begun, before, count, seconds]
        self._swept = monotonic()

    def __len__(self) -> int:
        return len(self._windows)

    def hit(self, key: _Key, amount: int, seconds: int) -> Standing:
        """One request, counted if it is allowed."""
        now = self._now()
        window = self._windows.get(key)
        if window is None or window[3] != seconds:
            if len(self._windows) > SWEEP_ABOVE and now - self._swept > SWEEP_SECONDS:
                self._sweep(now)
            window = self._windows[key] = [now, 0.0, 0.0, seconds]
        gone = now - window[0]
        if gone >= seconds:
            window[1] = window[2] if gone < 2 * seconds else 0.0
            window[2] = 0.0
            window[0] = now - gone % seconds
            gone %= seconds
        in_view = window[1] * (1 - gone / seconds)
        if in_view + window[2] + 1 > amount:
            return Standing(False, 0, _wait(window[1], window[2], gone, amount, seconds))
        window[2] += 1
        return Standing(True, int(amount - in_view - window[2]), seconds - gone)

    def _sweep(self, now: float) -> None:
        self._swept = now
        ended = [key for key, (begun, _, _, seconds) in self._windows.items() if now - begun > 2 * seconds]
        for key in ended:
            del self._windows[key]


def _wait(before: float, count: float, gone: float, amount: int, seconds: int) -> float:
    """Seconds until one more request is allowed: until enough of the older window is out of view."""
    if count + 1 <= amount:
        return (1 - (amount - 1 - count) / before) * seconds - gone
    return seconds - gone + (1 - (amount - 1) / count) * seconds


class _Shared:
    """The same windows in Redis, for all processes. What it cannot tell in time is not asked for a while."""

    def __init__(self, url: str, monotonic: Callable[[], float]) -> None:
        self._now = monotonic
        pool: Any = BlockingConnectionPool.from_url(
            url,
            max_connections=REDIS_CONNECTIONS,
            timeout=REDIS_SECONDS,
            retry=Retry(NoBackoff(), 0),  # the default waits for seconds
        )
        storage = RedisStorage(
            f"async+{url}", implementation="redispy", key_prefix="endpoints", connection_pool=pool
        )
        self._pool = pool
        self._limiter = SlidingWindowCounterRateLimiter(storage)
        self._away_until: float | None = None

    @property
    def answers(self) -> bool:
        return self._away_until is None

    async def hit(self, rate: Rate, key: _Key) -> Standing | None:
        """One request, counted if it is allowed; None while Redis is away."""
        if self._away_until is not None:
            if self._now() < self._away_until:
                return None
            self._away_until = self._now() + REDIS_AGAIN  # one request tries, the others go on
        try:
            async with asyncio.timeout(REDIS_SECONDS):
                allowed = await self._limiter.hit(rate.item, *key)
                stats = await self._limiter.get_window_stats(rate.item, *key)
        except (RedisError, OSError, TimeoutError) as error:
            if self._away_until is None:
                log.warning("Redis is away, rates are counted per process: %s", type(error).__name__)
            self._away_until = self._now() + REDIS_AGAIN
            return None
        if self._away_until is not None:
            log.warning("Redis is back: rates are shared again")
            self._away_until = None
        return Standing(allowed, stats.remaining if allowed else 0, max(0.0, stats.reset_time - time.time()))

    async def close(self) -> None:
        await self._pool.disconnect()
